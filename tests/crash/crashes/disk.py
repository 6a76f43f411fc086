"""
The model: from the operations so far, what a disk may hold when the power goes.

README.rst says in words what it allows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from math import prod
from random import Random
from typing import NamedTuple

from crashes.operations import (
    Link,
    Make,
    Note,
    Operation,
    Rename,
    Resize,
    Sync,
    SyncAll,
    Unlink,
    Write,
)

#: What a disk writes whole or not at all.
SECTOR = 512
#: Files that only say, by a lock or while a machine runs, who is at it: two of their states do.
FEW = frozenset({"state", "open", "append", "retire", "postoffice.lock"})

Files = dict[int, bytes]
Folders = dict[int, dict[str, int]]


@dataclass
class Disk:
    """One state of a disk: its files and folders by number, and which folder is the root."""

    root: int
    files: Files = field(default_factory=dict)
    folders: Folders = field(default_factory=dict)

    def walk(self, folder: int | None = None, path: str = "") -> Iterator[tuple[str, int]]:
        """All that can be reached, folders before what is in them."""
        folder = self.root if folder is None else folder
        for name, number in sorted(self.folders.get(folder, {}).items()):
            yield f"{path}/{name}", number
            if number in self.folders:
                yield from self.walk(number, f"{path}/{name}")

    def key(self) -> int:
        """The same for disks that nobody can tell apart."""
        seen: dict[int, int] = {}
        facts = tuple(
            (path, seen.setdefault(number, len(seen)), self.files.get(number))
            for path, number in self.walk()
        )
        return hash(facts)

    def write(self, path: str) -> None:
        """Make it true, in a new folder."""
        os.mkdir(path)
        first: dict[int, str] = {}
        for name, number in self.walk():
            place = path + name
            if number in self.folders:
                os.mkdir(place, 0o700)
            elif number in first:
                os.link(first[number], place)
            else:
                first[number] = place
                fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                os.write(fd, self.files[number])
                os.close(fd)

    @classmethod
    def read(cls, path: str) -> Disk:
        """What a folder holds; numbers are inodes."""
        disk = cls(os.stat(path).st_ino)
        todo = [(path, disk.root)]
        while todo:
            folder, inode = todo.pop()
            names = disk.folders[inode] = {}
            with os.scandir(folder) as items:
                for item in items:
                    number = names[item.name] = item.inode()
                    if item.is_dir():
                        todo.append((item.path, number))
                    else:
                        with open(item.path, "rb") as file:
                            disk.files[number] = file.read()
        return disk


@dataclass(eq=False)
class Change:
    """Names that come (their numbers) or go (None), all at once or not at all."""

    names: list[tuple[int, str, int | None]]
    before: list[Change] = field(default_factory=list)  # of the same names, and what empties
    above: list[Change] = field(default_factory=list)  # those that made the folder

    @property
    def moves(self) -> bool:
        """Whether a name goes and another comes."""
        return len(self.names) > 1

    def do(self, folders: Folders) -> None:
        for folder, name, number in self.names:
            if number is None:
                folders[folder].pop(name, None)
            else:
                folders[folder][name] = number


class Choice(NamedTuple):
    """Which changes of names are on the disk, and which content of each file."""

    kept: tuple[int, ...]
    contents: tuple[int, ...]


class Model:
    """What is on the disk for sure, what everybody sees now, and what lies between."""

    def __init__(self, disk: Disk) -> None:
        self._numbers: dict[int, int] = {}  # whose an inode is now: they are used again
        self._next = -1
        self.now = Disk(disk.root, dict(disk.files), _copy(disk.folders))
        self._sure = Disk(disk.root, dict(disk.files), _copy(disk.folders))
        self._changes: list[Change] = []
        self._writes: dict[int, list[Write | Resize]] = {}
        self._lost: dict[int, list[Write | Resize]] = {}  # by a sync that failed, or not
        self._contents: dict[int, list[bytes]] = {}
        self._few = {number for path, number in disk.walk() if os.path.basename(path) in FEW}

    def do(self, operation: Operation) -> None:
        """One more."""
        match operation:
            case Make(folder, name, inode, is_folder):
                number = self._numbers[inode] = self._next
                self._next -= 1
                for disk in (self.now, self._sure):
                    if is_folder:
                        disk.folders[number] = {}
                    else:
                        disk.files[number] = b""
                if name in FEW:
                    self._few.add(number)
                self._change([(self._number(folder), name, number)])
            case Link(inode, folder, name):
                self._change([(self._number(folder), name, self._number(inode))])
            case Unlink(folder, name):
                self._change([(self._number(folder), name, None)])
            case Rename(folder, name, to_folder, to_name):
                here, there = self._number(folder), self._number(to_folder)
                number = self.now.folders[here][name]
                if self.now.folders[there].get(to_name) != number:  # else it does nothing
                    self._change([(here, name, None), (there, to_name, number)])
            case Write(inode, _, _) | Resize(inode, _):
                number = self._number(inode)
                self._writes.setdefault(number, []).append(operation)
                self._contents.pop(number, None)
                self.now.files[number] = _applied(self.now.files[number], [operation])
            case Sync(inode, _, failed):
                self._sync(self._number(inode), failed)
            case SyncAll(failed):
                for number in list(self._writes):
                    self._sync(number, failed)
                if not failed:
                    self._settle(self._changes)
            case Note():
                pass

    def _number(self, inode: int) -> int:
        return self._numbers.get(inode, inode)

    def _change(self, names: list[tuple[int, str, int | None]]) -> None:
        places = {name[:2] for name in names}
        folder = names[-1][0]
        change = Change(names)
        gone = None if change.moves else self.now.folders[folder].get(names[0][1])
        for earlier in self._changes:
            # a folder that goes (if it is one) is empty by then
            if any(name[:2] in places or name[0] == gone for name in earlier.names):
                change.before.append(earlier)
            if any(number == folder for _, _, number in earlier.names):
                change.above.append(earlier)
        change.do(self.now.folders)
        self._changes.append(change)

    def _sync(self, number: int, failed: bool) -> None:
        if number in self._sure.folders:
            if not failed:
                touched = [c for c in self._changes if any(name[0] == number for name in c.names)]
                self._settle(touched)
            return
        writes = self._writes.pop(number, [])
        lost = self._lost.get(number, [])
        if failed:
            lost = lost + writes
        else:
            # what was lost stays so, for the system has forgotten that it never wrote it
            self._sure.files[number] = _applied(self._sure.files[number], writes)
            lost = [left for one in lost for left in _without(one, writes)]
        self._lost[number] = lost
        self._contents.pop(number, None)

    def _settle(self, changes: list[Change]) -> None:
        # a folder that is synced may have no place yet itself; but nothing moves into such a one
        settled = set(changes)
        for change in changes:
            settled |= _with_all(change.before + (change.above if change.moves else []))
        for change in self._changes:
            if change in settled:
                change.do(self._sure.folders)
        self._changes = [change for change in self._changes if change not in settled]
        for change in self._changes:
            change.before = [one for one in change.before if one not in settled]
            change.above = [one for one in change.above if one not in settled]

    # -- what may be there -------------------------------------------------------

    def killed(self, next_one: Operation | None) -> Iterator[Disk]:
        """What a process leaves that was killed: all that it did, and half of a write."""
        yield Disk(self.now.root, dict(self.now.files), _copy(self.now.folders))
        if isinstance(next_one, Write) and len(next_one.octets) > 1:
            number = self._number(next_one.inode)
            half = Write(number, next_one.offset, next_one.octets[: len(next_one.octets) // 2])
            cut = _applied(self.now.files[number], [half])
            yield Disk(self.now.root, self.now.files | {number: cut}, _copy(self.now.folders))

    def unsure(self) -> dict[int, list[bytes]]:
        """What may be in each file that has octets which were not synced."""
        for number in self._writes.keys() | {one for one, lost in self._lost.items() if lost}:
            if number not in self._contents:
                self._contents[number] = self._may_hold(number)
        return dict(sorted(self._contents.items()))

    def plain(self, *, names: bool, octets: bool) -> Disk:
        """The state in which all that was not synced is there, or nothing."""
        files = self.now.files if octets else self._sure.files
        folders = self.now.folders if names else self._sure.folders
        return Disk(self.now.root, dict(files), _copy(folders))

    def count(self) -> int:
        """How many states there are, some of which nobody can tell apart."""
        return 2 ** len(self._changes) * prod(map(len, self.unsure().values()))

    def states(self, random: Random, most: int) -> Iterator[Disk]:
        """All states; or, where there are more than ``most``, of the plainest and of any."""
        contents = self.unsure()
        sizes = [len(some) for some in contents.values()]
        every = self.count() <= most
        for choice in self._all(sizes) if every else self._some(sizes, random, most):
            chosen = [one for one, keep in zip(self._changes, choice.kept, strict=True) if keep]
            settled = _with_all(chosen)
            if every and len(settled) > len(chosen):
                continue  # this is another choice, too
            folders = _copy(self._sure.folders)
            for change in self._changes:
                if change in settled:
                    change.do(folders)
            picked = zip(contents.items(), choice.contents, strict=True)
            files = {number: some[pick] for (number, some), pick in picked}
            yield Disk(self.now.root, self._sure.files | files, folders)

    def _all(self, sizes: list[int]) -> Iterator[Choice]:
        for kept in product((0, 1), repeat=len(self._changes)):
            for contents in product(*map(range, sizes)):
                yield Choice(kept, contents)

    def _some(self, sizes: list[int], random: Random, most: int) -> Iterator[Choice]:
        count = len(self._changes)

        def pick(number: int) -> tuple[int, ...]:
            return tuple(min(number, size - 1) for size in sizes)

        # all names or none, and each kind of content for all files
        plain = [
            Choice((keep,) * count, pick(number))
            for keep in (1, 0)
            for number in range(max(sizes, default=1))
        ]
        # one name alone is there, or alone is not, or the last that is; files are as they should
        # be, or as they were
        plain += [
            Choice(kept, pick(number))
            for one in range(count)
            for kept in (
                tuple(int(other != one) for other in range(count)),
                tuple(int(other == one) for other in range(count)),
                tuple(int(other <= one) for other in range(count)),
            )
            for number in (0, 1)
        ]
        # one file alone is not as it should be
        plain += [
            Choice((keep,) * count, (*pick(0)[:one], number, *pick(0)[one + 1 :]))
            for one, size in enumerate(sizes)
            for number in range(1, size)
            for keep in (1, 0)
        ]
        plain = random.sample(plain, min(len(plain), (most + 1) // 2))
        yield from plain
        for _ in range(most - len(plain)):
            yield Choice(
                tuple(random.randrange(2) for _ in range(count)),
                tuple(random.randrange(size) for size in sizes),
            )

    def _may_hold(self, number: int) -> list[bytes]:
        """All; nothing of what was not synced; zeros, too little, or a part of it."""
        sure, now = self._sure.files[number], self.now.files[number]
        if number in self._few:
            return list(dict.fromkeys([now, sure]))
        writes = [*self._lost.get(number, ()), *self._writes.get(number, ())]
        short = now[: (len(sure) + len(now)) // 2] if len(now) > len(sure) else sure
        partly = [_applied(sure, _in_part(writes, part)) for part in _PARTS]
        return list(dict.fromkeys([now, sure, *partly, short]))


def _zeros(octets: bytes) -> list[tuple[int, bytes]]:
    return [(0, bytes(len(octets)))]


def _first_half(octets: bytes) -> list[tuple[int, bytes]]:
    return [(0, octets[: len(octets) // 2])]


def _headless(octets: bytes) -> list[tuple[int, bytes]]:
    return [(SECTOR, octets[SECTOR:])] if len(octets) > SECTOR else []


def _every_other(octets: bytes) -> list[tuple[int, bytes]]:
    starts = range(SECTOR, len(octets), 2 * SECTOR)
    return [(start, octets[start : start + SECTOR]) for start in starts]


_PARTS = (_zeros, _headless, _first_half, _every_other)


def _in_part(
    writes: list[Write | Resize], part: Callable[[bytes], list[tuple[int, bytes]]]
) -> list[Write | Resize]:
    found: list[Write | Resize] = []
    for one in writes:
        if isinstance(one, Resize):
            found.append(one)
        else:
            found += [Write(one.inode, one.offset + at, octets) for at, octets in part(one.octets)]
    return found


def _applied(octets: bytes, writes: Iterable[Write | Resize]) -> bytes:
    found = bytearray(octets)
    for one in writes:
        end = one.size if isinstance(one, Resize) else one.offset + len(one.octets)
        if end > len(found):
            found += bytes(end - len(found))
        if isinstance(one, Resize):
            del found[end:]
        else:
            found[one.offset : end] = one.octets
    return bytes(found)


def _without(lost: Write | Resize, later: Iterable[Write | Resize]) -> list[Write | Resize]:
    """What is left of a lost write when others were written over it."""
    left = [lost]
    for one in later:
        if isinstance(one, Write):
            end = one.offset + len(one.octets)
            left = [rest for piece in left for rest in _outside(piece, one.offset, end)]
    return left


def _outside(piece: Write | Resize, start: int, end: int) -> list[Write | Resize]:
    if isinstance(piece, Resize):
        return [piece]
    octets, offset = piece.octets, piece.offset
    before = octets[: max(0, start - offset)]
    behind = octets[max(0, end - offset) :]
    pieces = [Write(piece.inode, offset, before)]
    pieces.append(Write(piece.inode, offset + len(octets) - len(behind), behind))
    return [one for one in pieces if one.octets]


def _with_all(changes: Iterable[Change]) -> set[Change]:
    """They, and all that is on the disk where they are."""
    found: set[Change] = set()
    todo = list(changes)
    while todo:
        change = todo.pop()
        if change not in found:
            found.add(change)
            todo += change.before + change.above
    return found


def _copy(folders: Folders) -> Folders:
    return {number: dict(names) for number, names in folders.items()}
