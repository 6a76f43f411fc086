"""
The record of an export, in the form of an import's record: JSON lines with n, uidl and more.

It says what was exported, so that a later export adds only what is new; and ``maildrop compare``
reads it.  All functions block.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_UN, flock

from postoffice.model.errors import CannotExport
from postoffice.store.files import try_lock
from postoffice.store.transfer import import_record
from postoffice.store.transfer.export_folder import FILE_FLAGS, replace_file
from postoffice.store.transfer.import_record import Line


class ExportRecord:
    """
    The record ``name`` in a folder; ``places`` has the place (n) of each UIDL.

    ``file`` is the inode of the mbox that has the messages, 0 if that is not recorded.
    """

    def __init__(self, folder: int, name: str, lines: Sequence[Line]) -> None:
        self._folder = folder
        self._name = name
        self._lines = [line for line in lines if "uidl" in line and "n" in line]
        self.places: dict[str, int] = {str(one["uidl"]): int(one["n"]) for one in self._lines}
        self.file = max((int(line["file"]) for line in lines if "file" in line), default=0)

    def forget(self) -> None:
        """Begin anew: nothing of it is in the target any more."""
        self._lines.clear()
        self.places.clear()

    def add(self, lines: Sequence[Line]) -> None:
        """Add messages that are in the target already, durably.  Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | FILE_FLAGS
        import_record.append(os.open(self._name, flags, dir_fd=self._folder), lines)
        self._lines += lines

    def add_at_once(self, lines: Sequence[Line], file: int) -> None:
        """Add messages that will be in the target as soon as it is this file, all or none."""
        self._lines += lines
        self._write([*self._lines, {"file": file}])

    def renumber(self, places: Mapping[str, int]) -> None:
        """Write the record anew, with other places.  Raises OSError."""
        for line in self._lines:
            line["n"] = places[str(line["uidl"])]
        self._lines.sort(key=lambda line: int(line["n"]))
        self.places = dict(places)
        self._write(self._lines)

    def _write(self, lines: Sequence[Line]) -> None:
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        replace_file(self._folder, self._name, text.encode())


def read(folder: int, name: str) -> list[Line] | None:
    """The lines of a record; None if there is no record.  Raises OSError."""
    try:
        fd = os.open(name, os.O_RDONLY | FILE_FLAGS, dir_fd=folder)
    except FileNotFoundError:
        return None
    with open(fd, encoding="utf-8", errors="replace") as file:
        return list(import_record.parse(file))


@contextmanager
def locked(folder: int, name: str, where: str) -> Iterator[ExportRecord]:
    """
    Make the record if there is none, and lock the folder meanwhile.

    Raises CannotExport if another export holds the lock, OSError.
    """
    if not try_lock(folder):
        raise CannotExport(f"another export to {where} is running")
    try:
        lines = read(folder, name)
        if lines is None:
            replace_file(folder, name, b"")
        yield ExportRecord(folder, name, lines or [])
    finally:
        flock(folder, LOCK_UN)
