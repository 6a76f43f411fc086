"""
Export: writes the messages of a maildrop to a Maildir or mbox.  All functions block.

A message becomes visible in the target with its UIDL and its place, or not at all.  The
maildrop is not locked: a message that its owner removes meanwhile is left out, and what
arrives meanwhile is for the next export.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from postoffice.interfaces import ExportResult, ExportTarget, Step
from postoffice.model.listing import Entry
from postoffice.store import maildir
from postoffice.store.files import failures
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.transfer.export_maildir import MaildirTarget
from postoffice.store.transfer.export_mbox import MboxTarget
from postoffice.store.transfer.export_message import MessageToExport


class MessageTarget(Protocol):
    """A Maildir or mbox that messages are written to."""

    #: So many messages become visible together.
    group: int
    #: Whether something new can come before what is there; otherwise all comes behind it.
    sorts: bool

    def known(self) -> Mapping[str, int]:
        """The places of messages that were exported before, by UIDL."""

    def renumber(self, places: Mapping[str, int]) -> None:
        """Give new places to all that was exported before, if it ``sorts``.  Raises OSError."""

    def add(self, messages: Sequence[MessageToExport], result: ExportResult) -> None:
        """Add messages, all or none, and count them.  Raises CannotExport, OSError."""


_OPENERS: dict[str, Callable[[ExportTarget], AbstractContextManager[MessageTarget]]] = {
    "maildir": MaildirTarget.opened,
    "mbox": MboxTarget.opened,
}


def take_out(folder: str, target: ExportTarget, step: Step) -> ExportResult:
    """Export what is not there.  Raises CannotExport, TemporaryFailure."""
    result = ExportResult()
    listed: Sequence[Entry] = ()
    if os.path.isdir(folder):
        snapshot = maildir.scan(folder, MeasuredSizes())
        listed = snapshot.entries
        result.left += [f"{one.subpath}: {one.why}" for one in snapshot.odd]
    with failures(target.name), _OPENERS[target.format](target) as out:
        known = out.known()
        fresh = [entry for entry in listed if entry.uidl not in known]
        result.there = len(listed) - len(fresh)
        if target.dry:
            result.messages, result.octets = len(fresh), sum(one.size for one in fresh)
            return result
        listing = fresh if not out.sorts else listed
        places = _places([entry.uidl for entry in listing], known)
        if any(places[uidl] != place for uidl, place in known.items()):
            out.renumber({uidl: places[uidl] for uidl in known})
        for start in range(0, len(fresh), out.group):
            group = fresh[start : start + out.group]
            out.add([MessageToExport(folder, one, places[one.uidl]) for one in group], result)
            step(start + len(group), len(fresh))
    return result


def _places(listed: Sequence[str], known: Mapping[str, int]) -> dict[str, int]:
    """
    The places of all messages, those in ``known`` and those that are listed.

    What is new comes behind; only if something new belongs before or between what is known
    (an import makes that), all places are counted anew.
    """
    there = sum(uidl in known for uidl in listed)
    if all(uidl in known for uidl in listed[:there]):
        last = max(known.values(), default=0)
        fresh = enumerate(listed[there:], last + 1)
        return {**known, **{uidl: place for place, uidl in fresh}}
    order: dict[str, None] = {}
    before = iter(sorted(known, key=known.__getitem__))
    for uidl in listed:
        if uidl in known and uidl not in order:
            for one in before:  # those that are not listed any more stay where they were
                order[one] = None
                if one == uidl:
                    break
        order[uidl] = None
    order |= dict.fromkeys(before)
    return {uidl: place for place, uidl in enumerate(order, 1)}
