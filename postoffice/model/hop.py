"""What one attempt to send needs and gives: a host, a transaction, and the peer's replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from postoffice.model.dataclass import dataclass
from postoffice.model.queued_message import QueuedRecipient

#: How a connection to another server is encrypted, the weakest first: never; if the server can; it
#: must, with any certificate; it must, with a certificate that fits the host's name.
NONE, OPPORTUNISTIC, ENCRYPT, VERIFY = LEVELS = ("none", "opportunistic", "encrypt", "verify")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """
    One host to try, at one address.

    ``host`` is its name: for SNI, for its certificate and the log.  ``address`` is an IP address,
    or the path of a UNIX socket.  ``implicit`` is TLS from the first octet.
    ``secure``: DNSSEC says that the domain names this host, and that this is its address; where
    DANE (RFC 7672) is done, it asks for TLSA records of these only.  ``chosen``: the administrator
    has named it, not a domain: what it has against us is for the administrator to mend.
    """

    host: str
    address: str
    port: int = 25
    lmtp: bool = False
    level: str = OPPORTUNISTIC
    implicit: bool = False
    secure: bool = False
    chosen: bool = False
    login: str = ""
    password: str = field(default="", repr=False)

    @property
    def is_unix(self) -> bool:
        """Whether the address is a path."""
        return self.address.startswith("/")

    @property
    def shown(self) -> str:
        """The host, for people and the log."""
        return self.address if self.is_unix else f"{self.host}[{self.address}]:{self.port}"


#: The phase of a refusal of our own; and of what is wrong with our login.
CHECK, AUTH = "check", "auth"


@dataclass(frozen=True, slots=True)
class PeerReply:
    """
    What a server answered, or what kept it from that (``code`` 0).

    ``status`` is the enhanced status code (RFC 3463) or "".  ``text`` is one line, printable.
    ``phase`` is connect, tls, greeting, hello, auth, mail, rcpt, data or end; or check (CHECK)
    where we did not ask the server, because what it offers does not fit the message.
    """

    code: int
    status: str
    text: str
    phase: str

    @property
    def sent(self) -> bool:
        """Whether the server has taken it."""
        return 200 <= self.code < 300

    @property
    def permanent(self) -> bool:
        """Whether another attempt would be in vain."""
        return 500 <= self.code < 600 and not self.ours

    @property
    def refused(self) -> bool:
        """True if the server refused, or lacks what we need; False for a lost connection."""
        return self.code >= 500 or bool(not self.code and self.status)

    @property
    def ours(self) -> bool:
        """Whether our login is refused: the administrator has to mend it, and mail waits."""
        return self.phase == AUTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """
    One message to recipients of one domain.

    ``recipients`` are at most 50.  ``sender`` is the reverse-path that is sent (after SRS).
    ``size`` are octets.  ``utf8``: the header fields need SMTPUTF8, so that all recipients need it;
    those whose own address needs it need not be named here.
    """

    id: str
    sender: str
    recipients: Sequence[QueuedRecipient]
    size: int
    utf8: bool = False
    eight_bit: bool = False
    requiretls: bool = False
    ret: str = ""
    envid: str = ""


@dataclass(slots=True)
class Result:
    """
    How a transaction ended: a reply for each recipient, in order.

    ``postponed`` are indexes of recipients that the server wants in a transaction of their own
    (452 4.5.3, RFC 5321 §4.5.3.1.10).  ``usable`` is whether the connection can take another
    transaction.  ``begun`` is false where a connection that had served other transactions was lost
    before the server answered MAIL: that says nothing about the message, which can be tried at once
    on another connection.  ``dsn``: the server has the DSN extension, and got its parameters.
    ``times`` are seconds: waited, connecting, and sending.
    """

    replies: list[PeerReply]
    postponed: frozenset[int] = frozenset()
    usable: bool = False
    begun: bool = True
    dsn: bool = False
    tls: str = ""
    times: tuple[float, float, float] = (0.0, 0.0, 0.0)
