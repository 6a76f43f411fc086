"""The SMTP avatar of other servers: takes mail for addresses of ours."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from zope.interface import implementer

from postoffice.accounts.address_resolution import RefusedAddress, Resolution
from postoffice.interfaces import (
    IDelivery,
    IReception,
)
from postoffice.model.address import Account, Address
from postoffice.model.envelope import Envelope, Notify, Recipient, SessionInfo
from postoffice.model.errors import MaildropFull, PostOfficeError
from postoffice.model.queued_message import QueuedRecipient
from postoffice.model.reply import (
    NO_RELAY,
    RECIPIENT_OK,
    SENDER_OK,
    SPAM_STAYS,
    TOO_MANY_RECIPIENTS,
    UNKNOWN_RECIPIENT,
    Reply,
)
from postoffice.outbound.srs import is_rewritten
from postoffice.policy.spam_marks import is_spam
from postoffice.server.completed_delivery import CompletedDelivery, DiscardedDelivery, Success
from postoffice.server.message_log import log_followed, log_kept_here
from postoffice.server.reception_context import ReceptionContext
from postoffice.smtp.header import LoopReader, Opening
from postoffice.util.maybe_awaitable import later, then

#: Accounts that one message goes to, at most, as far as aliases lead to them.
MANY = 1000


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
        outside = [QueuedRecipient(address=str(given))] if self._relays else []
        if found.refusal is not NO_RELAY and is_rewritten(given):
            original = self._original(envelope, given)
            if original is None:
                return UNKNOWN_RECIPIENT
            found = await later(self._reception_context.resolve(original))
            outside = [QueuedRecipient(address=str(original), original=str(given))]
        queued, refused = self._elsewhere(envelope, given, found, outside)
        if not (found.accounts or found.discarded or queued):
            return (refused or found.refused)[0].reply
        objection = self._share_full(queued)
        if objection is None and found.refusal is NO_RELAY:
            objection = await self._null_mx(envelope, queued[0])
        if objection is not None:
            return objection
        many = len(found.accounts) + len(queued)
        if many > 1 and not envelope.discarded and envelope.recipient_count + many > MANY:
            return TOO_MANY_RECIPIENTS
        accounts, full = await self._admitted(envelope, found, others=bool(queued))
        if self._reception_context.policies.asks("recipient", envelope.service):
            objection = await self._judge_recipient(envelope, given, accounts, queued)
            if objection is not None:
                return objection
        if queued and self._is_spam(envelope, b"".join(envelope.fields)):
            if not (accounts or found.discarded):
                return SPAM_STAYS
            log_kept_here(envelope, queued)
            queued = []
        envelope.add_recipients(given, accounts, queued, notify)
        if _leads_elsewhere(found):
            log_followed(envelope, given, found, [*accounts, *queued], [*full, *refused])
        return RECIPIENT_OK

    def _original(self, envelope: Envelope, given: Address) -> Address | None:
        """Return whom a bounce to a rewritten sender goes to; None if it is none of ours."""
        senders = self._reception_context.forward_senders
        return senders.returned_to(envelope, given) if senders else None

    def _elsewhere(
        self,
        envelope: Envelope,
        given: Address,
        found: Resolution,
        outside: list[QueuedRecipient],
    ) -> tuple[list[QueuedRecipient], list[RefusedAddress]]:
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
                refused.append(RefusedAddress(one.address, objection))
        return queued, refused

    def _share_full(self, queued: list[QueuedRecipient]) -> Reply | None:
        limits = self._reception_context.limits
        if not queued or limits is None:
            return None
        return limits.shares.refusal(self.login, queued)

    async def _null_mx(self, envelope: Envelope, recipient: QueuedRecipient) -> Reply | None:
        """Return why mail for a domain elsewhere that a user has named is refused, or None."""
        return None

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
    ) -> tuple[list[Account], list[RefusedAddress]]:
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
                full.append(RefusedAddress(account.address, failure.reply))
                if len(full) == len(found.accounts) and not (found.discarded or others):
                    raise
        return accounts, full

    async def begin(self, envelope: Envelope) -> IDelivery:
        """DATA: write the trace fields; the text cannot continue the last of them."""
        return CompletedDelivery(
            await self._begun(envelope),
            Opening(),
            loop=loop_reader(envelope),
            success=self._success(envelope),
        )

    def _success(self, envelope: Envelope) -> Success | None:
        """Return what tells the sender that recipients here have the message, if that is wanted."""
        tell = self._reception_context.successes.tell
        if tell is None or envelope.sender is None:
            return None
        wanting = [n for n, one in enumerate(envelope.recipients) if wants_success(one)]
        if not wanting:
            return None

        def committed(beginning: bytes, outcomes: Sequence[PostOfficeError | None] | None) -> None:
            well = [n for n in wanting if outcomes is None or outcomes[n] is None]
            if well:
                tell(envelope, well, beginning)

        return committed

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
            if envelope.queued and self._is_spam(envelope, fields):
                return self._keep_here(envelope, delivery)
        return refusal

    def _is_spam(self, envelope: Envelope, fields: bytes) -> bool:
        """Return whether a stranger's mail is not to be sent on, because a policy has marked it."""
        wanted = self._reception_context.forward_spam or self.login or envelope.sender is None
        return not wanted and is_spam(fields)

    def _keep_here(self, envelope: Envelope, delivery: IDelivery) -> Reply | None:
        """Send nothing on; a message that somebody would then miss is refused."""
        missed = (-1,) in envelope.named  # a recipient without a maildrop here
        if missed or not (isinstance(delivery, CompletedDelivery) and delivery.withdraw()):
            return SPAM_STAYS
        log_kept_here(envelope, envelope.queued)
        envelope.withdraw()
        return None


def wants_success(recipient: Recipient) -> bool:
    """Whether the sender wants to know that a recipient has the message (RFC 3461 §4.1)."""
    return recipient.notify is not None and "SUCCESS" in recipient.notify.flags


def loop_reader(envelope: Envelope) -> LoopReader | None:
    """Return what finds loops, for mail that goes to other servers."""
    if not envelope.queued:
        return None
    forwarded = [one.address for one in envelope.queued if one.original]
    return LoopReader([Address.parse(one).normal for one in forwarded])


def _leads_elsewhere(found: Resolution) -> bool:
    """Whether an alias, a forward or a catch-all has been followed."""
    entry = found.entry
    return entry is not None and not (isinstance(entry, Account) and not entry.forward)


def _sender_reply(objection: Reply | None) -> Reply:
    return objection or SENDER_OK
