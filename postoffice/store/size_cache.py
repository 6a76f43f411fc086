"""Sizes of other programs' messages, kept in a file of the maildrop.  Blocking."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import get_ident

from postoffice.store.files import open_own, open_plain
from postoffice.store.names import DOWNGRADED, Measured
from postoffice.util.atomic_file import replacing

FILE = "postoffice.sizes"
#: The most octets of the file that are read: some hundred thousand messages.
MAXIMUM = 32 << 20
#: Up to so many lines of removed messages stay in the file.
SPARE = 1000

_Stamp = tuple[int, int, int]  # inode, octets, time of the last change


class SizeCache:
    """
    The size cache of one maildrop; its file is read when first needed.

    A line has a message file's inode, octets and mtime; then its octets on the
    wire, and those of its downgraded form for clients without UTF-8, after the letter
    that file names use for it (``-``: the same).  The file is derived: a missing, wrong or
    outdated line is measured again.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._before: dict[_Stamp, Measured] | None = None
        self._now: dict[_Stamp, Measured] = {}  # what was asked for, and what is new
        self._fresh = False

    def get(self, status: os.stat_result) -> Measured | None:
        """The sizes of a file with this status, or None."""
        measured = self._all().get(_stamp(status))
        if measured is not None:
            self._now[_stamp(status)] = measured
        return measured

    def set(self, status: os.stat_result, measured: Measured) -> None:
        """Keep the sizes of a file."""
        self._now[_stamp(status)] = measured
        self._fresh = True

    def keep(self, messages: int) -> None:
        """
        Write the file if anything is new; errors are ignored.

        If it has far more lines than the maildrop has ``messages``, only those that
        were asked for are kept.
        """
        if not self._fresh:
            return
        self._fresh = False
        kept = self._all() | self._now
        if len(kept) > 2 * messages + SPARE:
            kept = self._now
        path = f"{self._folder}/{FILE}"
        part = f"{self._folder}/tmp/{FILE}.{os.getpid()}.{get_ident()}"
        lines = "".join(map(_line, kept.items())).encode("ascii")
        new = replacing(path, part, open_own, sync=False)
        with suppress(OSError), new as fd, open(fd, "wb", closefd=False) as file:
            file.truncate()
            file.write(lines)

    def _all(self) -> dict[_Stamp, Measured]:
        if self._before is None:
            self._before = self._read()
        return self._before

    def _read(self) -> dict[_Stamp, Measured]:
        try:
            fd, status = open_plain(f"{self._folder}/{FILE}")
            with open(fd, encoding="ascii") as file:
                if status.st_size > MAXIMUM:
                    return {}
                return dict(pair for line in file if (pair := _parsed(line)) is not None)
        except (OSError, ValueError):
            return {}


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _line(pair: tuple[_Stamp, Measured]) -> str:
    (inode, size, mtime), (wire, downgraded) = pair
    said = "-" if downgraded is None else f"{DOWNGRADED}{downgraded}"
    return f"{inode} {size} {mtime} {wire} {said}\n"


def _parsed(line: str) -> tuple[_Stamp, Measured] | None:
    """Parse a line; None if it is of an outdated format.  Raises ValueError."""
    if not line.endswith("\n"):
        raise ValueError("the line is cut off")
    inode, size, mtime, wire, downgraded = line.split()
    if downgraded.isdigit():
        return None
    said = None if downgraded == "-" else int(downgraded.removeprefix(DOWNGRADED))
    measured = Measured(int(wire), said)
    return (int(inode), int(size), int(mtime)), measured
