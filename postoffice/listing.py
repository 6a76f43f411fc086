"""The numbered snapshot of a maildrop, behind STAT, LIST, UIDL and DELE (RFC 1939 §4, §5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Entry(NamedTuple):
    """
    One message: its UIDL, its size and the store's own name for it.

    ``size`` is octets as they will be sent: CRLF line ends, before
    dot-stuffing (RFC 1939 §11).  ``uidl`` has 1 to 70 characters of 0x21 to
    0x7E and is never used again (RFC 1939 §7).  ``name`` is the store's.

    ``downgraded`` is the size for clients without UTF-8 (RFC 6856 §2.1), as
    ``downgrading.messages`` tells it: None where they get the same octets, 0
    where they can get none.
    """

    uidl: str
    size: int
    name: str = ""
    downgraded: int | None = None


class Listing:
    """
    What a maildrop held at login, numbered from 1, and what the session did with it.

    ``entries`` may be shared between sessions and never changes.
    """

    __slots__ = ("_collected", "_deleted", "_downgraded", "entries", "octets")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        #: The size of all messages that are not marked deleted.
        self.octets = sum(entry.size for entry in entries)
        self._downgraded = False
        self._deleted: set[int] = set()
        self._collected: set[int] = set()

    def __len__(self) -> int:
        """How many messages are not marked deleted."""
        return len(self.entries) - len(self._deleted)

    def downgrade(self) -> None:
        """The client knows no UTF-8: sizes are of what it will get; to be called first."""
        self._downgraded = any(entry.downgraded for entry in self.entries)
        if self._downgraded:
            self.octets = sum(map(self.size, self.entries))

    def size(self, entry: Entry) -> int:
        """How many octets a message will have, for this client."""
        return (entry.downgraded or entry.size) if self._downgraded else entry.size

    def get(self, number: int) -> Entry | None:
        """Message ``number``, or None if there is none or it is marked deleted."""
        if number in self._deleted or not 1 <= number <= len(self.entries):
            return None
        return self.entries[number - 1]

    def delete(self, number: int) -> None:
        """Mark message ``number``, which ``get`` has given; it is removed at QUIT and only then."""
        self._deleted.add(number)
        self.octets -= self.size(self.entries[number - 1])

    def reset(self) -> None:
        """Take back all marks (RSET)."""
        self.octets += sum(self.size(self.entries[number - 1]) for number in self._deleted)
        self._deleted.clear()

    def numbered(self) -> Iterator[tuple[int, Entry]]:
        """The messages that are not marked deleted, with their numbers."""
        deleted = self._deleted
        return (pair for pair in enumerate(self.entries, 1) if pair[0] not in deleted)

    def collect(self, number: int) -> None:
        """Message ``number`` was sent whole."""
        self._collected.add(number)

    def collected(self) -> list[Entry]:
        """The messages that were sent whole, and are not marked deleted, in their order."""
        return [self.entries[number - 1] for number in sorted(self._collected - self._deleted)]

    def marked(self) -> list[Entry]:
        """The messages that are marked deleted, in their order."""
        return [self.entries[number - 1] for number in sorted(self._deleted)]
