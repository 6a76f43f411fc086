"""Who may collect what, and on which terms: the avatar of an account that collects its mail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Collection as AnyOf
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from postoffice.interfaces import IMailbox, IMailStore, IRetention, IText
from postoffice.model import log_events
from postoffice.model.address import Account, Quota
from postoffice.model.envelope import SessionInfo
from postoffice.model.errors import NotAllRemoved, PostOfficeError, TemporaryFailure
from postoffice.model.listing import Entry, Listing
from postoffice.model.log_events import tell
from postoffice.model.mail_policy import (
    DEFAULT_POLICY,
    AnnouncedPolicy,
    MailPolicy,
    announced,
    together,
)
from postoffice.server.leases import GiveWay, Gone, LeaseRequest, Leases

log = Logger("postoffice")

#: A quota that limits nothing.
UNLIMITED = Quota(0, 0, "reject")

Sayings = AnyOf[tuple[Quota, MailPolicy]]


async def _nothing_said() -> Sayings:
    return ()


async def _none(_: Account) -> AnyOf[str]:
    return ()


@dataclass(frozen=True)
class MailboxContext:
    """
    What every collection of one post office knows.

    ``serving`` and ``quota`` are whole, and for all that an account's own says
    nothing of; the ``postmaster`` (an address in normal form) has a ``postmaster_quota``.
    ``sayings`` are those of all accounts; ``devices`` names those of one.
    Without ``leases`` nobody waits for a maildrop, or takes one over.
    """

    store: IMailStore
    serving: MailPolicy = DEFAULT_POLICY
    leases: Leases | None = None
    quota: Quota = UNLIMITED
    postmaster: str = ""
    sayings: Callable[[], Awaitable[Sayings]] = _nothing_said
    devices: Callable[[Account], Awaitable[AnyOf[str]]] = _none
    postmaster_quota: Quota = UNLIMITED

    def mailbox(self, session_info: SessionInfo, account: Account) -> IMailbox:
        """For one of our own, who collects."""
        return Mailbox(self, session_info, account)

    async def announced(self) -> AnnouncedPolicy:
        """
        What a client is told before it is known who it is.

        That the postmaster's maildrop makes room is told to him alone: nobody
        else's mail goes for that.
        """
        try:
            said = await self.sayings() or ((self.quota, self.serving),)
        except TemporaryFailure:
            least = announced(self.serving, makes_room=True)
            return replace(least, of_each=frozenset(("EXPIRE", "LOGIN-DELAY")))
        ones = {self._told(quota, serving) for quota, serving in said}
        if any(self._makes_room(quota) for quota, _ in said):
            ones |= {self._told(self.postmaster_quota, serving) for _, serving in said}
        return together(ones)

    def announced_to(self, account: Account) -> AnnouncedPolicy:
        """What its owner is told."""
        is_his = account.address == self.postmaster
        return self._told(self.postmaster_quota if is_his else account.quota, account.serving)

    def whole(self, serving: MailPolicy) -> MailPolicy:
        """What is said, and what is said by default; as far as this store can do it."""
        whole = serving.or_else(self.serving)
        if IRetention.providedBy(self.store):
            return whole
        at_once = whole.delete_on_collect and whole.devices == "any"
        return replace(whole, keep=0, keep_collected=0, delete_on_collect=at_once)

    def _told(self, quota: Quota, serving: MailPolicy) -> AnnouncedPolicy:
        return announced(self.whole(serving), makes_room=self._makes_room(quota))

    def _makes_room(self, quota: Quota) -> bool:
        whole = quota.or_else(self.quota)
        return whole.limited and whole.over == "make-room"


@implementer(IMailbox)
class Mailbox:
    """One account's mail, in one session."""

    def __init__(
        self, mailbox_context: MailboxContext, session_info: SessionInfo, account: Account
    ) -> None:
        self.account = account
        self.device = account.device
        self.serving = mailbox_context.whole(account.serving)
        self.announced = mailbox_context.announced_to(account)
        self._mailbox_context = mailbox_context
        self._session_info = session_info
        self._maildrop = mailbox_context.store.maildrop(account.maildrop)
        self._leases = mailbox_context.leases
        self._claim: LeaseRequest | None = None
        self.deleted: list[Entry] = []  # what this session has removed, for the log

    async def open(
        self, login_delay: float = 0, give_way: GiveWay | None = None, gone: Gone | None = None
    ) -> Listing:
        delay = max(login_delay, self.serving.login_delay or 0)
        if self._leases is None:
            return await self._maildrop.open(delay)
        self._claim = LeaseRequest(
            self.account.maildrop, self.serving, give_way or _no, gone or _no
        )
        return await self._leases.take(self._claim, partial(self._maildrop.open, delay))

    def fetch(self, entry: Entry) -> Awaitable[IText]:
        return self._maildrop.fetch(entry)

    async def remove(self, entries: Sequence[Entry], session: str = "") -> None:
        await self._maildrop.remove(entries, session)

    async def update(
        self, removed: Sequence[Entry], collected: Sequence[Entry], session: str
    ) -> int:
        serving = self.serving
        if serving.delete_on_collect and serving.devices == "any":
            return await self._remove([*removed, *collected], session)
        # Both have begun before we wait: a client that said QUIT may be gone while we do.
        noting = Deferred.fromCoroutine(self._note(collected))
        gone = await self._remove(removed, session)
        by_all = await noting
        if not serving.delete_on_collect:
            return gone
        try:
            return gone + await self._remove(by_all, session)
        except TemporaryFailure as failure:
            more = failure.removed if isinstance(failure, NotAllRemoved) else 0
            raise NotAllRemoved(str(failure), gone + more) from failure

    async def _remove(self, entries: Sequence[Entry], session: str) -> int:
        if entries:
            before = len(self.deleted)
            self.deleted += entries  # also where nobody waits: it goes on
            try:
                await self._maildrop.remove(entries, session)
            except PostOfficeError as failure:
                gone = failure.removed if isinstance(failure, NotAllRemoved) else 0
                del self.deleted[before + gone :]
                raise
        return len(entries)

    async def _note(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Remember what was collected; what all have of it who shall."""
        if not entries or not IRetention.providedBy(self._mailbox_context.store):
            return ()
        every: frozenset[str] | None = None
        try:
            if self.serving.devices == "all":
                every = frozenset(await self._mailbox_context.devices(self.account))
            return await cast(IRetention, self._mailbox_context.store).collect(
                self.account.maildrop, entries, self.account.device, every
            )
        except TemporaryFailure as failure:  # what is deleted goes, and this stays longer
            account, why = self.account.address, str(failure)
            tell(log, log_events.NOT_REMEMBERED, account=account, why=why)
            return ()

    def release(self) -> None:
        self._maildrop.release()
        if self._leases is not None and self._claim is not None:
            self._leases.give_back(self._claim)


def _no() -> bool:
    """Of whom nobody knows how to end it, or whether it is still there."""
    return False
