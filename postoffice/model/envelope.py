"""The envelope: sender, recipients, and how a message arrived (RFC 5321 §2.3.1, §4.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

from postoffice.model.address import Account, Address
from postoffice.model.queued_message import QueuedMessage, QueuedRecipient

#: A name that a Received field can hold unchanged (RFC 5321 §4.1.2 Domain).
_DOMAIN = re.compile(r"(?!-)[A-Za-z0-9-]+(?<!-)(?:\.(?!-)[A-Za-z0-9-]+(?<!-))*\Z")
#: Octets of an escaped name at most (a longer one ends with dots), and of a valid name.
_SHOWN = 240
_NAME = 255
#: Octets that are written in xtext (RFC 3461 §4) in a comment.
_UNSAFE = re.compile(rb"[^!#$%&'*,./0-9:?@A-Z\[\]^_`a-z{|}~-]")
_LITERAL = re.compile(r"\[(?:[0-9.]{7,15}|IPv6:[0-9A-Fa-f:.]{2,45})\]\Z")


@dataclass(frozen=True)
class Client:
    """
    A client: its IP address ("" on a UNIX socket) and port, and whether TLS is on.

    ``address`` is in its plain form: an IPv4 address mapped into IPv6 is IPv4.
    """

    address: str = ""
    encrypted: bool = False
    port: int = 0

    @property
    def local(self) -> bool:
        """Whether the connection stays on this host: loopback, or a UNIX socket."""
        return not self.address or self.address == "::1" or self.address.startswith("127.")

    @property
    def literal(self) -> str:
        """Its address literal (RFC 5321 §4.1.3); empty on a UNIX socket."""
        if not self.address:
            return ""
        return f"[IPv6:{self.address}]" if ":" in self.address else f"[{self.address}]"


@dataclass
class SessionInfo:
    """
    One client's session, as policies and checkers see it.

    ``service`` is the service's name in the configuration (smtp, submission, pop3).
    ``hello`` is the name in EHLO or HELO.  ``login`` is the address of the account
    that has logged in, and ``mechanism`` how it did (a SASL mechanism, USER or APOP).
    ``device`` is the account's device whose password was used.  ``tls`` is version
    and cipher.  Each of these is empty until it is known.  ``fields`` are header
    fields that policies add to every message of this session.
    """

    id: str
    service: str
    client: Client
    hello: str = ""
    login: str = ""
    fields: list[bytes] = field(default_factory=list)
    mechanism: str = ""
    tls: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """
    What MAIL said about delivery status notifications (RFC 3461 §4.3, §4.4).

    ``ret`` is FULL, HDRS or ""; ``envid`` is in xtext, as it came, or "".
    """

    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class Notify:
    """
    What RCPT said about delivery status notifications (RFC 3461 §4.1, §4.2).

    ``flags`` is NEVER, or a list such as "SUCCESS,FAILURE", or ""; ``orcpt`` is the type and
    the address of the original recipient, in xtext, as they came, or "".
    """

    flags: str = ""
    orcpt: str = ""


@dataclass(frozen=True)
class Recipient:
    """One recipient: the address that was given, and the account it leads to."""

    address: Address
    account: Account
    notify: Notify | None = None


@dataclass
class Envelope:
    """
    One message's sender and recipients, and how it arrived; never its text.

    ``sender`` None is the null reverse-path ``<>``.  ``protocol`` is a name of
    RFC 3848 or 6531 (SMTP, ESMTPSA, UTF8LMTP).  ``id`` names the message in the log,
    in its Received field, and in the reply that accepts it.  ``size`` is the SIZE
    that the client declared (RFC 1870), 0 for none; ``utf8`` is whether the client
    gave SMTPUTF8.  ``service`` and ``login`` are those of the ``SessionInfo``;
    ``fields`` are header fields that policies add to this message.

    ``queued`` are the recipients in other domains; ``held`` says why the queue holds the message
    for them, or is "".  ``device`` is that of the ``SessionInfo``.

    ``named`` has an item for each accepted RCPT command, in order: the indexes in ``recipients`` of
    the accounts to which the address leads, and -1 if it also leads to other domains.  An alias
    may have several accounts; one that discards mail has none.  An account to which several
    commands lead is in ``recipients`` once.
    ``message_id`` is the Message-ID that is added if the text has none.  ``status`` is None
    if MAIL said nothing about delivery status notifications.  ``eight_bit`` and ``requiretls``
    are whether MAIL had BODY=8BITMIME and REQUIRETLS (RFC 6152, RFC 8689).
    """

    id: str
    client: Client
    hello: str = ""
    protocol: str = "SMTP"
    sender: Address | None = None
    size: int = 0
    utf8: bool = False
    recipients: list[Recipient] = field(default_factory=list)
    service: str = "smtp"
    login: str = ""
    fields: list[bytes] = field(default_factory=list)
    named: list[tuple[int, ...]] = field(default_factory=list)
    message_id: str = ""
    queued: list[QueuedRecipient] = field(default_factory=list)
    held: str = ""
    device: str = ""
    status: DeliveryStatus | None = None
    eight_bit: bool = False
    requiretls: bool = False
    _places: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    _queued: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def has(self, account: Account) -> bool:
        """Whether the message goes to this account's maildrop already."""
        return account.maildrop in self._places

    def has_queued(self, recipient: QueuedRecipient) -> bool:
        """Whether the message goes to this recipient in another domain already."""
        return _same(recipient) in self._queued

    @property
    def recipient_count(self) -> int:
        """How many accounts and other recipients get the message."""
        return len(self.recipients) + len(self.queued)

    @property
    def discarded(self) -> bool:
        """Whether nobody gets the message: all its recipients are aliases that discard mail."""
        return not self.recipient_count

    def add_recipients(
        self,
        address: Address,
        accounts: Iterable[Account],
        queued: Iterable[QueuedRecipient] = (),
        notify: Notify | None = None,
    ) -> None:
        """
        Accept one RCPT command, whose address leads to these accounts, and to others in ``queued``.

        ``notify`` counts for those of them to which no earlier command led.
        """
        named = []
        for account in accounts:
            place = self._places.setdefault(account.maildrop, len(self.recipients))
            if place == len(self.recipients):
                self.recipients.append(Recipient(address, account, notify))
            named.append(place)
        outside: tuple[int, ...] = ()
        for one in queued:
            if self._queued.setdefault(_same(one), len(self.queued)) == len(self.queued):
                if notify is not None:
                    one = replace(one, notify=notify.flags, orcpt=notify.orcpt)
                self.queued.append(one)
            outside = (-1,)
        self.named.append((*named, *outside))

    def withdraw(self) -> None:
        """Remove the recipients in other domains again."""
        self.queued.clear()
        self._queued.clear()
        self.named = [tuple(place for place in one if place >= 0) for one in self.named]

    @property
    def return_path(self) -> bytes:
        """The Return-Path field, which stands before all other trace fields."""
        sender = "" if self.sender is None else str(self.sender)
        return f"Return-Path: <{sender}>\r\n".encode()

    def message(self, came: float, size: int, before: int = 0) -> QueuedMessage:
        """
        Return the message as the queue keeps it.

        It came at ``came`` (Unix time), and its file has ``size`` octets of text, of which
        ``before`` stand before its trace fields.
        """
        status = self.status or DeliveryStatus()
        return QueuedMessage(
            id=self.id,
            sender="" if self.sender is None else str(self.sender),
            recipients=tuple(self.queued),
            came=came,
            size=size,
            hole=(before, len(self.return_path)),
            login=self.login,
            device=self.device,
            held=self.held,
            ret=status.ret,
            envid=status.envid,
            utf8=self.utf8,
            eight_bit=self.eight_bit,
            requiretls=self.requiretls,
        )

    def trace(self, hostname: str, when: datetime) -> bytes:
        """
        The Return-Path and Received fields of a final delivery (RFC 5321 §4.4).

        The clause ``for`` is used with a single recipient only.  With several it
        would disclose the others to each (§7.2), and the message could not be one
        file for all.
        """
        came = _from(self.client.literal, self.hello)
        by = f"by {hostname} with {self.protocol} id {self.id}"
        if self.recipient_count == 1:
            only = self.recipients[0].address if self.recipients else self.queued[0].shown
            by += f"\r\n\tfor <{only}>"
        received = f"Received: {came}\r\n\t{by};\r\n\t{_date(when)}\r\n"
        return self.return_path + received.encode()


def _same(recipient: QueuedRecipient) -> str:
    """Return what is equal for one mailbox elsewhere: letter case counts only before the @."""
    local, _, domain = recipient.address.rpartition("@")
    return f"{local}@{domain.lower()}"


@lru_cache(maxsize=1024)
def _from(literal: str, hello: str) -> str:
    """
    Return the ``from`` clause: the name in EHLO, and the client's real address.

    An invalid name is escaped, and put into a comment.
    """
    odd = ""
    if not (_LITERAL.match(hello) or (len(hello) <= _NAME and _DOMAIN.match(hello))):
        odd = f"\r\n\t(HELO {_escaped(hello)})" if hello else ""
        hello = literal or "localhost"
    return f"from {hello} ({literal}){odd}" if literal else f"from {hello}{odd}"


def _escaped(name: str) -> str:
    """Escape a name as one word of a comment, of limited length."""
    parts: list[str] = []
    room = _SHOWN
    for letter in name[:_SHOWN]:
        part = _UNSAFE.sub(lambda found: b"+%02X" % ord(found[0]), letter.encode()).decode()
        room -= len(part)
        if room < 0:
            break
        parts.append(part)
    return "".join(parts) + ("" if len(parts) == len(name) else "...")


@lru_cache(maxsize=2)
def _date(when: datetime) -> str:
    """RFC 5322 §3.3; cached, as many messages arrive in one second."""
    return format_datetime(when)
