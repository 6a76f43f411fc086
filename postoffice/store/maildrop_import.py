"""
Import: puts another server's messages into a maildrop.  All functions block.

Files are linked where both are on one file system, and copied elsewhere, in groups: staged,
made durable, and then renamed into the maildrop (``merge``).  What was imported is recorded in
``postoffice.imported``, so that a later import adds only what is not there, and nothing that
the owner has deleted since.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from shutil import rmtree
from typing import TypeVar

from postoffice.interfaces import ImportedMessage, ImportResult, ImportSource, Step
from postoffice.store import drafts, expunge, maildir, merge, names, old_maildir, old_mbox
from postoffice.store.digests import TextDigest
from postoffice.store.files import failures, make_folder, open_own
from postoffice.store.journal.journal import Journal
from postoffice.store.oddities import NotServed
from postoffice.store.old_messages import OldMail, OldMessage
from postoffice.util.atomic_file import sync_folder

#: The record of what was imported, the manifest: JSON lines with n (the place), uidl, size and
#: name; header and text are SHA-256 of what is sent.
FILE = "postoffice.imported"
#: So many messages become visible together.
GROUP = 5000


Line = dict[str, str | int]
T = TypeVar("T")


@dataclass
class Imported:
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


def bring_in(
    folder: str,
    source: ImportSource,
    journal: Journal,
    hostname: str,
    step: Step,
) -> ImportResult:
    """Import what is not there.  Raises MaildropLocked, CannotImport, TemporaryFailure."""
    with failures(source.path), _opened(source) as old, failures(folder):
        if not source.dry:
            os.close(expunge.lock(journal, folder))  # refused now, not after the first group
        known = imported(folder)
        work = list(places(old.messages, lambda one: known.find(one.uidl, one.base)))
        result = ImportResult(old.kind, there=len(old.messages) - len(work), warnings=old.warnings)
        if source.dry:
            result.messages, result.octets = len(work), sum(one.size for one, _ in work)
            return result
        for start in range(0, len(work), GROUP):
            group = work[start : start + GROUP]
            _bring_in_group(folder, old, source, journal, hostname, group, result)
            step(start + len(group), len(work))
    return result


@contextmanager
def _opened(source: ImportSource) -> Iterator[OldMail]:
    if source.kind in old_mbox.KINDS or (not source.kind and os.path.isfile(source.path)):
        with old_mbox.opened(source) as mbox:
            yield mbox
    else:
        yield old_maildir.read(source)


def places(messages: Sequence[T], place_of: Callable[[T], int | None]) -> Iterator[tuple[T, int]]:
    """
    The messages to import, and their places.

    Messages may have gone from the old server since the last import: the others keep the
    distance from the one before them.
    """
    ahead = 0
    for number, message in enumerate(messages, 1):
        place = place_of(message)
        if place is None:
            yield message, number + ahead
        else:
            ahead = max(ahead, place - number)


def imported(folder: str) -> Imported:
    """What is recorded, and what is in the maildrop without a record after a kill."""
    found = Imported()
    for record in read_record(f"{folder}/{FILE}"):
        found.add(str(record.get("uidl")), str(record.get("name")), int(record["n"]))
    for uidl, subpath in maildir.subpaths(folder).items():
        was = names.imported(os.path.basename(subpath))
        found.places.setdefault(uidl, was.place if was else 0)
    return found


def read_record(path: str) -> Iterator[Line]:
    """The lines of a record; a line that a crash has cut is left out.  Raises OSError."""
    with suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        for line in file:
            with suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict) and isinstance(found.get("n"), int):
                    yield found


def manifest(path: str) -> dict[str, ImportedMessage]:
    """What a record says, by UIDL; empty if there is none.  Raises OSError."""
    found: dict[str, ImportedMessage] = {}
    for one in read_record(path):
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


def record(folder: str, lines: Sequence[Line]) -> None:
    """Add lines to the record, durably."""
    fd = open_own(f"{folder}/{FILE}", os.O_WRONLY | os.O_APPEND)
    try:
        # the first line end closes a line that a crash has cut
        drafts.write_all(fd, "\n".join(["", *map(json.dumps, lines), ""]).encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(folder)


def _bring_in_group(
    folder: str,
    old: OldMail,
    source: ImportSource,
    journal: Journal,
    hostname: str,
    group: Sequence[tuple[OldMessage, int]],
    result: ImportResult,
) -> None:
    staged = merge.staging(folder)
    try:
        for box in ("new", "cur"):
            make_folder(f"{staged}/{box}")
        octets, lines = 0, list[Line]()
        for message, place in group:
            name = names.with_import(names.new_name(hostname), message.uidl, place)
            if source.age_real:
                arrived = min(max(int(message.arrived), 0), int(time.time()))
                name = f"{arrived}.{name.partition('.')[2]}"
            try:
                done = old.stage(message, staged, name)
                if done is None:
                    continue
            except NotServed as why:
                result.left.append(f"{message.subpath}: {why}")
                continue
            octets += done.size
            result.copied += done.copied
            line: Line = {"n": place, "uidl": message.uidl}
            lines.append({**line, "size": done.size, "name": message.base})
        moved, there = merge.put_back(folder, staged, journal, again=False)
        record(folder, lines)
        result.messages += moved
        result.there += there
        result.octets += octets
    finally:
        rmtree(staged, ignore_errors=True)
