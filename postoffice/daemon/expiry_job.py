"""The daily removal of expired mail: which maildrops it visits, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountListing, IMaildropMaintenance, IRetention
from postoffice.model import log_events
from postoffice.model.address import Account
from postoffice.model.errors import MaildropLocked, PostOfficeError
from postoffice.model.log_event import tell, tell_failure
from postoffice.model.mail_policy import KeepTimes, MailPolicy

log = Logger("postoffice")

#: Seconds from one run to the next, and from the daemon's start to the first run.
ROUND = 86400.0
FIRST = 900.0
#: The longest pause between two maildrops, and the longest sum of pauses in a run, in seconds.
PAUSE = 1.0
SPREAD = 4 * 3600.0
#: How often one run tries a maildrop that a session holds.
TRIES = 3


@dataclass(frozen=True)
class ExpiryTarget:
    """A maildrop, and how long its mail is kept."""

    account: str
    maildrop: str
    keep: KeepTimes


@dataclass(frozen=True)
class ExpiryResult:
    """What expired from a maildrop, or would; or ``why`` the maildrop was skipped."""

    target: ExpiryTarget
    messages: int = 0
    octets: int = 0
    why: str = ""


class Retention:
    """
    Selects and removes expired mail.

    ``mail_policy`` is the policy of accounts that do not set their own.  ``devices`` returns
    the names of an account's devices.
    """

    def __init__(
        self,
        plugins: Plugins,
        mail_policy: MailPolicy,
        devices: Callable[[Account], Awaitable[Collection[str]]],
    ) -> None:
        self._plugins = plugins
        self._mail_policy = mail_policy
        self._devices = devices

    @property
    def possible(self) -> bool:
        """Whether the store supports it."""
        return IRetention.providedBy(self._plugins.store)

    async def targets(self) -> list[ExpiryTarget]:
        """
        Return the maildrops of all accounts whose mail is not kept forever.

        If a directory cannot list its accounts, they are found by the names of the
        maildrops.  Raises PostOfficeError.
        """
        targets: dict[ExpiryTarget, None] = {}
        seen: set[str] = set()
        async for name in self._names():
            account = None if name in seen else await self._plugins.find(name)
            seen.add(name)
            if account is not None and not (target := await self.target(account)).keep.forever:
                targets[target] = None
        return list(targets)

    async def _names(self) -> AsyncIterator[str]:
        """Yield the names of all accounts, and of maildrops that may be an account's."""
        for directory in self._plugins.directories:
            if IAccountListing.providedBy(directory):
                async for one in directory.each_account():
                    yield one.address
            elif IMaildropMaintenance.providedBy(self._plugins.store):
                for holding in await cast(IMaildropMaintenance, self._plugins.store).holdings():
                    yield holding.name

    async def target(self, account: Account) -> ExpiryTarget:
        """Return the target for one account."""
        mail_policy = account.mail_policy.or_else(self._mail_policy)
        devices = await self._devices(account) if mail_policy.devices == "all" else ()
        return ExpiryTarget(account.address, account.maildrop, mail_policy.kept(devices))

    async def expire(self, target: ExpiryTarget, *, dry: bool = False) -> ExpiryResult:
        """
        Remove expired mail, or with ``dry`` only count it.  Raises PostOfficeError.

        A run takes hours, so this reads the account's policy again: POP3 clients are told
        the current policy (EXPIRE).
        """
        account = await self._plugins.find(target.account)
        if account is None:
            return ExpiryResult(target)
        target = await self.target(account)
        store = cast(IRetention, self._plugins.store)
        return ExpiryResult(target, *await store.expire(target.maildrop, target.keep, dry))


class ExpiryJob:
    """Runs once a day: one maildrop after the other, with pauses, except those in use."""

    def __init__(self, retention: Retention, clock: IReactorTime) -> None:
        self.retention = retention
        self._clock = clock
        self._loop = LoopingCall(self._begin)
        self._loop.clock = clock
        self._first: IDelayedCall | None = None
        self._round: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Schedule the first run."""
        if self.retention.possible:
            self._first = self._clock.callLater(FIRST, self._loop.start, ROUND)

    async def stop(self) -> None:
        """Stop the runs; a removal in progress is finished."""
        self._stopped = True
        if self._first is not None and self._first.active():
            self._first.cancel()
        if self._loop.running:
            self._loop.stop()
        if self._pause is not None:
            self._pause.cancel()
        if self._round is not None:
            await self._round

    def _begin(self) -> Deferred[None]:
        self._round = Deferred.fromCoroutine(self.round())
        return self._round.addErrback(self._failed)

    async def round(self) -> None:
        """Visit all maildrops once; visit those that were in use again later."""
        targets: Sequence[ExpiryTarget] = await self.retention.targets()
        pause = min(PAUSE, SPREAD / max(len(targets), 1))
        messages = octets = 0
        for _ in range(TRIES):
            locked = []
            for target in targets:
                try:
                    gone = await self.retention.expire(target)
                except MaildropLocked:
                    locked.append(target)
                except PostOfficeError as error:
                    why = str(error)
                    tell(log, log_events.EXPIRY_FAILED, account=target.account, why=why)
                else:
                    messages, octets = messages + gone.messages, octets + gone.octets
                    self._tell(gone)
                await self._rest(pause)
            targets = locked
        if messages:
            tell(log, log_events.MAIL_EXPIRED, messages=messages, octets=octets)

    async def _rest(self, seconds: float) -> None:
        if self._stopped:
            raise CancelledError
        self._pause = deferLater(self._clock, seconds)
        await self._pause

    def _tell(self, gone: ExpiryResult) -> None:
        if gone.messages:
            facts = {"messages": gone.messages, "octets": gone.octets}
            tell(log, log_events.MAIL_EXPIRED, account=gone.target.account, **facts)

    def _failed(self, why: Failure) -> None:
        if isinstance(why.value, PostOfficeError):
            tell(log, log_events.EXPIRY_FAILED, why=str(why.value))
        elif not isinstance(why.value, CancelledError):
            tell_failure(log, log_events.FAULT, why, why="removing expired mail failed")
