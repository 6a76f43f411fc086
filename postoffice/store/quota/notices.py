"""Notices: messages to owners about their quotas, and log lines of removed mail."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.interfaces import Executor, IDelivery
from postoffice.model import log_event, log_events
from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.log_event import tell
from postoffice.store import names, vault
from postoffice.store.quota.enforcement import MAKE_ROOM, Notice, QuotaEnforcement, is_due
from postoffice.store.quota.notice_texts import letter
from postoffice.util.shield import shield

log = Logger("postoffice")


class QuotaNotices:
    """Delivers notices by ``begin``, like other mail; ``text`` replaces ours unless it is ""."""

    log = Logger()

    def __init__(
        self,
        executor: Executor,
        enforcement: QuotaEnforcement,
        begin: Callable[[Envelope], Awaitable[IDelivery]],
        hostname: str,
        text: str,
    ) -> None:
        self._executor = executor
        self._enforcement = enforcement
        self._begin = begin
        self._hostname = hostname
        self._text = text
        self._under_way: set[Deferred[None]] = set()

    def tell(self) -> None:
        """Send the notices that enforcement has collected; at most one a day to an owner."""
        for notice in self._enforcement.told():
            if notice.uidls:
                name = names.maildrop_of(notice.folder)
                removed(name, MAKE_ROOM, notice.uidls, notice.octets)
                trimmed(name, notice.trimmed)
            notices = Deferred.fromCoroutine(self._tell(notice))
            self._under_way.add(notices)
            notices.addCallbacks(self._told, self._failed, (notices,), {}, (notices,))

    async def finished(self) -> None:
        """Wait until all notices are delivered."""
        for notices in list(self._under_way):
            await shield(notices)

    def _told(self, _: None, notices: Deferred[None]) -> None:
        self._under_way.discard(notices)

    def _failed(self, why: Failure, notices: Deferred[None]) -> None:
        self._under_way.discard(notices)
        self.log.failure("delivering a quota notice failed", failure=why)

    async def _tell(self, notice: Notice) -> None:
        """Deliver a notice; the quota does not count for it."""
        if not await self._executor.run(is_due, notice.folder, time.time(), notice.level):
            return
        name = names.maildrop_of(notice.folder)
        owner = notice.owner or name
        local, _, domain = owner.rpartition("@")
        address = Address(local, domain)
        recipients = [Recipient(address, Account(owner, name))]
        delivery = await self._begin(Envelope("notice", Client(), recipients=recipients))
        unique = names.new_name("notice")
        text = letter(notice, address, self._hostname, unique, datetime.now(UTC), self._text)
        await delivery.write(b"Return-Path: <>\r\n" + text)
        await delivery.commit()
        if notice.level:
            tell(log, log_events.QUOTA_PASSED, maildrop=name, percent=notice.level)


def removed(maildrop: str, why: str, uidls: Sequence[str], octets: int) -> None:
    """Log which messages were removed without a session."""
    facts = {"maildrop": maildrop, "messages": len(uidls), "octets": octets, "why": why}
    for some in log_event.portions(uidls):
        tell(log, log_events.MAIL_REMOVED, uidls=some, **facts)


def trimmed(maildrop: str, gone: vault.Trimmed) -> None:
    """Log what was deleted from a full vault, if anything."""
    if gone.messages:
        facts = {"messages": gone.messages, "octets": gone.octets}
        tell(log, log_events.VAULT_TRIMMED, maildrop=maildrop, **facts)


def trim(folder: str, vault_limit: int | None, *, anew: bool = False) -> None:
    """Call ``vault.trim``, and log what it deleted, or that it failed."""
    try:
        gone = vault.trim(folder, vault_limit, anew=anew)
    except OSError as error:
        log.error(
            "{folder}: deleting the oldest files of its vault failed: {error}",
            folder=folder,
            error=error,
        )
    else:
        trimmed(names.maildrop_of(folder), gone)
