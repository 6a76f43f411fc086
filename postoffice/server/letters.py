"""Letters to the senders of queued messages: where they go, and their way there."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.accounts.address_resolution import AliasLoop, NoPostmaster
from postoffice.interfaces import IDelivery, IMailQueue
from postoffice.model import log_events
from postoffice.model.address import UNLIMITED, Address, NotAnAddress
from postoffice.model.envelope import Client, Envelope, Notify, Recipient, SessionInfo
from postoffice.model.errors import (
    MaildropFull,
    MaildropFullNow,
    MessageGone,
    PermanentFailure,
    PostOfficeError,
)
from postoffice.model.hop import PeerReply
from postoffice.model.log_event import paths, tell
from postoffice.model.queued_message import DROP, SENDER, QueuedMessage, QueuedRecipient
from postoffice.model.reply import UNKNOWN_RECIPIENT
from postoffice.outbound import reports
from postoffice.outbound.dkim import Signer
from postoffice.outbound.reports import (
    DELAYED,
    DELIVERED,
    EXPANDED,
    FAILED,
    NOT_FORWARDED,
    RELAYED,
    Letter,
    LetterKind,
    Occasion,
    Replies,
)
from postoffice.outbound.schedule import Lifetimes
from postoffice.policy.chain import PolicyChain
from postoffice.server.reception import Reception
from postoffice.server.reception_context import ReceptionContext
from postoffice.util.maybe_awaitable import later
from postoffice.util.shield import start_work

#: The service that takes the letters in, in the log.
SERVICE = "queue"

log = Logger("postoffice")


class OutboundLetters:
    """
    Writes letters about the messages in ``queue``, each to the message's sender.

    A letter goes where mail for the sender goes: to accounts of ours, and into the queue.  Of what
    an account forwards for strangers, ``forward_failures`` are told to its sender (sender), to the
    account's own maildrop (owner), or to nobody (drop).
    """

    def __init__(
        self,
        context: ReceptionContext,
        queue: IMailQueue | None = None,
        lifetimes: Lifetimes | None = None,
        forward_failures: str = SENDER,
    ) -> None:
        self._forward_failures = forward_failures
        self._context = replace(context, policies=PolicyChain())
        self._queue = queue
        self._lifetimes = lifetimes or Lifetimes()
        self._under_way: set[Deferred[None]] = set()

    def failed(
        self, name: str, message: QueuedMessage, replies: Replies, via: str
    ) -> Awaitable[IDelivery | None]:
        """Write about recipients who will not get it."""
        forwarder = self._told(message, next(iter(replies)))
        if forwarder:
            return self._write_to_owner(forwarder, name, message, replies, via)
        return self._write(FAILED, name, message, replies, via)

    def groups(self, message: QueuedMessage, replies: Replies) -> list[Replies]:
        """Group failures by the person who is told of them."""
        found: dict[str, dict[int, PeerReply]] = {}
        for index, reply in replies.items():
            found.setdefault(self._told(message, index), {})[index] = reply
        return list(found.values())

    def _told(self, message: QueuedMessage, index: int) -> str:
        """The account that is concerned if a recipient gets nothing; "": the sender is."""
        if message.login or self._forward_failures == SENDER:
            return ""
        return message.recipients[index].forwarder

    async def _write_to_owner(
        self, owner: str, name: str, message: QueuedMessage, replies: Replies, via: str
    ) -> IDelivery | None:
        """Write to an account that has forwarded a message in vain; it knows where it forwards."""
        if self._forward_failures == DROP or not message.sender:
            return None
        known = tuple(replace(one, original="") for one in message.recipients)
        message = replace(message, sender=owner, recipients=known)
        return await self._write(NOT_FORWARDED, name, message, replies, via)

    def delayed(
        self, name: str, message: QueuedMessage, replies: Replies, via: str
    ) -> Awaitable[IDelivery | None]:
        """Write about recipients who do not have it yet."""
        return self._write(DELAYED, name, message, replies, via)

    def relayed(
        self, name: str, message: QueuedMessage, replies: Replies, via: str
    ) -> Awaitable[IDelivery | None]:
        """Write about recipients whose server has it, and does not tell the sender."""
        return self._write(RELAYED, name, message, replies, via)

    def delivered(self, envelope: Envelope, indexes: Sequence[int], beginning: bytes) -> None:
        """Write and commit letters about recipients here who have a message; nobody waits."""
        work = start_work(self._delivered(envelope, indexes, beginning))
        self._under_way.add(work)
        work.addErrback(_failed, envelope.id).addBoth(lambda _: self._under_way.discard(work))

    async def send(self, own: str, to: str, text: bytes) -> None:
        """
        Deliver a letter of ours to any address, under its own id; it needs no queue of messages.

        Raises PostOfficeError if there is no way to that address.
        """
        delivery, why = await self._begin(own, to, Letter(text, not to.isascii()))
        if delivery is None:
            raise PermanentFailure(why, UNKNOWN_RECIPIENT)
        try:
            await delivery.commit()
        finally:
            delivery.abort()

    async def finished(self) -> None:
        """Wait until all letters about recipients here are committed."""
        await DeferredList(list(self._under_way))

    async def _delivered(
        self, envelope: Envelope, indexes: Sequence[int], beginning: bytes
    ) -> None:
        """An address that leads to several accounts was expanded (RFC 3461 §5.2.7)."""
        about: dict[str, list[Recipient]] = {}
        for index in indexes:
            recipient = envelope.recipients[index]
            about.setdefault(str(recipient.address), []).append(recipient)
        for kind in (DELIVERED, EXPANDED):
            those = [
                (one, its) for one, its in about.items() if (len(its) > 1) == (kind is EXPANDED)
            ]
            if those:
                message = envelope.message(self._context.now().timestamp(), 0)
                recipients = tuple(_as_queued(one, its[0].notify) for one, its in those)
                message = replace(message, recipients=recipients)
                await self._commit(kind, message, beginning)

    async def _commit(self, kind: LetterKind, message: QueuedMessage, beginning: bytes) -> None:
        reply = PeerReply(250, "2.1.5", "delivered", "end")
        replies = dict.fromkeys(range(len(message.recipients)), reply)
        occasion = Occasion(self._context.hostname, self._context.now(), original=beginning)
        delivery = await self._letter(kind, message, replies, occasion)
        if delivery is not None:
            await delivery.commit()

    async def _write(
        self, kind: LetterKind, name: str, message: QueuedMessage, replies: Replies, via: str
    ) -> IDelivery | None:
        """Write a letter, uncommitted; None if nobody is to be told.  Raises TemporaryFailure."""
        if kind is not NOT_FORWARDED:
            replies = reports.wanted(kind, message, replies)
        if not replies:
            return None
        occasion = Occasion(
            self._context.hostname,
            self._context.now(),
            via,
            self._lifetimes.expires(message),
            await self._original(name, whole=reports.returns_whole(kind, message)),
        )
        return await self._letter(kind, message, replies, occasion)

    async def _letter(
        self, kind: LetterKind, message: QueuedMessage, replies: Replies, occasion: Occasion
    ) -> IDelivery | None:
        """Begin the delivery of a letter, and log it; None if there is no way to the sender."""
        report = reports.write(kind, message, replies, occasion)
        own = f"{message.id}-{kind.action}"
        begin = self._begin_for_owner if kind is NOT_FORWARDED else self._begin
        delivery, why = await begin(own, message.sender, report)
        event = log_events.LETTER_LOST if delivery is None else log_events.LETTER_WRITTEN
        more = {"why": why} if delivery is None else {"uidl": getattr(delivery, "uidl", "")}
        about = [message.recipients[index].address for index in replies]
        for to in paths(about):
            tell(log, event, id=message.id, sender=f"<{message.sender}>", to=to,
                 outcome=kind.action, **more)  # fmt: skip
        return delivery

    async def _original(self, name: str, *, whole: bool) -> bytes:
        """The text of a message, or its beginning with the header; nothing if it is gone."""
        most = reports.WHOLE if whole else reports.HEADER
        octets = b""
        assert self._queue is not None
        try:
            text = await self._queue.text(name)
            try:
                while len(octets) <= most and (more := await text.read()):
                    octets += more
            finally:
                text.close()
        except MessageGone:
            return b""
        return octets

    async def _begin(self, own: str, to: str, report: Letter) -> tuple[IDelivery | None, str]:
        """Begin the delivery of a letter, under its own id; or None, and why there is no way."""
        envelope = _envelope(own, report)
        reception = _LetterReception(self._context, SessionInfo(own, SERVICE, Client()))
        try:
            reply = await reception.recipient(envelope, Address.parse(to), Notify("NEVER"))
        except (MaildropFull, MaildropFullNow) as failure:
            reply = failure.reply
        except (NotAnAddress, AliasLoop, NoPostmaster) as failure:
            return None, str(failure)
        if reply.code >= 400 or envelope.discarded:
            return None, reply.log_text
        return await self._begun(envelope, report), ""

    async def _begin_for_owner(
        self, own: str, owner: str, report: Letter
    ) -> tuple[IDelivery | None, str]:
        """The same, into an account's own maildrop, even if that is full."""
        envelope = _envelope(own, report)
        address = Address.parse(owner)
        found = await later(self._context.resolve(address, forwards=False))
        if not found.accounts:
            return None, "the account has gone"
        envelope.add_recipients(address, [replace(one, quota=UNLIMITED) for one in found.accounts])
        return await self._begun(envelope, report), ""

    async def _begun(self, envelope: Envelope, report: Letter) -> IDelivery:
        delivery = await self._context.destination.begin(envelope)
        try:
            signature = self._signature(report) if envelope.queued else b""
            await delivery.write(envelope.return_path + signature + report.octets)
        except BaseException:
            delivery.abort()
            raise
        return delivery

    def _signature(self, report: Letter) -> bytes:
        """Sign a letter (DKIM) by the keys of the hostname, or else of the main domain above it."""
        host, main = self._context.hostname.lower(), self._context.postmaster.normal
        keys = self._context.dkim_keys
        main = main.rpartition("@")[2]
        domains = [host, main] if host.endswith(f".{main}") else [host]
        signing = next(filter(None, map(keys.signing, domains)), []) if keys is not None else []
        if not signing:
            return b""
        signer = Signer()
        signer.feed(report.octets)
        return signer.fields(signing, self._context.now().timestamp())


def _envelope(own: str, report: Letter) -> Envelope:
    return Envelope(
        id=own,
        client=Client(),
        size=len(report.octets),
        utf8=report.utf8,
        service=SERVICE,
        eight_bit=report.eight_bit,
    )


def _as_queued(address: str, notify: Notify | None) -> QueuedRecipient:
    notify = notify or Notify()
    return QueuedRecipient(address=address, notify=notify.flags, orcpt=notify.orcpt)


def _failed(why: Failure, message: str) -> None:
    if isinstance(why.value, PostOfficeError):
        log.error("the letter about {id} failed: {error}", id=message, error=why.value)
    else:
        log.failure("the letter about {id} failed", failure=why, id=message)


class _LetterReception(Reception):
    """Takes letters of our own, for any address."""

    _relays = True
