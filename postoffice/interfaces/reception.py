"""Receptions, which accept mail from clients, and the policies that they ask."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from zope.interface import Attribute, Interface

from postoffice.interfaces.store import IDelivery, IText
from postoffice.model.address import Address
from postoffice.model.envelope import Envelope, Notify, Recipient, SessionInfo
from postoffice.model.reply import Reply


class IReception(Interface):
    """
    The avatar of an SMTP or LMTP session: receives mail from one client.

    The ``mind`` of its login is the session's ``SessionInfo``. Methods return replies. If
    ``recipient`` returns a positive reply, it has added the recipient to the envelope
    (``Envelope.add_recipients``).
    """

    login = Attribute("str: the address of the account that logged in; empty without a login")

    def connected() -> Awaitable[Reply | None]:
        """
        The client has connected and has no greeting yet: None, or a reply that disconnects it.
        """

    def hello() -> Awaitable[Reply | None]:
        """EHLO, HELO or LHLO, with the name in ``session_info.hello``: None, or a refusal."""

    def sender(envelope: Envelope) -> Reply | Awaitable[Reply]:
        """MAIL, with the sender in ``envelope.sender``."""

    def recipient(
        envelope: Envelope, address: Address | None, notify: Notify | None = None
    ) -> Reply | Awaitable[Reply]:
        """
        RCPT, with what it said about notifications (RFC 3461).

        The address None stands for ``<Postmaster>`` without a domain (RFC 5321 §4.5.1).
        """

    def begin(envelope: Envelope) -> Awaitable[IDelivery]:
        """DATA: begin a delivery to all recipients, and write its trace fields."""

    def judge(envelope: Envelope, delivery: IDelivery) -> Awaitable[Reply | None]:
        """
        The text is complete and not yet committed: None, or a refusal.

        When it returns, it has already added the header fields of the policies to the
        delivery.
        """


@dataclass(frozen=True)
class Fields:
    """Header fields that a policy adds to the top of a message: whole lines, each with CRLF."""

    octets: bytes


#: A policy's answer: None (no objection), a refusal (4yz or 5yz), or header fields to add.
Opinion = Reply | Fields | None


class IPolicy(Interface):
    """
    Decides whether to accept mail.

    Only the methods named in ``stages`` are called. After a refusal, the policies that
    come later in the list are not asked. A method that cannot decide may raise
    TemporaryFailure; the setting ``on_failure`` says what happens then, and ``timeout``
    how long a method may take.
    """

    stages = Attribute(
        "Collection[str]: the methods to call, of connect, hello, sender, recipient, text"
    )

    def start() -> Awaitable[None]:
        """Get ready; see ``IMailStore.start``."""

    def stop() -> Awaitable[None]:
        """Release all resources; no calls come after this one."""

    def connect(session_info: SessionInfo) -> Awaitable[Opinion]:
        """A client has connected and has no greeting yet; a refusal ends the session."""

    def hello(session_info: SessionInfo) -> Awaitable[Opinion]:
        """EHLO or HELO; the client's name for itself is in ``session_info.hello``."""

    def sender(envelope: Envelope) -> Awaitable[Opinion]:
        """MAIL, with the sender in ``envelope.sender``."""

    def recipient(envelope: Envelope, recipient: Recipient) -> Awaitable[Opinion]:
        """
        RCPT, for a local account that is not yet among ``envelope.recipients``.

        If an alias leads to several accounts, it is asked once, with the first of them.  An
        address that leads only to other domains has a stand-in for an account, with the address
        and without a maildrop.
        """

    def text(envelope: Envelope, text: IText) -> Awaitable[Opinion]:
        """The whole message, as the maildrop will keep it; a refusal is for all recipients."""
