"""The POP3 avatar: an account's maildrop, opened under its mail policy for one session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Collection as AnyOf
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from postoffice.interfaces import IMailbox, IMailStore, IRetention, IText
from postoffice.model import log_events
from postoffice.model.address import UNLIMITED, Account, Quota
from postoffice.model.envelope import SessionInfo
from postoffice.model.errors import NotAllRemoved, PostOfficeError, TemporaryFailure
from postoffice.model.listing import Entry, Listing
from postoffice.model.log_event import tell
from postoffice.model.mail_policy import (
    DEFAULT_POLICY,
    AnnouncedPolicy,
    MailPolicy,
    announced,
    together,
)
from postoffice.moved import OldMembers
from postoffice.server.leases import GiveWay, Gone, LeaseRequest, Leases
from postoffice.util.cache import Cache

log = Logger("postoffice")

#: For how many pairs of quota and mail policy it is remembered what CAPA announces.
REMEMBERED = 1000

AccountSettings = AnyOf[tuple[Quota, MailPolicy]]


async def _no_settings() -> AccountSettings:
    return ()


async def _no_devices(_: Account) -> AnyOf[str]:
    return ()


@dataclass(frozen=True)
class MailboxContext:
    """
    What all mailboxes of one daemon share.

    ``mail_policy`` and ``quota`` are complete: they give the defaults for what an
    account does not set.  The ``postmaster`` (an address in normal form) has the
    ``postmaster_quota``.  ``account_settings`` returns the quota and mail policy of all
    accounts; ``devices`` returns the names of one account's devices.  Without
    ``leases`` no login waits for a maildrop or takes one over.
    """

    store: IMailStore
    mail_policy: MailPolicy = DEFAULT_POLICY
    leases: Leases | None = None
    quota: Quota = UNLIMITED
    postmaster: str = ""
    account_settings: Callable[[], Awaitable[AccountSettings]] = _no_settings
    devices: Callable[[Account], Awaitable[AnyOf[str]]] = _no_devices
    postmaster_quota: Quota = UNLIMITED
    _announced: Cache[tuple[Quota, MailPolicy], AnnouncedPolicy] = field(
        default_factory=lambda: Cache(REMEMBERED), compare=False, repr=False
    )

    def mailbox(self, session_info: SessionInfo, account: Account) -> IMailbox:
        """The avatar of a client that has logged in to this account."""
        return Mailbox(self, session_info, account)

    async def announced(self) -> AnnouncedPolicy:
        """
        What CAPA says before a login, for all accounts together.

        That ``make-room`` holds for the postmaster's maildrop is announced only
        after the postmaster's login: no other account loses mail by it.
        """
        try:
            said = await self.account_settings() or ((self.quota, self.mail_policy),)
        except TemporaryFailure:
            least = announced(self.mail_policy, makes_room=True)
            return replace(least, of_each=frozenset(("EXPIRE", "LOGIN-DELAY")))
        ones = {self._told(quota, mail_policy) for quota, mail_policy in said}
        if any(self._makes_room(quota) for quota, _ in said):
            ones |= {self._told(self.postmaster_quota, mail_policy) for _, mail_policy in said}
        return together(ones)

    def announced_to(self, account: Account) -> AnnouncedPolicy:
        """What CAPA says after a login to this account."""
        is_postmaster = account.address == self.postmaster
        quota = self.postmaster_quota if is_postmaster else account.quota
        return self._told(quota, account.mail_policy)

    def whole(self, mail_policy: MailPolicy) -> MailPolicy:
        """A policy completed with the defaults, without what this store cannot do."""
        whole = mail_policy.or_else(self.mail_policy)
        if IRetention.providedBy(self.store):
            return whole
        at_once = whole.delete_on_collect and whole.devices == "any"
        return replace(whole, keep=0, keep_collected=0, delete_on_collect=at_once)

    def _told(self, quota: Quota, mail_policy: MailPolicy) -> AnnouncedPolicy:
        told = self._announced.get((quota, mail_policy))
        if told is None:
            told = announced(self.whole(mail_policy), makes_room=self._makes_room(quota))
            self._announced.set((quota, mail_policy), told)
        return told

    def _makes_room(self, quota: Quota) -> bool:
        whole = quota.or_else(self.quota)
        return whole.limited and whole.over == "make-room"


@implementer(IMailbox)
class Mailbox(OldMembers):
    """One account's mail, in one session."""

    def __init__(
        self, mailbox_context: MailboxContext, session_info: SessionInfo, account: Account
    ) -> None:
        self.account = account
        self.device = account.device
        self.mail_policy = mailbox_context.whole(account.mail_policy)
        self.announced = mailbox_context.announced_to(account)
        self._mailbox_context = mailbox_context
        self._session_info = session_info
        self._maildrop = mailbox_context.store.maildrop(account.maildrop)
        self._leases = mailbox_context.leases
        self._request: LeaseRequest | None = None
        self.deleted: Sequence[Entry] = ()  # what this session has removed, for the log

    async def open(
        self, login_delay: float = 0, give_way: GiveWay | None = None, gone: Gone | None = None
    ) -> Listing:
        delay = max(login_delay, self.mail_policy.login_delay or 0)
        if self._leases is None:
            return await self._maildrop.open(delay)
        self._request = LeaseRequest(
            self.account.maildrop, self.mail_policy, give_way or _no, gone or _no
        )
        return await self._leases.take(self._request, partial(self._maildrop.open, delay))

    def fetch(self, entry: Entry) -> Awaitable[IText]:
        return self._maildrop.fetch(entry)

    async def remove(self, entries: Sequence[Entry], session: str = "") -> None:
        await self._maildrop.remove(entries, session)

    async def update(
        self, removed: Sequence[Entry], collected: Sequence[Entry], session: str
    ) -> int:
        mail_policy = self.mail_policy
        if mail_policy.delete_on_collect and mail_policy.devices == "any":
            return await self._remove([*removed, *collected], session)
        if not collected:
            return await self._remove(removed, session)
        # Start both before waiting: the client may disconnect after QUIT, which cancels us.
        noting = Deferred.fromCoroutine(self._note(collected))
        gone = await self._remove(removed, session)
        by_all = await noting
        if not mail_policy.delete_on_collect:
            return gone
        try:
            return gone + await self._remove(by_all, session)
        except TemporaryFailure as failure:
            more = failure.removed if isinstance(failure, NotAllRemoved) else 0
            raise NotAllRemoved(str(failure), gone + more) from failure

    async def _remove(self, entries: Sequence[Entry], session: str) -> int:
        if entries:
            before = len(self.deleted)
            # before: the removal goes on if this coroutine is cancelled
            self.deleted = [*self.deleted, *entries] if before else entries
            try:
                await self._maildrop.remove(entries, session)
            except PostOfficeError as failure:
                gone = failure.removed if isinstance(failure, NotAllRemoved) else 0
                self.deleted = self.deleted[: before + gone]
                raise
        return len(entries)

    async def _note(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Record what was fetched; return the messages that every required device has fetched."""
        if not entries or not IRetention.providedBy(self._mailbox_context.store):
            return ()
        every: frozenset[str] | None = None
        try:
            if self.mail_policy.devices == "all":
                every = frozenset(await self._mailbox_context.devices(self.account))
            return await cast(IRetention, self._mailbox_context.store).collect(
                self.account.maildrop, entries, self.account.device, every
            )
        except TemporaryFailure as failure:  # deleted messages still go; the others stay longer
            account, why = self.account.address, str(failure)
            tell(log, log_events.NOT_REMEMBERED, account=account, why=why)
            return ()

    def release(self) -> None:
        self._maildrop.release()
        if self._leases is not None and self._request is not None:
            self._leases.give_back(self._request)


def _no() -> bool:
    """The default for ``give_way`` and ``gone``: the session cannot be ended, and is not gone."""
    return False
