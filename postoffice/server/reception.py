"""The SMTP avatars: Reception for mail from other servers, Submission for our own users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import format_datetime
from functools import cached_property, lru_cache, partial

from twisted.logger import Logger
from zope.interface import implementer

from postoffice.accounts.address_resolution import Refused, Resolution, resolve, run
from postoffice.accounts.directories import look_up_of
from postoffice.interfaces import (
    IAccountDirectory,
    IDelivery,
    IDestination,
    IReception,
)
from postoffice.model import log_events
from postoffice.model.address import Account, Address, NotAnAddress, Quota, normal_domain
from postoffice.model.alias import Found
from postoffice.model.envelope import Envelope, Notify, Recipient, SessionInfo
from postoffice.model.errors import MaildropFull
from postoffice.model.log_event import tell
from postoffice.model.queued import QueuedRecipient
from postoffice.model.reply import (
    FOREIGN_FROM,
    MAY_NOT_SEND,
    NO_FORWARDING,
    NO_RELAY,
    NO_SUCH_DOMAIN,
    NO_WAY_OUT,
    NOT_YOUR_ADDRESS,
    RECIPIENT_OK,
    SENDER_OK,
    TOO_MANY_RECIPIENTS,
    UNKNOWN_RECIPIENT,
    Reply,
)
from postoffice.model.route import Refuse
from postoffice.outbound.dkim import Signer
from postoffice.outbound.routing import Router
from postoffice.outbound.srs import is_rewritten
from postoffice.policy.chain import PolicyChain
from postoffice.queue.sending_limits import SendingLimits
from postoffice.server.deliveries import CompletedDelivery, DiscardedDelivery
from postoffice.server.dkim_keys import DKIMKeys
from postoffice.server.forward_senders import ForwardSenders
from postoffice.server.message_log import log_followed
from postoffice.smtp.author import MOST, Authors
from postoffice.smtp.header import Completion, LoopReader, Opening
from postoffice.util.maybe_awaitable import later, then

log = Logger("postoffice")

#: A quota that limits nothing.
UNLIMITED = Quota(0, 0, "reject")
#: Accounts that one message goes to, at most, as far as aliases lead to them.
MANY = 1000


@dataclass(frozen=True)
class ReceptionContext:
    """
    What all receptions of one daemon share.

    ``hostname`` is used in the Received fields, and ``now`` returns their time
    (with its zone).  The ``postmaster`` gets the mail for ``<Postmaster>``, and for
    postmaster and abuse in every domain of ours (RFC 5321 §4.5.1, RFC 2142).  With
    ``any_sender`` our users may send with any reverse-path.  ``foreign_from`` says how a From field
    with addresses that are not the user's own is treated (off, log, refuse).
    ``quota`` is complete and gives the default for all accounts;
    ``postmaster_quota`` holds for the postmaster, whatever that account says.
    ``router`` says where mail for other domains goes; without it none is taken.  ``limits`` counts
    what users send there.  ``forward_senders`` rewrites the senders of forwards; without it they
    stay.  ``dkim_keys`` sign what users send there.
    """

    directory: IAccountDirectory
    destination: IDestination
    hostname: str
    postmaster: Address
    now: Callable[[], datetime]
    policies: PolicyChain = field(default_factory=PolicyChain)
    any_sender: bool = False
    foreign_from: str = "log"
    quota: Quota = UNLIMITED
    postmaster_quota: Quota = UNLIMITED
    router: Router | None = None
    limits: SendingLimits | None = None
    forward_senders: ForwardSenders | None = None
    dkim_keys: DKIMKeys | None = None

    def reception(self, session_info: SessionInfo) -> IReception:
        """The avatar of a client that has not logged in."""
        return Reception(self, session_info)

    def submission(self, session_info: SessionInfo, account: Account) -> IReception:
        """The avatar of a client that has logged in to this account."""
        return Submission(self, session_info, account)

    def resolve(
        self, address: Address | None, *, forwards: bool = True
    ) -> Resolution | Awaitable[Resolution]:
        """Follow an address (None: the postmaster), at once if the directories answer at once."""
        postmaster = self.postmaster.normal
        name = postmaster if address is None else self.whole(address).normal
        return run(resolve(name, postmaster, forwards=forwards), self._look_up)

    @cached_property
    def _look_up(self) -> Callable[[str], Found | Awaitable[Found]]:
        return look_up_of(self.directory)

    def state_of(self, account: Account) -> Found | Awaitable[Found]:
        """Look an account up as it is now."""
        return self._look_up(account.address)

    def given(self, address: Address | None) -> Address:
        """The address in RCPT, complete."""
        return self.postmaster if address is None else self.whole(address)

    def whole(self, address: Address) -> Address:
        """Complete an address without a domain with the main domain, the postmaster's."""
        return address if address.domain else replace(address, domain=self.postmaster.domain)

    def objection(self, envelope: Envelope, recipient: QueuedRecipient) -> Reply | None:
        """Return why mail for a recipient in another domain is not taken, or None."""
        if self.router is None:
            return NO_FORWARDING if recipient.original else NO_WAY_OUT
        try:
            normal_domain(recipient.domain)
        except NotAnAddress:
            return NO_SUCH_DOMAIN
        sender = "" if envelope.sender is None else str(envelope.sender)
        route = self.router.route(sender, recipient.address)
        return Reply(550, "5.7.1", route.words) if isinstance(route, Refuse) else None

    def signs(self, envelope: Envelope) -> bool:
        """Whether a user's message gets our signature (DKIM), if its author's domain has keys."""
        if self.dkim_keys is None or self.router is None or not envelope.queued:
            return False
        sender = "" if envelope.sender is None else str(envelope.sender)
        return self.router.signs(sender, (one.address for one in envelope.queued))

    def limited(self, account: Account) -> Account:
        """
        The account with a complete quota.

        The postmaster's account has one that lets mail in always (RFC 5321 §4.5.1).
        """
        if account.address == self.postmaster.normal:
            return replace(account, quota=self.postmaster_quota)
        return _limited(account, self.quota)


@lru_cache(maxsize=4096)
def _limited(account: Account, default: Quota) -> Account:
    quota = account.quota.or_else(default)
    return account if quota == account.quota else replace(account, quota=quota)


@implementer(IReception)
class Reception:
    """Takes mail from clients that have not logged in, for addresses of ours."""

    login = ""
    _relays = False  # whether mail for addresses that are not ours is taken, too

    def __init__(self, reception_context: ReceptionContext, session_info: SessionInfo) -> None:
        self._reception_context = reception_context
        self._session_info = session_info

    async def connected(self) -> Reply | None:
        """The client has connected: ask the policies."""
        return await self._reception_context.policies.connect(self._session_info)

    async def hello(self) -> Reply | None:
        """EHLO or HELO: ask the policies."""
        return await self._reception_context.policies.hello(self._session_info)

    def sender(self, envelope: Envelope) -> Reply | Awaitable[Reply]:
        """MAIL: any sender, unless a policy objects."""
        policies = self._reception_context.policies
        if not policies.asks("sender", envelope.service):
            return SENDER_OK
        return then(policies.sender(envelope), _sender_reply)

    async def recipient(
        self, envelope: Envelope, address: Address | None, notify: Notify | None = None
    ) -> Reply:
        """
        RCPT: each account, and each address elsewhere, to which it leads gets the message once.

        Raises MaildropFull or MaildropFullNow if a message of the declared SIZE
        does not fit into the quotas.
        """
        found = self._reception_context.resolve(address)
        if not isinstance(found, Resolution):
            found = await found
        given = self._reception_context.given(address)
        if found.refusal is not NO_RELAY and is_rewritten(given):
            senders = self._reception_context.forward_senders
            original = senders.returned_to(envelope, given) if senders else None
            if original is None:
                return UNKNOWN_RECIPIENT
            found = await later(self._reception_context.resolve(original))
            outside = [QueuedRecipient(address=str(original), original=str(given))]
        else:
            outside = [QueuedRecipient(address=str(given))] if self._relays else []
        queued, refused = self._elsewhere(envelope, given, found, outside)
        if not (found.accounts or found.discarded or queued):
            return (refused or found.refused)[0].reply
        many = len(found.accounts) + len(queued)
        if many > 1 and not envelope.discarded and envelope.many + many > MANY:
            return TOO_MANY_RECIPIENTS
        accounts, full = await self._admitted(envelope, found, others=bool(queued))
        if self._reception_context.policies.asks("recipient", envelope.service):
            objection = await self._judge_recipient(envelope, given, accounts, queued)
            if objection is not None:
                return objection
        envelope.name(given, accounts, queued, notify)
        if found.entry is not None and (
            not isinstance(found.entry, Account) or found.entry.forward
        ):
            log_followed(envelope, given, found, [*accounts, *queued], [*full, *refused])
        return RECIPIENT_OK

    def _elsewhere(
        self,
        envelope: Envelope,
        given: Address,
        found: Resolution,
        outside: list[QueuedRecipient],
    ) -> tuple[list[QueuedRecipient], list[Refused]]:
        """
        Return the recipients in other domains that the message can be sent to, and the rest.

        ``outside`` is the recipient, if the address itself is in another domain and may be sent to.
        """
        if found.refusal is NO_RELAY:
            wanted = outside
        else:
            wanted = [
                QueuedRecipient(address=str(target), original=str(given), forwarder=forwarder)
                for target, forwarder in zip(found.remote, found.forwarders, strict=True)
            ]
        queued, refused = [], []
        for one in wanted:
            objection = self._reception_context.objection(envelope, one)
            if objection is None:
                queued.append(one)
            else:
                refused.append(Refused(one.address, objection))
        return queued, refused

    async def _judge_recipient(
        self,
        envelope: Envelope,
        given: Address,
        accounts: list[Account],
        queued: list[QueuedRecipient],
    ) -> Reply | None:
        """Ask the policies about a recipient that leads to somebody who does not get it yet."""
        new = [one for one in accounts if not envelope.has(one)]
        if not new:
            if all(map(envelope.has_queued, queued)):
                return None
            new = [Account(given.normal, "")]  # it has no maildrop here
        return await self._reception_context.policies.recipient(envelope, Recipient(given, new[0]))

    async def _admitted(
        self, envelope: Envelope, found: Resolution, *, others: bool
    ) -> tuple[list[Account], list[Refused]]:
        """
        Return the accounts that have room for the message, and those that have not.

        Raises if none has room and there are no others, or if one is to be tried later: then all
        get it later.
        """
        accounts, full = [], []
        for account in map(self._reception_context.limited, found.accounts):
            try:
                if account.quota.limited and not envelope.has(account):
                    await self._reception_context.destination.admit(account, envelope.size)
                accounts.append(account)
            except MaildropFull as failure:
                full.append(Refused(account.address, failure.reply))
                if len(full) == len(found.accounts) and not (found.discarded or others):
                    raise
        return accounts, full

    async def begin(self, envelope: Envelope) -> IDelivery:
        """DATA: write the trace fields; the text cannot continue the last of them."""
        return CompletedDelivery(await self._begun(envelope), Opening(), loop=_loop(envelope))

    async def _begun(self, envelope: Envelope) -> IDelivery:
        """Write the trace fields (RFC 5321 §4.4), then the fields that policies added."""
        if envelope.discarded:
            return DiscardedDelivery()
        delivery = await self._reception_context.destination.begin(envelope)
        trace = envelope.trace(self._reception_context.hostname, self._reception_context.now())
        await delivery.write(b"".join([trace, *envelope.fields]))
        return delivery

    async def judge(self, envelope: Envelope, delivery: IDelivery) -> Reply | None:
        """The text is complete: ask the policies."""
        if envelope.discarded:
            return None
        if not self._reception_context.policies.asks("text", envelope.service):
            return None
        refusal, fields = await self._reception_context.policies.text(envelope, delivery.text)
        if refusal is None and fields:
            await delivery.prepend(fields)
        return refusal


def _loop(envelope: Envelope) -> LoopReader | None:
    """Return what finds loops, for mail that goes to other servers."""
    if not envelope.queued:
        return None
    forwarded = [one.address for one in envelope.queued if one.original]
    return LoopReader([Address.parse(one).normal for one in forwarded])


def _sender_reply(objection: Reply | None) -> Reply:
    return objection or SENDER_OK


class Submission(Reception):
    """Takes mail from a user of ours, who has logged in to ``account`` (RFC 6409)."""

    _relays = True

    def __init__(
        self, reception_context: ReceptionContext, session_info: SessionInfo, account: Account
    ) -> None:
        super().__init__(reception_context, session_info)
        self._account = account
        self.login = account.address
        self.device = account.device

    def sender(self, envelope: Envelope) -> Reply | Awaitable[Reply]:
        """MAIL: the user must be allowed to send, and as this sender, or as ``<>``."""
        return self._sender(envelope)

    async def _sender(self, envelope: Envelope) -> Reply:
        now = self._reception_context.state_of(self._account)
        account = (now if isinstance(now, Found) else await now).entry
        if not isinstance(account, Account) or not account.sends:
            return MAY_NOT_SEND
        sender = None if self._reception_context.any_sender else envelope.sender
        if sender is not None and not await self._may_send(sender):
            return NOT_YOUR_ADDRESS
        return await later(super().sender(envelope))

    async def _may_send(self, address: Address) -> bool:
        """Whether the user may send as this address."""
        found = self._reception_context.resolve(address, forwards=False)
        if not isinstance(found, Resolution):
            found = await found
        return found.may_send(self._account.address)

    async def begin(self, envelope: Envelope) -> IDelivery:
        """DATA: complete the header as it arrives (RFC 6409 §8)."""
        now = self._reception_context.now()
        envelope.message_id = (
            f"<{envelope.id}.{now:%Y%m%d%H%M%S}@{self._reception_context.hostname}>"
        )
        completion = Completion(
            f"Date: {format_datetime(now)}\r\n".encode(),
            f"Message-ID: {envelope.message_id}\r\n".encode(),
        )
        signer = Signer() if self._reception_context.signs(envelope) else None
        off = self._reception_context.foreign_from == "off"
        authors = None if off and signer is None else Authors()
        give_back = await self._count(envelope)
        try:
            begun = await self._begun(envelope)
        except BaseException:
            give_back()
            raise
        loop = _loop(envelope)
        return CompletedDelivery(begun, completion, authors, loop, give_back, signer)

    async def _count(self, envelope: Envelope) -> Callable[[], None]:
        """
        Count what leaves, against the limits of the account; return what takes that back.

        Raises PostOfficeError if it is too much.
        """
        limits = self._reception_context.limits
        counted = None if limits is None else await limits.take(envelope)
        if limits is None or counted is None:
            return lambda: None
        return partial(limits.give_back, counted)

    async def judge(self, envelope: Envelope, delivery: IDelivery) -> Reply | None:
        """The text is complete: check its From field, ask the policies, then sign it."""
        if not isinstance(delivery, CompletedDelivery):
            return await super().judge(envelope, delivery)
        authors = await delivery.authors()
        foreign = await self._foreign(authors)
        if foreign is not None and self._reception_context.foreign_from != "off":
            refused = self._reception_context.foreign_from == "refuse"
            tell(
                log,
                log_events.FOREIGN_FROM,
                id=envelope.id,
                account=self._account.address,
                author=foreign,
                outcome="refused" if refused else "taken",
            )
            if refused:
                return FOREIGN_FROM
        refusal = await super().judge(envelope, delivery)
        may = foreign is None or self._reception_context.any_sender
        if refusal is None and may and authors and envelope.queued:
            await self._sign(delivery, authors[0])
        return refusal

    async def _sign(self, delivery: CompletedDelivery, author: str) -> None:
        """Sign a message (DKIM) by the keys of its author's domain, if it has any."""
        keys = self._reception_context.dkim_keys
        with suppress(NotAnAddress):
            domain = Address.parse(author).normal.rpartition("@")[2]
            signing = keys.signing(domain) if keys is not None else []
            if signing:
                await delivery.sign(signing, self._reception_context.now().timestamp())

    async def _foreign(self, authors: list[str]) -> str | None:
        """The first of these addresses as which the user may not send."""
        for author in authors[:MOST]:
            try:
                own = await self._may_send(Address.parse(author))
            except NotAnAddress:
                own = False
            if not own:
                return author
        return authors[MOST] if len(authors) > MOST else None
