"""
Import: puts another server's messages into a maildrop.  All functions block.

Files are linked where both are on one file system, and copied elsewhere, in groups: staged,
made durable, and then renamed into the maildrop (``merge``).  What was imported is recorded in
``postoffice.imported``, so that a later import adds only what is not there, and nothing that
the owner has deleted since.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from shutil import rmtree
from typing import TypeVar

from postoffice.interfaces import ImportResult, ImportSource, Step
from postoffice.store import expunge, merge, names
from postoffice.store.files import failures, make_folder
from postoffice.store.journal.journal import Journal
from postoffice.store.oddities import NotServed
from postoffice.store.transfer import import_maildir, import_mbox, import_record
from postoffice.store.transfer.import_message import OldMail, OldMessage
from postoffice.store.transfer.import_record import Line

#: So many messages become visible together.
GROUP = 5000


T = TypeVar("T")


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
        known = import_record.known_messages(folder)
        work = list(places(old.messages, lambda one: known.find(one.uidl, one.base)))
        result = ImportResult(old.kind, there=len(old.messages) - len(work), warnings=old.warnings)
        result.listed = _listed(old)
        if source.dry:
            result.messages, result.octets = len(work), sum(one.size for one, _ in work)
            return result
        for start in range(0, len(work), GROUP):
            group = work[start : start + GROUP]
            _bring_in_group(folder, old, source, journal, hostname, group, result)
            step(start + len(group), len(work))
    return result


def _listed(old: OldMail) -> frozenset[str]:
    """UIDLs, and what files are called that have names of their own."""
    files = [] if old.kind in import_mbox.KINDS else [one.base for one in old.messages]
    return frozenset([*(one.uidl for one in old.messages), *files])


@contextmanager
def _opened(source: ImportSource) -> Iterator[OldMail]:
    if source.kind in import_mbox.KINDS or (not source.kind and os.path.isfile(source.path)):
        with import_mbox.opened(source) as mbox:
            yield mbox
    else:
        with import_maildir.opened(source) as old:
            yield old


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
            octets += done.digest.size
            result.copied += done.copied
            lines.append(import_record.line_of(place, message.uidl, message.base, done.digest))
        moved, there = merge.put_back(folder, staged, journal, again=False)
        import_record.add(folder, lines)
        result.messages += moved
        result.there += there
        result.octets += octets
    finally:
        rmtree(staged, ignore_errors=True)
