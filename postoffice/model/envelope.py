"""The envelope: who sends, who shall get it, and how it came (RFC 5321 §2.3.1, §4.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

from postoffice.model.address import Account, Address

#: A name that a Received field may carry as it is (RFC 5321 §4.1.2 Domain, address-literal).
_DOMAIN = re.compile(r"(?!-)[A-Za-z0-9-]+(?<!-)(?:\.(?!-)[A-Za-z0-9-]+(?<!-))*\Z")
#: Octets of a name that may be shown; what is left of a longer one ends with dots.
_SHOWN = 240
_NAME = 255
#: In a comment, each of these octets is one of xtext (RFC 3461 §4), which any word may hold.
_UNSAFE = re.compile(rb"[^!#$%&'*,./0-9:?@A-Z\[\]^_`a-z{|}~-]")
_LITERAL = re.compile(r"\[(?:[0-9.]{7,15}|IPv6:[0-9A-Fa-f:.]{2,45})\]\Z")


@dataclass(frozen=True)
class Client:
    """
    Who is at the other end: its IP address ("" on a UNIX socket), and whether the link is private.

    ``address`` is in its plain form: an IPv4 address mapped into IPv6 is IPv4.
    """

    address: str = ""
    encrypted: bool = False
    port: int = 0

    @property
    def local(self) -> bool:
        """Whether nobody else can listen: loopback, or a UNIX socket."""
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
    One client's session with a counter, as those who judge it see it.

    ``service`` is the word of the configuration (smtp, submission, pop3);
    ``hello`` what the client calls itself, once it has; ``login`` the address
    of its account, once it has proved that, and ``mechanism`` how (a SASL
    mechanism, USER or APOP); ``device`` is that of the account whose password it was, or
    empty.  ``tls`` is the version and the cipher, or empty.
    ``fields`` are header fields that policies add to each message of this
    session.
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


@dataclass(frozen=True)
class Recipient:
    """One recipient: the address that was given, and the account it leads to."""

    address: Address
    account: Account


@dataclass
class Envelope:
    """
    One message's sender and recipients, and how it came; never its text.

    ``sender`` None is the null reverse-path ``<>``.  ``protocol`` is a word of
    RFC 3848 and 6531 (SMTP, ESMTPSA, UTF8LMTP).  ``id`` names the message in
    the log, in its Received field and in the reply that takes it.  ``size``
    is what the client declared (RFC 1870), 0 for nothing; ``utf8`` whether
    it asked for SMTPUTF8.  ``service`` and ``login`` are those of its
    ``SessionInfo``; ``fields`` are header fields that policies add to this message.

    ``named`` has, for each recipient that was accepted, in the order of the
    commands, its place in ``recipients``: who is named twice is there once.
    ``message_id`` is the Message-ID that is added where the text has none.
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
    named: list[int] = field(default_factory=list)
    message_id: str = ""

    def trace(self, hostname: str, when: datetime) -> bytes:
        """
        The Return-Path and Received fields of a final delivery (RFC 5321 §4.4).

        The clause ``for`` appears for a single recipient only: it would tell
        each of several who the others are (§7.2), and the same octets for
        all mean one file for all.
        """
        sender = "" if self.sender is None else str(self.sender)
        came = self._from()
        by = f"by {hostname} with {self.protocol} id {self.id}"
        if len(self.recipients) == 1:
            by += f"\r\n\tfor <{self.recipients[0].address}>"
        received = f"Received: {came}\r\n\t{by};\r\n\t{_date(when)}\r\n"
        return f"Return-Path: <{sender}>\r\n{received}".encode()

    def _from(self) -> str:
        """
        ``from``: what it calls itself, and where it really is.

        What is no name by the book stands in a comment, escaped.
        """
        literal = self.client.literal
        hello, odd = self.hello, ""
        if not (_LITERAL.match(hello) or (len(hello) <= _NAME and _DOMAIN.match(hello))):
            odd = f"\r\n\t(HELO {_escaped(hello)})" if hello else ""
            hello = literal or "localhost"
        return f"from {hello} ({literal}){odd}" if literal else f"from {hello}{odd}"


def _escaped(name: str) -> str:
    """As one word of a comment, of bounded length."""
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
    """RFC 5322 §3.3; many messages come in one second."""
    return format_datetime(when)
