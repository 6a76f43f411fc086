"""Tells the owner of an account, and the postmaster, that the account is stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.accounts.address_resolution import Resolution
from postoffice.model import log_events
from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope
from postoffice.model.errors import PostOfficeError
from postoffice.model.log_event import tell
from postoffice.outbound.sending_notice import notice
from postoffice.server.reception_context import UNLIMITED, ReceptionContext
from postoffice.util.shield import shield

log = Logger("postoffice")


class SendingNotices:
    """Delivers notices to maildrops here, whatever their quotas say; ``context`` may be changed."""

    def __init__(self, context: ReceptionContext) -> None:
        self.context = context
        self._numbers = count(1)
        self._under_way: set[Deferred[None]] = set()

    def tell(self, account: str, kind: str, facts: Mapping[str, str]) -> None:
        """Deliver a notice; nobody waits for it."""
        work = Deferred.fromCoroutine(self._tell(account, kind, facts))
        self._under_way.add(work)
        work.addErrback(self._failed)
        work.addCallback(lambda _: self._under_way.discard(work))

    async def finished(self) -> None:
        """Wait until all notices are delivered."""
        for work in list(self._under_way):
            await shield(work)

    async def _tell(self, account: str, kind: str, facts: Mapping[str, str]) -> None:
        context, now = self.context, self.context.now()
        owner = Address(*account.rpartition("@")[::2])
        own = f"notice-{next(self._numbers)}"
        envelope = Envelope(own, Client(), utf8=not owner.ascii)
        for address in (owner, context.postmaster):
            try:
                accounts = await self._accounts(address)
                envelope.name(address, [replace(one, quota=UNLIMITED) for one in accounts])
            except PostOfficeError as failure:
                log.warn("{address} gets no notice: {why}", address=str(address), why=str(failure))
        if not envelope.recipients:
            return
        unique = f"{own}.{now:%Y%m%d%H%M%S}@{context.hostname}"
        text = notice(owner, context.postmaster, kind, facts, unique, now)
        delivery = await context.destination.begin(envelope)
        try:
            await delivery.write(envelope.return_path + text)
            await delivery.commit()
        finally:
            delivery.abort()
        to = ",".join(f"<{one.address}>" for one in envelope.recipients)
        tell(log, log_events.SENDING_TOLD, account=account, outcome=kind, to=to)

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
