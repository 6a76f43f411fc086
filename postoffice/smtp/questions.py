"""The questions of an SMTP session.  Each docstring ends with the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postoffice.model.address import Address
from postoffice.model.errors import PostOfficeError
from postoffice.model.reply import Reply
from postoffice.protocol.line_session import Secure
from postoffice.protocol.sasl import Prove, SaltOf
from postoffice.protocol.scram import Salt
from postoffice.smtp.options import SessionOptions


@dataclass(slots=True)
class Connect:
    """May this client connect?  None, or a refusal, with which the session ends."""


@dataclass(slots=True)
class Hello:
    """The client has sent EHLO or HELO with this name.  None, or a refusal."""

    name: str


@dataclass(slots=True)
class Enter:
    """The AUTH exchange is over: complete the login that was proved last.  None."""


@dataclass(slots=True)
class Impersonate:
    """XCLIENT: this is the real client.  Its SessionOptions, or a refusal."""

    address: str | None
    port: int


@dataclass(slots=True)
class Pause:
    """Wait for some seconds.  None."""

    seconds: float


@dataclass(slots=True)
class Mail:
    """MAIL: may this sender send?  A Reply.  ``protocol`` is a name of RFC 3848 or 6531."""

    sender: Address | None
    size: int
    utf8: bool
    hello: str
    protocol: str


@dataclass(slots=True)
class Recipient:
    """RCPT: may this recipient get it?  A Reply.  Address None is ``<Postmaster>``."""

    address: Address | None


@dataclass(slots=True)
class Begin:
    """DATA, or the first BDAT: can the text come?  None, or a failure."""


@dataclass(slots=True)
class Text:
    """More of the text.  None, or a failure."""

    octets: bytes


@dataclass(slots=True)
class End:
    """The text is complete.  A Reply; over LMTP one for each accepted recipient."""


@dataclass(slots=True)
class Abort:
    """Discard the transaction: sender, recipients and text.  None."""


#: What a session asks about the client, and about a message.
ClientQuestion = Connect | Hello | Secure | SaltOf | Prove | Enter | Impersonate | Pause
MessageQuestion = Mail | Recipient | Begin | Text | End | Abort
Question = ClientQuestion | MessageQuestion
Answer = Reply | PostOfficeError | Sequence[Reply] | Salt | SessionOptions | None
