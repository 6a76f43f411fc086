"""The SMTP avatar of our own users, and what makes the avatars."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import format_datetime
from functools import partial

from twisted.logger import Logger

from postoffice.accounts.address_resolution import Resolution
from postoffice.interfaces import (
    IDelivery,
    IReception,
)
from postoffice.model import log_events
from postoffice.model.address import Account, Address, NotAnAddress
from postoffice.model.alias import Found
from postoffice.model.envelope import Envelope, SessionInfo
from postoffice.model.log_event import tell
from postoffice.model.queued_message import QueuedRecipient
from postoffice.model.reply import (
    FOREIGN_FROM,
    MAY_NOT_SEND,
    NOT_YOUR_ADDRESS,
    Reply,
)
from postoffice.outbound.dkim import Signer
from postoffice.server.completed_delivery import CompletedDelivery
from postoffice.server.null_mx import PATIENCE
from postoffice.server.reception import Reception, loop_reader
from postoffice.server.reception_context import ReceptionContext
from postoffice.smtp.author import MOST, Authors
from postoffice.smtp.header import Completion
from postoffice.util.maybe_awaitable import later

log = Logger("postoffice")


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
        self._patience = PATIENCE  # seconds that this message may wait for the DNS

    def sender(self, envelope: Envelope) -> Reply | Awaitable[Reply]:
        """MAIL: the user must be allowed to send, and as this sender, or as ``<>``."""
        return self._sender(envelope)

    async def _sender(self, envelope: Envelope) -> Reply:
        self._patience = PATIENCE
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

    async def _null_mx(self, envelope: Envelope, recipient: QueuedRecipient) -> Reply | None:
        context = self._reception_context
        if context.null_mx is None or not context.is_direct(envelope, recipient):
            return None
        asked = context.null_mx.refusal(recipient.domain, self._patience)
        refusal, self._patience = await asked
        return refusal

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
        loop = loop_reader(envelope)
        success = self._success(envelope)
        return CompletedDelivery(begun, completion, authors, loop, give_back, signer, success)

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


class Receptions(ReceptionContext):
    """Makes the avatars."""

    def reception(self, session_info: SessionInfo) -> IReception:
        """The avatar of a client that has not logged in."""
        return Reception(self, session_info)

    def submission(self, session_info: SessionInfo, account: Account) -> IReception:
        """The avatar of a client that has logged in to this account."""
        return Submission(self, session_info, account)
