"""The commands of a POP3 client, and the events that their replies cause."""

from __future__ import annotations

from typing import NamedTuple

from postoffice.pop3.client_reply import ClientReply

#: Octets that a list (UIDL, LIST), a reply to CAPA, and a message may have.
LIST_MAXIMUM, CAPA_MAXIMUM, TEXT_MAXIMUM = 128 << 20, 64 << 10, 1 << 30
#: Lines that a list may have: each takes memory.
LINES_MAXIMUM = 2_000_000


class Command(NamedTuple):
    """
    A command; ``most`` is how many octets its text may have, 0 if +OK is one line.

    ``number`` is a message's, 0 for none; ``lines`` is the second number of TOP.
    """

    verb: str
    number: int = 0
    lines: int = -1
    most: int = 0

    def __bytes__(self) -> bytes:
        words = [self.verb]
        if self.number:
            words.append(str(self.number))
        if self.lines >= 0:
            words.append(str(self.lines))
        return " ".join(words).encode() + b"\r\n"


STAT = Command("STAT")
UIDL, LIST = Command("UIDL", most=LIST_MAXIMUM), Command("LIST", most=LIST_MAXIMUM)
CAPA = Command("CAPA", most=CAPA_MAXIMUM)


def retr(number: int, most: int = TEXT_MAXIMUM) -> Command:
    """A whole message."""
    return Command("RETR", number, most=most)


def top(number: int, lines: int = 0, most: int = TEXT_MAXIMUM) -> Command:
    """A message's header, and so many lines of its body."""
    return Command("TOP", number, lines, most)


def dele(number: int) -> Command:
    """Mark a message as deleted; it is removed at QUIT."""
    return Command("DELE", number)


class TextPiece(NamedTuple):
    """The next octets of the text that a command asked for, dot-stuffing undone."""

    command: Command
    octets: bytes


class Ended(NamedTuple):
    """A command's reply is complete: what its first line said."""

    command: Command
    reply: ClientReply


Event = TextPiece | Ended
