"""The SMTP avatars: Reception for mail from other servers, Submission for our own users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import format_datetime

from twisted.logger import Logger
from zope.interface import implementer

from postoffice.interfaces import (
    IAccountDirectory,
    IDelivery,
    IDestination,
    IReception,
    IText,
)
from postoffice.model import log_events
from postoffice.model.address import Account, Address, NotAnAddress, Quota, normal_domain
from postoffice.model.envelope import Envelope, Recipient, SessionInfo
from postoffice.model.errors import PostOfficeError, TemporaryFailure
from postoffice.model.log_events import tell
from postoffice.model.reply import (
    FOREIGN_FROM,
    MAILBOX_DISABLED,
    NO_RELAY,
    NO_WAY_OUT,
    NOT_YOUR_ADDRESS,
    RECIPIENT_OK,
    SENDER_OK,
    UNKNOWN_RECIPIENT,
    Reply,
)
from postoffice.policy.chain import PolicyChain
from postoffice.smtp.author import MOST, Authors
from postoffice.smtp.header import Completion, Opening

log = Logger("postoffice")

#: A quota that limits nothing.
UNLIMITED = Quota(0, 0, "reject")


@dataclass(frozen=True)
class ReceptionContext:
    """
    What all receptions of one daemon share.

    ``hostname`` is used in the Received fields, and ``now`` returns their time
    (with its zone).  The ``postmaster`` gets the mail for ``<Postmaster>`` and for
    postmaster@ every domain of ours (RFC 5321 §4.5.1).  With ``any_sender`` our
    users may send with any reverse-path.  ``foreign_from`` says how a From field
    with addresses that are not the user's own is treated (off, log, refuse).
    ``quota`` is complete and gives the default for all accounts;
    ``postmaster_quota`` holds for the postmaster, whatever that account says.
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

    def reception(self, session_info: SessionInfo) -> IReception:
        """The avatar of a client that has not logged in."""
        return Reception(self, session_info)

    def submission(self, session_info: SessionInfo, account: Account) -> IReception:
        """The avatar of a client that has logged in to this account."""
        return Submission(self, session_info, account)

    async def account(self, address: Address | None) -> Account | Reply:
        """The account that an address leads to, with a complete quota; or a refusal."""
        if address is None:
            return await self._postmasters_account()
        address = self.whole(address)
        try:
            domain = normal_domain(address.domain)
        except NotAnAddress:
            return NO_RELAY
        if not await self.directory.serves(domain):
            return NO_RELAY
        name = address.normal
        if address.local.casefold() == "postmaster" or name == self.postmaster.normal:
            return await self._postmasters_account()
        account = await self.directory.find(name)
        return UNKNOWN_RECIPIENT if account is None else self._limited(account)

    def whole(self, address: Address) -> Address:
        """Complete an address without a domain with the main domain, the postmaster's."""
        return address if address.domain else replace(address, domain=self.postmaster.domain)

    async def _postmasters_account(self) -> Account:
        """The postmaster's account; its own quota lets mail in always (RFC 5321 §4.5.1)."""
        account = await self.directory.find(self.postmaster.normal)
        if account is None:
            raise TemporaryFailure(f"the postmaster's account {self.postmaster} does not exist")
        return replace(account, quota=self.postmaster_quota)

    def _limited(self, account: Account) -> Account:
        """The account with a complete quota."""
        quota = account.quota.or_else(self.quota)
        return account if quota == account.quota else replace(account, quota=quota)


@implementer(IReception)
class Reception:
    """Takes mail from clients that have not logged in, for our maildrops only."""

    login = ""

    def __init__(self, reception_context: ReceptionContext, session_info: SessionInfo) -> None:
        self._reception_context = reception_context
        self._session_info = session_info

    async def connected(self) -> Reply | None:
        """The client has connected: ask the policies."""
        return await self._reception_context.policies.connect(self._session_info)

    async def hello(self) -> Reply | None:
        """EHLO or HELO: ask the policies."""
        return await self._reception_context.policies.hello(self._session_info)

    async def sender(self, envelope: Envelope) -> Reply:
        """MAIL: any sender, unless a policy objects."""
        return await self._objection("sender", envelope) or SENDER_OK

    async def recipient(self, envelope: Envelope, address: Address | None) -> Reply:
        """
        RCPT: an account of ours; it gets the message once, however often it is named.

        Raises MaildropFull or MaildropFullNow if a message of the declared SIZE
        does not fit into its quota.
        """
        account = await self._reception_context.account(address)
        if isinstance(account, Reply):
            return self._unknown(account)
        if not account.enabled and account.address != self._reception_context.postmaster.normal:
            return MAILBOX_DISABLED
        for place, known in enumerate(envelope.recipients):
            if known.account.maildrop == account.maildrop:
                envelope.named.append(place)
                return RECIPIENT_OK
        if account.quota.limited:
            await self._reception_context.destination.admit(account, envelope.size)
        given = (
            self._reception_context.postmaster
            if address is None
            else self._reception_context.whole(address)
        )
        recipient = Recipient(given, account)
        if self._reception_context.policies.asks("recipient", envelope.service):
            objection = await self._reception_context.policies.recipient(envelope, recipient)
            if objection is not None:
                return objection
        envelope.named.append(len(envelope.recipients))
        envelope.recipients.append(recipient)
        return RECIPIENT_OK

    async def begin(self, envelope: Envelope) -> IDelivery:
        """DATA: write the trace fields; the text cannot continue the last of them."""
        return CompletedDelivery(await self._begun(envelope), Opening())

    async def _begun(self, envelope: Envelope) -> IDelivery:
        """Write the trace fields (RFC 5321 §4.4), then the fields that policies added."""
        delivery = await self._reception_context.destination.begin(envelope)
        trace = envelope.trace(self._reception_context.hostname, self._reception_context.now())
        await delivery.write(b"".join([trace, *envelope.fields]))
        return delivery

    async def judge(self, envelope: Envelope, delivery: IDelivery) -> Reply | None:
        """The text is complete: ask the policies."""
        if not self._reception_context.policies.asks("text", envelope.service):
            return None
        refusal, fields = await self._reception_context.policies.text(envelope, delivery.text)
        if refusal is None and fields:
            await delivery.prepend(fields)
        return refusal

    async def _objection(self, stage: str, envelope: Envelope) -> Reply | None:
        if not self._reception_context.policies.asks(stage, envelope.service):
            return None
        return await self._reception_context.policies.sender(envelope)

    def _unknown(self, why: Reply) -> Reply:
        return why


class Submission(Reception):
    """Takes mail from a user of ours, who has logged in to ``account`` (RFC 6409)."""

    def __init__(
        self, reception_context: ReceptionContext, session_info: SessionInfo, account: Account
    ) -> None:
        super().__init__(reception_context, session_info)
        self._account = account
        self.login = account.address
        self.device = account.device

    async def sender(self, envelope: Envelope) -> Reply:
        """MAIL: the sender must lead to the user's account, or be the null reverse-path."""
        if envelope.sender is not None and not self._reception_context.any_sender:
            account = await self._reception_context.account(envelope.sender)
            if isinstance(account, Reply) or account.address != self._account.address:
                return NOT_YOUR_ADDRESS
        return await super().sender(envelope)

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
        authors = None if self._reception_context.foreign_from == "off" else Authors()
        return CompletedDelivery(await self._begun(envelope), completion, authors)

    async def judge(self, envelope: Envelope, delivery: IDelivery) -> Reply | None:
        """The text is complete: check its From field, then ask the policies."""
        if isinstance(delivery, CompletedDelivery):
            foreign = await self._foreign(await delivery.authors())
            if foreign is not None:
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
        return await super().judge(envelope, delivery)

    async def _foreign(self, authors: list[str]) -> str | None:
        """The first of these addresses that does not lead to the user's account."""
        for author in authors[:MOST]:
            try:
                account = await self._reception_context.account(Address.parse(author))
            except NotAnAddress:
                return author
            if isinstance(account, Reply) or account.address != self._account.address:
                return author
        return authors[MOST] if len(authors) > MOST else None

    def _unknown(self, why: Reply) -> Reply:
        return NO_WAY_OUT if why is NO_RELAY else why


@implementer(IDelivery)
class CompletedDelivery:
    """
    A delivery that corrects the beginning of the text, or completes its header.

    ``authors``, if given, reads the addresses in the From field on the way.
    """

    def __init__(
        self,
        delivery: IDelivery,
        completion: Completion | Opening,
        authors: Authors | None = None,
    ) -> None:
        self._delivery = delivery
        self._completion = completion
        self._authors = authors

    async def authors(self) -> list[str]:
        """The addresses in From, once the text is complete; [] without ``authors``."""
        await self._end()
        return [] if self._authors is None else self._authors.addresses()

    @property
    def uidl(self) -> str:
        return getattr(self._delivery, "uidl", "")

    async def write(self, data: bytes) -> None:
        await self._pass_on(self._completion.feed(data))

    async def commit(self) -> None:
        await self._end()
        await self._delivery.commit()

    async def commit_each(self) -> list[PostOfficeError | None]:
        await self._end()
        return list(await self._delivery.commit_each())

    async def text(self) -> IText:
        await self._end()
        return await self._delivery.text()

    async def prepend(self, fields: bytes) -> None:
        await self._end()
        await self._delivery.prepend(fields)

    def abort(self) -> None:
        self._delivery.abort()

    async def _end(self) -> None:
        """The text is complete: pass on what was held back of it, once."""
        await self._pass_on(self._completion.end())

    async def _pass_on(self, octets: bytes) -> None:
        if octets:
            if self._authors is not None:
                self._authors.feed(octets)
            await self._delivery.write(octets)
