"""The questions of a POP3 session; each is a ``Question`` of the type of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from postoffice.model.listing import Entry, Listing
from postoffice.pop3.options import POP3Options
from postoffice.protocol.questions import Question, Secure
from postoffice.protocol.sasl import Prove, SaltOf
from postoffice.protocol.scram import Salt


class Entered(NamedTuple):
    """The maildrop is open and locked; the session goes on with these options."""

    listing: Listing
    options: POP3Options


@dataclass(slots=True)
class Announce(Question[POP3Options]):
    """What does CAPA announce before a login?"""


@dataclass(slots=True)
class Enter(Question[Entered]):
    """Complete the login that was proved last, and open the maildrop."""


@dataclass(slots=True)
class Fetch(Question[Sequence[bytes]]):
    """
    Open a message's text: its first octets.

    If these are all of it, the whole texts of the messages after it may follow, as many as
    were read with it.
    """

    entry: Entry


@dataclass(slots=True)
class More(Question[bytes]):
    """Read more of the text: the next octets."""


@dataclass(slots=True)
class Enough(Question[None]):
    """Close the text; not asked if Fetch returned all of it."""


@dataclass(slots=True)
class Update(Question[int]):
    """
    QUIT: remove ``entries`` and release the lock.  How many were removed?

    ``collected`` are the messages that RETR sent completely and that are not marked
    deleted; the account's policy may remove them, too.
    """

    entries: Sequence[Entry]
    collected: Sequence[Entry] = ()


POP3Question = Secure | SaltOf | Prove | Announce | Enter | Fetch | More | Enough | Update
Answer = POP3Options | Salt | Entered | Sequence[bytes] | bytes | int | None
