"""
Sending limits: how many recipients in other domains an account may write to.

With a stolen password spam is sent, until other servers refuse all our mail.  Two things stop it: a
limit of recipients in a time, and a hold once other servers refuse many recipients.  Forwards and
messages about messages are not counted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.interfaces import Executor
from postoffice.model import log_events
from postoffice.model.envelope import Envelope
from postoffice.model.errors import PermanentFailure, TemporaryFailure
from postoffice.model.log_event import tell
from postoffice.model.reply import Reply
from postoffice.outbound.sending_notice import HELD, OVER
from postoffice.outbound.sending_rate import NO_RULES, Rates, SendingRules
from postoffice.queue.sending_db import SENDING, CountRequest, CountResult, SendingDB, SendingState
from postoffice.queue.shares import QueueShares
from postoffice.util.batched_calls import BatchedCalls
from postoffice.util.periodic import Periodic
from postoffice.util.serial_executor import SerialExecutor
from postoffice.util.shield import start_work

log = Logger("postoffice")

#: Seconds between two sweeps.
SWEEPING = 3600.0
#: Messages that are counted in one transaction at most.
TOGETHER = 64
#: Seconds until recipients that other servers took are counted; refused ones are counted at once.
SOON = 1.0
#: Tells the owner of an account, and the postmaster: account, kind (OVER, HELD), and facts; see
#: ``outbound.sending_notice``.
Tell = Callable[[str, str, Mapping[str, str]], None]


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted for one message, so that it can be given back."""

    account: str
    device: str
    recipients: int
    rates: Rates
    at: float


def _tell_nobody(account: str, kind: str, facts: Mapping[str, str]) -> None:
    """Do nothing."""


class SendingLimits:
    """
    Counts what accounts send, in a file in the folder ``state``.

    ``shares`` is how much of the queue they have now.
    """

    def __init__(
        self,
        state: str,
        executor: Executor,
        clock: IReactorTime,
        rules: SendingRules = NO_RULES,
        tell_owner: Tell = _tell_nobody,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.rules = rules  # a reload changes them
        self.tell_owner = tell_owner
        self.shares = QueueShares()
        self._database = SendingDB(os.path.join(state, SENDING))
        self._executor = SerialExecutor(executor)
        self._clock = clock
        self._counting: IDelayedCall | None = None
        self._sent: dict[str, int] = {}  # recipients that were taken, to be counted soon
        self._taking = BatchedCalls(self._executor, self._database.take, TOGETHER)
        self._trying = BatchedCalls(self._executor, self._try_all, TOGETHER)
        self._now = now
        self._sweeping = Periodic(clock, SWEEPING, self._sweep, self._failed)

    async def start(self) -> None:
        """Open the file, if it is not open.  Raises StartupError."""
        if not self._sweeping.running:
            await self._executor.run(self._database.open)
            self._sweeping.start()

    async def stop(self) -> None:
        """Wait for what is being counted, and close the file; it may be opened again."""
        if self._sweeping.running:
            await self._sweeping.stop()
            self._count_sent()
            await self._trying.idle()
            await self._executor.run(self._database.close)

    async def take(self, envelope: Envelope) -> Counted | None:
        """
        Count a message of a user who has logged in; set ``envelope.held`` if it has to be held.

        Returns what was counted.  Raises PostOfficeError if the message is refused.
        """
        many = sum(not one.forwarder for one in envelope.queued)
        if not many or not envelope.login:
            return None
        account, device, rates = envelope.login, envelope.device, self.rules.of(envelope.login)
        taken = await self._taking.add(CountRequest(account, device, many, rates, self._now()))
        if taken.held:
            envelope.held = taken.held
        elif taken.rate is not None:
            await self._over(envelope, many, taken, rates.hold)
        return Counted(account, device, many, rates, taken.at)

    async def _over(self, envelope: Envelope, many: int, taken: CountResult, hold: bool) -> None:
        """A message exceeds a limit: hold or refuse it, and send a notice once a day."""
        why = f"over the limit of {taken.rate}"
        outcome = "held" if hold else "refused"
        self._log(envelope.login, envelope.device, why, outcome)
        facts = {
            "limit": str(taken.rate),
            "device": envelope.device,
            "recipients": str(many),
            "outcome": outcome,
        }
        await self._tell(envelope.login, OVER, facts)
        if hold:
            envelope.held = why
        elif taken.wait is None:
            text = f"Your mail has {many} recipients; you may send to {taken.rate}"
            raise PermanentFailure(why, Reply(550, "5.7.1", text))
        else:
            minutes = max(round(taken.wait / 60), 1)
            text = f"You may send to {taken.rate}; send this mail again in {minutes} min"
            raise TemporaryFailure(why, Reply(450, "4.7.1", text))

    def give_back(self, counted: Counted) -> None:
        """Undo the count: the message was not accepted after all."""
        one = counted
        self._work(
            self._executor.run(
                self._database.give_back,
                one.account,
                one.device,
                one.recipients,
                one.rates,
                one.at,
            )
        )

    def tried(self, login: str, sent: int, refused: int) -> None:
        """Count so many recipients of an account that other servers accepted and refused."""
        if login and sent + refused:
            if self._counting is None:
                self._counting = self._clock.callLater(SOON, self._count_sent)
            self._sent[login] = self._sent.get(login, 0) + sent
            if refused:
                self._count(login, self._sent.pop(login), refused)

    def _count_sent(self) -> None:
        """Count what other servers took since the last time."""
        counting, self._counting = self._counting, None
        if counting is not None and counting.active():
            counting.cancel()
        sent, self._sent = self._sent, {}
        for login, many in sent.items():
            self._count(login, many, 0)

    def _count(self, login: str, sent: int, refused: int) -> None:
        counting = self._trying.add((login, sent, refused))
        counting.addCallbacks(self._stopped, self._failed, (login,))

    def _try_all(self, tries: Sequence[tuple[str, int, int]]) -> list[str]:
        return self._database.tried(tries, self._now())

    def _stopped(self, why: str, login: str) -> None:
        """Log, and tell, that an account is held now, if ``why`` is not empty."""
        if why:
            self._log(login, "", why, "held")
            self._work(self._tell(login, HELD, {"why": why}))

    async def state(self, login: str) -> SendingState:
        """Return how an account sends.  Raises TemporaryFailure."""
        rates = self.rules.of(login)
        return await self._executor.run(self._database.state, login, rates, self._now())

    async def release(self, login: str) -> bool:
        """Let an account send again; return whether it was held.  Raises TemporaryFailure."""
        return await self._executor.run(self._database.release, login)

    def _log(self, account: str, device: str, why: str, outcome: str) -> None:
        tell(log, log_events.SENDING_STOPPED,
             account=account, device=device, why=why, outcome=outcome)  # fmt: skip

    async def _tell(self, account: str, kind: str, facts: Mapping[str, str]) -> None:
        """Tell the owner and the postmaster, once a day."""
        if await self._executor.run(self._database.tells, account, kind, self._now()):
            self.tell_owner(account, kind, facts)

    def _work(self, work: Awaitable[object]) -> None:
        """Start work for which nobody waits."""
        start_work(work).addErrback(self._failed)

    async def _sweep(self) -> bool:
        return await self._executor.run(self._database.sweep, self._now())

    def _failed(self, why: Failure) -> None:
        log.failure("counting what accounts send failed", failure=why)
