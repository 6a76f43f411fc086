"""The questions of an SMTP session; each is a ``Question`` of the type of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postoffice.model.address import Address
from postoffice.model.envelope import DeliveryStatus, Notify
from postoffice.model.reply import Reply
from postoffice.protocol.questions import Question, Secure
from postoffice.protocol.sasl import Prove, SaltOf
from postoffice.protocol.scram import Salt
from postoffice.smtp.options import SMTPOptions


@dataclass(slots=True)
class Connect(Question[Reply | None]):
    """May this client connect?  None, or a refusal, with which the session ends."""


@dataclass(slots=True)
class Hello(Question[Reply | None]):
    """The client has sent EHLO or HELO with this name.  None, or a refusal."""

    name: str


@dataclass(slots=True)
class Enter(Question[None]):
    """The AUTH exchange is over: complete the login that was proved last."""


@dataclass(slots=True)
class Impersonate(Question[SMTPOptions]):
    """XCLIENT: this is the real client.  Its SMTPOptions."""

    address: str | None
    port: int


@dataclass(slots=True)
class Pause(Question[None]):
    """Wait for some seconds."""

    seconds: float


@dataclass(slots=True)
class Mail(Question[Reply]):
    """
    MAIL: may this sender send?  A Reply.

    ``sender`` None is the null reverse-path; ``size`` 0 means none was declared.
    ``protocol`` is a name of RFC 3848 or 6531.  ``status`` is None without RET and ENVID.
    ``eight_bit``: BODY=8BITMIME was given; ``requiretls``: REQUIRETLS was (RFC 8689).
    """

    sender: Address | None
    size: int = 0
    utf8: bool = False
    hello: str = ""
    protocol: str = "SMTP"
    status: DeliveryStatus | None = None
    eight_bit: bool = False
    requiretls: bool = False


@dataclass(slots=True)
class Recipient(Question[Reply]):
    """
    RCPT: may this recipient get it?  A Reply.

    Address None is ``<Postmaster>``.  ``notify`` is None without NOTIFY and ORCPT.
    """

    address: Address | None
    notify: Notify | None = None


@dataclass(slots=True)
class Begin(Question[None]):
    """DATA, or the first BDAT: can the text come?"""


@dataclass(slots=True)
class Text(Question[None]):
    """More of the text."""

    octets: bytes


@dataclass(slots=True)
class End(Question[Reply | Sequence[Reply]]):
    """The text is complete.  A Reply; over LMTP one for each accepted recipient."""


@dataclass(slots=True)
class Abort(Question[None]):
    """Discard the transaction: sender, recipients and text."""


#: What a session asks about the client, and about a message.
ClientQuestion = Connect | Hello | Secure | SaltOf | Prove | Enter | Impersonate | Pause
MessageQuestion = Mail | Recipient | Begin | Text | End | Abort
SMTPQuestion = ClientQuestion | MessageQuestion
Answer = Reply | Sequence[Reply] | Salt | SMTPOptions | None
