"""The questions of a POP3 session.  Each docstring ends with the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from postoffice.model.errors import PostOfficeError
from postoffice.model.listing import Entry, Listing
from postoffice.pop3.options import SessionOptions
from postoffice.protocol.line_session import Secure
from postoffice.protocol.sasl import Prove, SaltOf
from postoffice.protocol.scram import Salt
from postoffice.protocol.wire import Yield


class Entered(NamedTuple):
    """The maildrop is open and locked; the session goes on with these options."""

    listing: Listing
    options: SessionOptions


@dataclass(frozen=True)
class Announce:
    """What does CAPA announce before a login?  SessionOptions, or a failure."""


@dataclass(frozen=True)
class Enter:
    """
    Complete the login that was proved last, and open the maildrop.

    Entered, or a failure.
    """


class Fetch(NamedTuple):
    """Open a message's text.  Its first octets, or a failure."""

    entry: Entry


@dataclass(frozen=True)
class More:
    """Read more of the text.  The next octets, or a failure."""


@dataclass(frozen=True)
class Enough:
    """Close the text; not asked if Fetch returned all of it.  None."""


@dataclass(frozen=True)
class Update:
    """
    QUIT: remove ``entries`` and release the lock.  How many were removed, or a failure.

    ``collected`` are the messages that RETR sent completely and that are not marked
    deleted; the account's policy may remove them, too.
    """

    entries: tuple[Entry, ...]
    collected: tuple[Entry, ...] = ()


Question = Secure | SaltOf | Prove | Announce | Enter | Fetch | More | Enough | Update | Yield
Answer = SessionOptions | Salt | Entered | bytes | int | PostOfficeError | None
