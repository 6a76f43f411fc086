"""A maildrop's numbered snapshot, for STAT, LIST, UIDL and DELE (RFC 1939 §4, §5)."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, compress, count
from typing import NamedTuple, TypeVar, overload

T = TypeVar("T")
#: With up to so many entries, handling each is faster than handling whole columns.
FEW = 100


class Entry(NamedTuple):
    """
    One message: its UIDL, its size, and its name in the store.

    ``size`` is octets as sent: CRLF line ends, before dot-stuffing (RFC 1939 §11).
    ``uidl`` has 1 to 70 characters of 0x21 to 0x7E and is never used again
    (RFC 1939 §7).

    ``downgraded`` is the size after conversion for clients without UTF-8 (RFC 6856
    §2.1, ``protocol.downgrade``); None or 0 if the message needs no conversion.
    """

    uidl: str
    size: int
    name: str = ""
    downgraded: int | None = None


class Indexed(Entry):
    """An entry with its index in its ``Entries``, from 0."""

    position: int


class Entries(Sequence[Entry]):
    """
    An immutable sequence of entries, packed for large maildrops.

    It needs a quarter of the memory of a list of objects: all names are stored in
    one text, and a UIDL is a slice of its name if possible.  An item is made when it
    is accessed, and is an ``Indexed``.
    """

    __slots__ = (
        "_starts",
        "_stops",
        "_text",
        "_uidl_starts",
        "_uidl_stops",
        "downgraded",
        "octets",
        "sizes",
    )

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        text = bytearray()
        # where each name, and each UIDL, starts and stops in the text
        self._starts, self._stops = array("I"), array("I")
        self._uidl_starts, self._uidl_stops = array("I"), array("I")
        #: The size of each entry, in order.
        self.sizes = array("Q")
        #: ``Entry.downgraded`` by index, for the entries that have one.
        self.downgraded: dict[int, int] = {}
        for position, entry in enumerate(entries):
            name, uidl = entry.name.encode("utf-8", "surrogatepass"), entry.uidl.encode("ascii")
            start = len(text)
            text += name
            self._starts.append(start)
            self._stops.append(len(text))
            within = name.find(uidl)
            if within < 0:
                within = len(name)
                text += uidl
            self._uidl_starts.append(start + within)
            self._uidl_stops.append(start + within + len(uidl))
            self.sizes.append(entry.size)
            if entry.downgraded is not None:
                self.downgraded[position] = entry.downgraded
        self._text = bytes(text)
        #: The sum of all sizes.
        self.octets = sum(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, position: int) -> Entry: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Entry]: ...
    def __getitem__(self, position: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(position, slice):
            return [self._entry(one) for one in range(len(self.sizes))[position]]
        if 0 <= position < len(self.sizes):
            return self._entry(position)
        return self._entry(range(len(self.sizes))[position])

    def __iter__(self) -> Iterator[Entry]:
        return map(self._entry, range(len(self.sizes)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence):
            return len(self) == len(other) and all(map(tuple.__eq__, self, other))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _entry(self, position: int) -> Entry:
        text = self._text
        entry = tuple.__new__(
            Indexed,
            (
                text[self._uidl_starts[position] : self._uidl_stops[position]].decode("ascii"),
                self.sizes[position],
                text[self._starts[position] : self._stops[position]].decode(
                    "utf-8", "surrogatepass"
                ),
                self.downgraded.get(position),
            ),
        )
        entry.position = position
        return entry

    def names(self) -> Iterator[str]:
        """The name of each entry, in order."""
        texts = map(self._text.__getitem__, map(slice, self._starts, self._stops))
        return (text.decode("utf-8", "surrogatepass") for text in texts)

    def changed(self, gone: Collection[int], fresh: Iterable[Entry]) -> Entries:
        """A copy without the entries at the indices ``gone``, and with ``fresh`` ones appended."""
        if len(self) <= FEW:
            left = set(range(len(self))).difference(gone)
            return Entries(chain(map(self._entry, sorted(left)), fresh))
        before = self
        if gone:
            stays = bytearray(b"\1") * len(self)
            for position in gone:
                stays[position] = 0
            before = self.only(stays)
            needed = sum(before._uidl_stops) - sum(before._starts)
            if 2 * needed <= len(before._text):
                before = Entries(before)  # without the names of those that are gone
        added = Entries(fresh)
        if not added:
            return before
        both, offset = Entries(), len(before._text)
        both._text = before._text + added._text
        for column in ("_starts", "_stops", "_uidl_starts", "_uidl_stops"):
            shifted = array("I", map(offset.__add__, getattr(added, column)))
            setattr(both, column, getattr(before, column) + shifted)
        both.sizes = before.sizes + added.sizes
        both.octets = before.octets + added.octets
        moved = ((len(before) + position, size) for position, size in added.downgraded.items())
        both.downgraded = before.downgraded | dict(moved)
        return both

    def only(self, stays: bytes | bytearray) -> Entries:
        """A copy with the entries for which ``stays`` has no 0; its text keeps the other names."""
        left = Entries()
        left._text = self._text
        for column in ("_starts", "_stops", "_uidl_starts", "_uidl_stops"):
            setattr(left, column, array("I", compress(getattr(self, column), stays)))
        left.sizes = array("Q", compress(self.sizes, stays))
        left.octets = sum(left.sizes)
        if self.downgraded:
            places = {old: new for new, old in enumerate(compress(count(), stays))}
            left.downgraded = {
                places[position]: size
                for position, size in self.downgraded.items()
                if stays[position]
            }
        return left

    def uidls(self) -> Iterator[bytes]:
        """The UIDL of each entry, in order."""
        return map(self._text.__getitem__, map(slice, self._uidl_starts, self._uidl_stops))

    @property
    def weight(self) -> int:
        """About how many octets of memory this object needs."""
        return 500 + len(self._text) + 24 * len(self.sizes) + 100 * len(self.downgraded)


def uidls_of(entries: Sequence[Entry]) -> list[str]:
    """The UIDL of each entry; an ``Entries`` does not make the entries for this."""
    if isinstance(entries, Entries):
        return [uidl.decode("ascii") for uidl in entries.uidls()]
    return [entry.uidl for entry in entries]


#: Marks: what a session did with a message (bits).
_DELETED, _COLLECTED = 1, 2
#: Tables for ``bytes.translate``: messages that are not deleted; deleted; collected, not deleted.
_LEFT = bytes(not mark & _DELETED for mark in range(256))
_MARKED = bytes(mark & _DELETED for mark in range(256))
_KEPT = bytes(mark == _COLLECTED for mark in range(256))
#: … and a table that clears the deletion marks.
_RESET = bytes(mark & ~_DELETED for mark in range(256))


class Listing:
    """
    The messages of a maildrop at login, numbered from 1, and the session's marks on them.

    ``entries`` never changes and may be shared between sessions; large maildrops
    use ``Entries``.
    """

    __slots__ = ("_deleted", "_marks", "_octets", "_sizes", "entries", "octets")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self._sizes: Sequence[int]
        if isinstance(entries, Entries):
            self._sizes, self._octets = entries.sizes, entries.octets
        else:
            self._sizes = [entry.size for entry in entries]
            self._octets = sum(self._sizes)
        #: The sum of the sizes of all messages that are not marked deleted.
        self.octets = self._octets
        self._deleted = 0
        self._marks = bytearray()  # one for each message, once one has a mark

    def __len__(self) -> int:
        """How many messages are not marked deleted."""
        return len(self._sizes) - self._deleted

    def downgrade(self) -> None:
        """Use the sizes for a client without UTF-8; call this before any message is marked."""
        other = {position: size for position, size in self._all_downgraded() if size}
        if other:
            self._sizes = array("Q", self._sizes)
            for position, size in other.items():
                self._sizes[position] = size
            self.octets = self._octets = sum(self._sizes)

    def _all_downgraded(self) -> Iterable[tuple[int, int]]:
        if isinstance(self.entries, Entries):
            return self.entries.downgraded.items()
        return ((position, entry.downgraded or 0) for position, entry in enumerate(self.entries))

    def has(self, number: int) -> bool:
        """Whether there is a message ``number`` that is not marked deleted."""
        return 1 <= number <= len(self._sizes) and not (
            self._deleted and self._marks[number - 1] & _DELETED
        )

    def size(self, number: int) -> int:
        """The size of a message as this client gets it."""
        return self._sizes[number - 1]

    def delete(self, number: int) -> None:
        """Mark message ``number`` deleted (``has`` must have said so); QUIT removes it."""
        self._mark(number, _DELETED)
        self._deleted += 1
        self.octets -= self._sizes[number - 1]

    def reset(self) -> None:
        """Remove all deletion marks (RSET)."""
        self._marks = self._marks.translate(_RESET)
        self._deleted = 0
        self.octets = self._octets

    def sizes(self) -> Iterator[tuple[int, int]]:
        """The number and the size of each message that is not marked deleted."""
        return self._left(zip(count(1), self._sizes, strict=False))

    def uidls(self) -> Iterator[tuple[int, bytes]]:
        """The number and the UIDL of each message that is not marked deleted."""
        if isinstance(self.entries, Entries):
            return self._left(zip(count(1), self.entries.uidls(), strict=False))
        uidls = (entry.uidl.encode("ascii") for entry in self.entries)
        return self._left(zip(count(1), uidls, strict=False))

    def _left(self, all_of_them: Iterator[T]) -> Iterator[T]:
        if not self._deleted:
            return all_of_them
        return compress(all_of_them, self._marks.translate(_LEFT))

    def collect(self, number: int) -> None:
        """Mark message ``number`` as sent completely."""
        self._mark(number, _COLLECTED)

    def collected(self) -> Sequence[Entry]:
        """The messages that were sent completely and are not marked deleted, in order."""
        return self._those(_KEPT)

    def marked(self) -> Sequence[Entry]:
        """The messages that are marked deleted, in order."""
        return self._those(_MARKED)

    def _mark(self, number: int, mark: int) -> None:
        if not self._marks:
            self._marks = bytearray(len(self._sizes))
        self._marks[number - 1] |= mark

    def _those(self, chosen: bytes) -> Sequence[Entry]:
        marks = self._marks.translate(chosen)
        places = list(compress(count(), marks))
        # much faster than making each, unless they are few of many
        if 8 * len(places) > len(marks) + FEW and isinstance(self.entries, Entries):
            return self.entries.only(marks)
        return [self.entries[position] for position in places]
