"""
The record of what was imported into a maildrop, which is also the manifest.  All functions block.

A later import adds only what is not in it, and nothing that the owner has deleted since.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from postoffice.interfaces import ImportedMessage
from postoffice.store import drafts, maildir, names
from postoffice.store.files import open_own
from postoffice.store.transfer.text_digest import TextDigest
from postoffice.util.atomic_file import sync_folder

#: JSON lines with n (the place), uidl, size and name; header and text are SHA-256 of what is sent.
FILE = "postoffice.imported"
#: Fields of lines whose values are numbers; ``file`` is the inode of an mbox (``export_record``).
NUMBERS = ("n", "file")
#: In lines of messages that an import has deleted at the old server.
MOVED = "moved"

Line = dict[str, str | int]


@dataclass
class KnownMessages:
    """What was imported before: places by UIDL, and the names that the files had."""

    places: dict[str, int] = field(default_factory=dict)
    bases: dict[str, int] = field(default_factory=dict)

    def find(self, uidl: str, name: str) -> int | None:
        """The place of a message that was imported; None if it was not."""
        place = self.places.get(uidl)
        return self.bases.get(name) if place is None else place

    def add(self, uidl: str, name: str, place: int) -> None:
        """A message is imported now."""
        self.places[uidl] = self.bases[name] = place


def known_messages(folder: str) -> KnownMessages:
    """Return what is recorded, and what is in the maildrop without a record after a kill."""
    found = KnownMessages()
    for line in read(f"{folder}/{FILE}"):
        found.add(str(line.get("uidl")), str(line.get("name")), int(line["n"]))
    for uidl, subpath in maildir.subpaths(folder).items():
        was = names.imported(os.path.basename(subpath))
        found.places.setdefault(uidl, was.place if was else 0)
    return found


def read(path: str) -> Iterator[Line]:
    """The lines of a record.  Raises OSError."""
    with suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
        yield from (line for line in parse(file) if "n" in line)


def parse(file: Iterable[str]) -> Iterator[Line]:
    """Parse the lines of an open file; a line that a crash has cut is left out."""
    for text in file:
        with suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict) and all(isinstance(line.get(one, 0), int) for one in NUMBERS):
                yield line


def manifest(path: str) -> dict[str, ImportedMessage]:
    """Return what a record says, by UIDL; empty if there is none.  Raises OSError."""
    found: dict[str, ImportedMessage] = {}
    for one in read(path):
        digests = (str(one.get("header", "")), str(one.get("text", "")))
        size = one.get("size")
        found[str(one.get("uidl"))] = ImportedMessage(
            int(one["n"]), size if isinstance(size, int) else 0, *digests
        )
    return found


def line_of(place: int, uidl: str, name: str, digest: TextDigest) -> Line:
    """A line of the record."""
    sizes: Line = {"n": place, "uidl": uidl, "size": digest.size, "name": name}
    return sizes | {"header": digest.header, "text": digest.whole}


def add(folder: str, lines: Sequence[Line]) -> None:
    """Add lines to the record of a maildrop, durably.  Raises OSError."""
    append(open_own(f"{folder}/{FILE}", os.O_WRONLY | os.O_APPEND), lines)
    sync_folder(folder)


def append(fd: int, lines: Sequence[Line]) -> None:
    """Append lines to an open file, durably, and close it.  Raises OSError."""
    try:
        # the first line end closes a line that a crash has cut
        drafts.write_all(fd, "\n".join(["", *map(json.dumps, lines), ""]).encode())
        os.fsync(fd)
    finally:
        os.close(fd)


def mark_moved(folder: str, uidls: Collection[str]) -> None:
    """
    Record, durably, that an import deletes these messages at the old server.

    So ``--remove-gone`` does not take them for deleted by their owner.  Raises OSError.
    """
    lines = {str(line.get("uidl")): line for line in read(f"{folder}/{FILE}")}
    marked = [lines[uidl] | {MOVED: 1} for uidl in uidls if uidl in lines]
    if marked:
        add(folder, marked)


def add_missing(folder: str, saved: str) -> None:
    """Add what the record at the path ``saved`` has of messages that this one does not have."""
    known = {line.get("uidl") for line in read(f"{folder}/{FILE}")}
    if missing := [line for line in read(saved) if line.get("uidl") not in known]:
        add(folder, missing)
