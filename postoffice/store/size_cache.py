"""Blocking: messages that other programs brought are looked at once, and noted beside them."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import get_ident

from postoffice.store.files import open_own, open_plain
from postoffice.store.names import DOWNGRADED, Measured
from postoffice.util.atomic_file import replacing

FILE = "postoffice.sizes"
#: Octets of it that are read: some hundred thousand messages.
MAXIMUM = 32 << 20
#: Notes of messages that are gone, which may stay.
SPARE = 1000

_Stamp = tuple[int, int, int]  # inode, octets, time of the last change


class SizeCache:
    """
    What is noted in a maildrop; read when first needed.

    A line for a file, by how it looks: inode, octets, time of its last change;
    then octets as it is sent, and for clients without UTF-8, with the letter that names of files
    have for that (``-``: the same).  It is derived: what is missing, or is wrong or outdated
    there, is measured again.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._before: dict[_Stamp, Measured] | None = None
        self._now: dict[_Stamp, Measured] = {}  # what was asked for, and what is new
        self._fresh = False

    def get(self, status: os.stat_result) -> Measured | None:
        """The sizes of a file that looks like this, if they were noted."""
        measured = self._all().get(_look(status))
        if measured is not None:
            self._now[_look(status)] = measured
        return measured

    def set(self, status: os.stat_result, measured: Measured) -> None:
        """Note the sizes of a file."""
        self._now[_look(status)] = measured
        self._fresh = True

    def keep(self, messages: int) -> None:
        """
        Write down what is new, if anything; it may fail.

        Of a maildrop with fewer ``messages`` than are noted by far, only what
        was asked for stays.
        """
        if not self._fresh:
            return
        self._fresh = False
        sizes_on_disk = self._all() | self._now
        if len(sizes_on_disk) > 2 * messages + SPARE:
            sizes_on_disk = self._now
        path = f"{self._folder}/{FILE}"
        part = f"{self._folder}/tmp/{FILE}.{os.getpid()}.{get_ident()}"
        lines = "".join(map(_line, sizes_on_disk.items())).encode("ascii")
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
                return dict(
                    sizes_on_disk for line in file if (sizes_on_disk := _noted(line)) is not None
                )
        except (OSError, ValueError):
            return {}


def _look(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _line(sizes_on_disk: tuple[_Stamp, Measured]) -> str:
    (inode, size, mtime), (wire, downgraded) = sizes_on_disk
    said = "-" if downgraded is None else f"{DOWNGRADED}{downgraded}"
    return f"{inode} {size} {mtime} {wire} {said}\n"


def _noted(line: str) -> tuple[_Stamp, Measured] | None:
    """What a line says; None where it does so by rules that hold no more.  Raises ValueError."""
    if not line.endswith("\n"):
        raise ValueError("it is cut off")
    inode, size, mtime, wire, downgraded = line.split()
    if downgraded.isdigit():
        return None
    said = None if downgraded == "-" else int(downgraded.removeprefix(DOWNGRADED))
    measured = Measured(int(wire), said)
    return (int(inode), int(size), int(mtime)), measured
