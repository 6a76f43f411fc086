"""What lies in a Maildir: listed, read and removed; nothing is believed before it was looked at."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from postoffice.errors import MessageGone
from postoffice.listing import Entry
from postoffice.maildrop import names
from postoffice.maildrop.files import failures, open_plain, sync_folder
from postoffice.maildrop.text import normal, size_on_the_wire

#: A directory's time must be this old to tell changes apart, in nanoseconds.
SETTLED = 20_000_000


class Sizes:
    """
    Sizes on the wire that had to be counted, remembered while the file stays the same.

    They go before what a file's name says: it may have been caught lying.
    """

    LIMIT = 100_000

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[int, int, int]] = {}

    def get(self, status: os.stat_result) -> int | None:
        """The size of a file that looks like this, if it is known."""
        known = self._known.get((status.st_dev, status.st_ino))
        if known is None or known[:2] != (status.st_size, status.st_mtime_ns):
            return None
        return known[2]

    def set(self, status: os.stat_result, size: int) -> None:
        """Remember."""
        if len(self._known) >= self.LIMIT:
            self._known.clear()
        self._known[status.st_dev, status.st_ino] = (status.st_size, status.st_mtime_ns, size)


@dataclass(frozen=True)
class Snapshot:
    """What lay in a maildrop, oldest first, and how its folders looked then."""

    entries: tuple[Entry, ...]
    stamp: tuple[int, ...] | None  # None: too fresh to tell a later change


class Listings:
    """The last snapshots of maildrops, for the next login; the least used ones go."""

    #: Entries that are kept, all together.
    LIMIT = 100_000

    def __init__(self) -> None:
        self._snapshots: OrderedDict[str, Snapshot] = OrderedDict()
        self._entries = 0

    def get(self, folder: str) -> Snapshot | None:
        """The last one of a maildrop, if it is still here."""
        return self._snapshots.get(folder)

    def remember(self, folder: str, snapshot: Snapshot) -> None:
        """Keep one; a snapshot too fresh to tell later changes is not kept."""
        self.forget(folder)
        if snapshot.stamp is None:
            return
        self._snapshots[folder] = snapshot
        self._entries += len(snapshot.entries)
        while self._entries > self.LIMIT:
            _, least = self._snapshots.popitem(last=False)
            self._entries -= len(least.entries)

    def forget(self, folder: str) -> None:
        """Keep none."""
        known = self._snapshots.pop(folder, None)
        if known is not None:
            self._entries -= len(known.entries)


def scan(folder: str, sizes: Sizes, remembered: Snapshot | None = None) -> Snapshot:
    """List a maildrop, or find that what is remembered still holds.  Raises TemporaryFailure."""
    with failures(folder):
        stamp = _stamp(folder)
        if remembered is not None and stamp is not None and remembered.stamp == stamp:
            return remembered
        found: dict[str, tuple[tuple[int, int, str], Entry]] = {}
        for box in ("new", "cur"):  # what moves on meanwhile is seen twice, and not missed
            for item in _messages(f"{folder}/{box}"):
                entry = _entry(box, item, sizes)
                if entry is None:
                    continue
                twin = found.get(entry.uidl)
                if twin is None or entry.name < twin[1].name:  # where it was last: in cur
                    mtime = 0.0 if item.name[:1].isdigit() else _mtime(item)
                    found[entry.uidl] = (names.order_of(item.name, mtime), entry)
        entries = tuple(entry for _, entry in sorted(found.values()))
        return Snapshot(entries, stamp if stamp == _stamp(folder) else None)


def _stamp(folder: str) -> tuple[int, ...] | None:
    looks = [os.stat(f"{folder}/{box}") for box in ("new", "cur")]
    if time.time_ns() - max(look.st_mtime_ns for look in looks) < SETTLED:
        return None
    return tuple(fact for look in looks for fact in (look.st_ino, look.st_mtime_ns))


def _messages(path: str) -> Iterator[os.DirEntry[str]]:
    """What may be a message: a regular file that is not hidden."""
    with os.scandir(path) as items:
        for item in items:
            if not item.name.startswith(".") and item.is_file(follow_symlinks=False):
                yield item


def _mtime(item: os.DirEntry[str]) -> float:
    with suppress(OSError):
        return item.stat(follow_symlinks=False).st_mtime
    return 0.0


def _entry(box: str, item: os.DirEntry[str], sizes: Sizes) -> Entry | None:
    """The entry of a file, its size looked up, read off its name, or counted; None: unreadable."""
    try:
        status = item.stat(follow_symlinks=False)
        size = sizes.get(status)
        if size is None:
            size = _believable(names.sizes_of(item.name), status.st_size)
        if size is None:
            size = _count(item.path, sizes)
    except OSError:
        return None
    uidl = names.uidl_of(names.unique_part(item.name))
    return Entry(uidl, size, f"{box}/{item.name}")


def _believable(said: names.Sizes, size: int) -> int | None:
    """The size on the wire that a name says, if a file of ``size`` octets can have it."""
    if said.file != size or said.wire is None:
        return None
    most = 2 * size + 2  # each octet could be an LF, or the last line have none
    return said.wire if size <= said.wire <= most else None


def _count(path: str, sizes: Sizes) -> int:
    fd, status = open_plain(path)
    try:
        size = size_on_the_wire(fd)
    finally:
        os.close(fd)
    sizes.set(status, size)
    return size


def open_text(folder: str, entry: Entry, sizes: Sizes) -> tuple[int, bool]:
    """
    Open a message that will be sent in exactly ``entry.size`` octets: its file, and if as it is.

    Raises MessageGone if it is not there, or is not what was listed; its
    right size is remembered for the next listing.
    """
    try:
        fd, status = _find(folder, entry)
    except OSError as error:
        raise MessageGone(f"{folder}/{entry.name}: {error}") from error
    try:
        ours = names.is_ours(os.path.basename(entry.name))
        if ours and status.st_size == entry.size and _ends_in_crlf(fd, status.st_size):
            return fd, True
        size = size_on_the_wire(fd)
        if size == entry.size:
            return fd, size == status.st_size  # converting adds octets, or changes nothing
        sizes.set(status, size)
        raise MessageGone(f"{folder}/{entry.name}: {size} octets, listed as {entry.size}")
    except OSError as error:
        os.close(fd)
        raise MessageGone(f"{folder}/{entry.name}: {error}") from error
    except BaseException:
        os.close(fd)
        raise


def _ends_in_crlf(fd: int, size: int) -> bool:
    return size == 0 or (size > 1 and os.pread(fd, 2, size - 2) == b"\r\n")


def _find(folder: str, entry: Entry) -> tuple[int, os.stat_result]:
    """Open a listed message, also where another program has renamed it since (flags)."""
    try:
        return open_plain(f"{folder}/{entry.name}")
    except FileNotFoundError:
        place = places(folder).get(entry.uidl)
        if place is None:
            raise
        return open_plain(f"{folder}/{place}")


def places(folder: str) -> dict[str, str]:
    """Where each message is now, by UIDL."""
    return {
        names.uidl_of(names.unique_part(item.name)): f"{box}/{item.name}"
        for box in ("new", "cur")
        for item in _messages(f"{folder}/{box}")
    }


def read_small(folder: str, entries: Sequence[Entry], sizes: Sizes) -> list[bytes | MessageGone]:
    """Small messages, whole, as they are sent; for each, what went wrong."""
    texts: list[bytes | MessageGone] = []
    for entry in entries:
        try:
            texts.append(_read_small(folder, entry, sizes))
        except MessageGone as gone:
            texts.append(gone)
        except OSError as error:
            texts.append(MessageGone(f"{folder}/{entry.name}: {error}"))
    return texts


def _read_small(folder: str, entry: Entry, sizes: Sizes) -> bytes:
    fd, status = _find(folder, entry)
    try:
        octets = os.read(fd, entry.size + 1)  # one more would be one too many
    finally:
        os.close(fd)
    text = normal(octets)
    if len(octets) == status.st_size and len(text) == entry.size:
        return text
    _count(f"{folder}/{entry.name}", sizes)
    raise MessageGone(f"{folder}/{entry.name}: not the {entry.size} octets that were listed")


def remove(folder: str, entries: Sequence[Entry]) -> None:
    """
    Remove messages, durable when it returns; what is gone already is removed.

    All that can be removed is.  Raises TemporaryFailure if some could not.
    """
    with failures(folder):
        wrong: OSError | None = None
        touched = set()
        now: dict[str, str] | None = None
        for entry in entries:
            place = entry.name
            try:
                try:
                    os.unlink(f"{folder}/{place}")
                except FileNotFoundError:
                    now = places(folder) if now is None else now
                    if entry.uidl not in now:
                        continue
                    place = now[entry.uidl]
                    os.unlink(f"{folder}/{place}")
                touched.add(place.partition("/")[0])
            except FileNotFoundError:
                continue
            except OSError as error:
                wrong = error
        for box in touched:
            sync_folder(f"{folder}/{box}")
        if wrong is not None:
            raise wrong
