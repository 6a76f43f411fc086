"""What an SMTP session asks of the outside: the only way out of the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postoffice.model.address import Address
from postoffice.model.errors import PostOfficeError
from postoffice.model.reply import Reply
from postoffice.protocol.line_session import Secure
from postoffice.protocol.sasl import Prove, SaltOf
from postoffice.protocol.scram import Salt
from postoffice.protocol.wire import Yield
from postoffice.smtp.options import SessionOptions


@dataclass(frozen=True)
class Connect:
    """May this client be here at all?  None, or why not: it is told, and shown out."""


@dataclass(frozen=True)
class Hello:
    """It calls itself so.  None, or a refusal."""

    name: str


@dataclass(frozen=True)
class Enter:
    """The exchange is over: whoever proved it last is the client from now on.  None."""


@dataclass(frozen=True)
class Impersonate:
    """XCLIENT: this is the real client.  The terms for it, or a refusal."""

    address: str | None
    port: int


@dataclass(frozen=True)
class Pause:
    """Wait for so many seconds.  None."""

    seconds: float


@dataclass(frozen=True)
class Mail:
    """May this sender post?  A Reply.  ``protocol`` as in RFC 3848 and 6531."""

    sender: Address | None
    size: int
    utf8: bool
    hello: str
    protocol: str


@dataclass(frozen=True)
class Recipient:
    """May this one have it?  A Reply.  None is ``<Postmaster>``."""

    address: Address | None


@dataclass(frozen=True)
class Begin:
    """DATA, or the first BDAT: can the text come?  None, or what is in the way."""


@dataclass(frozen=True)
class Text:
    """More of the text.  None, or what went wrong."""

    octets: bytes


@dataclass(frozen=True)
class End:
    """The text is whole: a Reply; over LMTP one for each recipient that was accepted."""


@dataclass(frozen=True)
class Abort:
    """Forget the sender, the recipients and any text.  None."""


Question = (
    Connect
    | Hello
    | Secure
    | SaltOf
    | Prove
    | Enter
    | Impersonate
    | Pause
    | Mail
    | Recipient
    | Begin
    | Text
    | End
    | Abort
    | Yield
)
Answer = Reply | PostOfficeError | Sequence[Reply] | Salt | SessionOptions | None
