"""Tells owners and the postmaster by mail: an account is stopped, a smarthost refuses us."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.accounts.address_resolution import Resolution
from postoffice.model import log_events
from postoffice.model.address import UNLIMITED, Account, Address
from postoffice.model.envelope import Client, Envelope
from postoffice.model.errors import PostOfficeError
from postoffice.model.hop import PeerReply
from postoffice.model.log_event import tell
from postoffice.outbound.sending_notice import login_notice, notice
from postoffice.server.reception_context import ReceptionContext
from postoffice.util.cache import Cache
from postoffice.util.shield import shield

log = Logger("postoffice")


#: Seconds between two notices that the same smarthost refuses us; and how many are remembered.
AGAIN, REMEMBERED = 86400.0, 1000


class SendingNotices:
    """
    Delivers notices to maildrops here, whatever their quotas say.

    ``context`` may be changed.  ``seconds`` is a clock.
    """

    def __init__(
        self, context: ReceptionContext, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self.context = context
        self._told: Cache[str, bool] = Cache(REMEMBERED, seconds)
        self._numbers = count(1)
        self._under_way: set[Deferred[None]] = set()

    def tell(self, account: str, kind: str, facts: Mapping[str, str]) -> None:
        """Deliver a notice; nobody waits for it."""
        self._begin(Deferred.fromCoroutine(self._tell(account, kind, facts)))

    def login_refused(self, smarthost: str, reply: PeerReply) -> None:
        """Log that a smarthost refuses our login, and tell the postmaster, once a day at most."""
        said = " ".join(filter(None, (str(reply.code or ""), reply.status, reply.text)))
        tell(log, log_events.SMARTHOST_LOGIN_REFUSED, to=smarthost, reply=said)
        if smarthost not in self._told:
            self._told.set(smarthost, True, AGAIN)
            self._begin(Deferred.fromCoroutine(self._tell_postmaster(smarthost, said)))

    def _begin(self, work: Deferred[None]) -> None:
        self._under_way.add(work)
        work.addErrback(self._failed)
        work.addCallback(lambda _: self._under_way.discard(work))

    async def finished(self) -> None:
        """Wait until all notices are delivered."""
        for work in list(self._under_way):
            await shield(work)

    async def _tell(self, account: str, kind: str, facts: Mapping[str, str]) -> None:
        owner, postmaster = Address(*account.rpartition("@")[::2]), self.context.postmaster

        def text(unique: str, now: datetime) -> bytes:
            return notice(owner, postmaster, kind, facts, unique, now)

        if to := await self._deliver((owner, postmaster), text):
            tell(log, log_events.SENDING_TOLD, account=account, outcome=kind, to=to)

    async def _tell_postmaster(self, smarthost: str, said: str) -> None:
        postmaster = self.context.postmaster

        def text(unique: str, now: datetime) -> bytes:
            return login_notice(smarthost, said, postmaster, unique, now)

        await self._deliver((postmaster,), text)

    async def _deliver(
        self, addresses: Sequence[Address], text: Callable[[str, datetime], bytes]
    ) -> str:
        """Deliver a message, made from its unique name and the time; return who got it."""
        context, now = self.context, self.context.now()
        own = f"notice-{next(self._numbers)}"
        envelope = Envelope(own, Client(), utf8=not all(one.ascii for one in addresses))
        for address in addresses:
            try:
                accounts = await self._accounts(address)
                envelope.add_recipients(
                    address, [replace(one, quota=UNLIMITED) for one in accounts]
                )
            except PostOfficeError as failure:
                log.warn(
                    "a notice to {address} failed: {why}", address=str(address), why=str(failure)
                )
        if not envelope.recipients:
            return ""
        unique = f"{own}.{now:%Y%m%d%H%M%S}@{context.hostname}"
        delivery = await context.destination.begin(envelope)
        try:
            await delivery.write(envelope.return_path + text(unique, now))
            await delivery.commit()
        finally:
            delivery.abort()
        return ",".join(f"<{one.address}>" for one in envelope.recipients)

    async def _accounts(self, address: Address) -> Sequence[Account]:
        """Where mail for an address goes here; its own maildrop if all of it goes elsewhere."""
        accounts: Sequence[Account] = ()
        for forwards in (True, False):
            asked = self.context.resolve(address, forwards=forwards)
            found = asked if isinstance(asked, Resolution) else await asked
            accounts = accounts or found.accounts
        return accounts

    def _failed(self, why: Failure) -> None:
        log.failure("delivering a notice about sending failed", failure=why)
