"""What a POP3 session asks of the outside: the only way out of the rules."""

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
    """The maildrop is open, and locked; on these terms its owner is here."""

    listing: Listing
    options: SessionOptions


@dataclass(frozen=True)
class Announce:
    """What is told to a client that nobody knows yet?  Terms that say so, or what went wrong."""


@dataclass(frozen=True)
class Enter:
    """
    Whoever proved it last is the client from now on: open the maildrop.

    Entered, or what is in the way.
    """


class Fetch(NamedTuple):
    """A message's text: its first octets, or what is in the way."""

    entry: Entry


@dataclass(frozen=True)
class More:
    """Its next octets, or what is in the way."""


@dataclass(frozen=True)
class Enough:
    """No more of it; not asked where the first octets were all.  None."""


@dataclass(frozen=True)
class Update:
    """
    QUIT: remove these, and give the lock back.  How many are gone, or what went wrong.

    ``collected`` are those that were sent whole, by RETR, and were not marked;
    of these, too, some may go.
    """

    entries: tuple[Entry, ...]
    collected: tuple[Entry, ...] = ()


Question = Secure | SaltOf | Prove | Announce | Enter | Fetch | More | Enough | Update | Yield
Answer = SessionOptions | Salt | Entered | bytes | int | PostOfficeError | None
