"""One attempt to send: the host, the transaction, and the replies of the other server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    ``secure``: DNSSEC has validated that this is a host of the domain, and that this is its
    address (DANE, RFC 7672, would ask for TLSA records only then).  ``chosen``: the configuration
    names the host, not the DNS; so if it refuses us, the administrator has to mend that.
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


#: Phases: we refuse to send, without asking the server; the server refuses our login.
CHECK, AUTH = "check", "auth"


@dataclass(frozen=True, slots=True)
class PeerReply:
    """
    What a server answered; or, with ``code`` 0, why there is no answer.

    ``status`` is the enhanced status code (RFC 3463) or "".  ``text`` is one line, printable.
    ``phase`` is connect, tls, greeting, hello, auth, mail, rcpt, data or end; or CHECK if the
    server was not asked, because it does not offer what the message needs.
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
        """Whether another attempt makes no sense."""
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
    ``size`` is in octets.  ``utf8``: the header needs SMTPUTF8, and so all recipients do.  It says
    nothing about recipients whose own address needs it.
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
    transaction.  ``begun`` is False if the connection, which had served other transactions, was
    lost before the server answered MAIL: then the message can be tried at once on another
    connection.  ``dsn``: the server has the DSN extension, and got its parameters.
    ``times`` are seconds: waited, connecting, and sending.
    """

    replies: list[PeerReply]
    postponed: frozenset[int] = frozenset()
    usable: bool = False
    begun: bool = True
    dsn: bool = False
    tls: str = ""
    times: tuple[float, float, float] = (0.0, 0.0, 0.0)
