"""
The store process: a child process that commits batches of small messages.

Here are its entry point (StoreProcess) and the values that go to it and come
back.  ``batcher.ProcessCommitter`` is the caller; ``commit`` does the work.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from mmap import mmap
from typing import NamedTuple

from postoffice.model.address import Quota
from postoffice.model.errors import PostOfficeError
from postoffice.store import commit
from postoffice.store.drafts import Draft, QueueRemoval
from postoffice.store.files import MaildropRef
from postoffice.store.journal.filesystem import JOURNAL
from postoffice.store.journal.records import RemoveRecord
from postoffice.store.journal.redo import journal_of
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.open_folders import FolderPool
from postoffice.store.quota.enforcement import Notice, QuotaEnforcement

#: A line for the log: its level and its text.
LogLine = tuple[str, str]
#: A removal from the queue: its record, and the paths of its files.
RemovalMessage = tuple[RemoveRecord, tuple[str, ...]]


class DraftMessage(NamedTuple):
    """
    A small draft for the store process.

    Its text of ``size`` octets is in the memory that both processes share, from ``offset``.
    ``beside`` are its copies: their places, names (also the final ones), trailers and turns.
    """

    refs: list[MaildropRef]
    name: str
    quotas: Mapping[MaildropRef, Quota]
    owners: Mapping[MaildropRef, str]
    apart: bool
    dropped: bool
    offset: int
    size: int
    final_name: str
    trailer: bytes
    beside: Sequence[tuple[list[MaildropRef], str, str, bytes, int]]


def pack(wanted: Sequence[Draft], memory: mmap, offset: int) -> list[DraftMessage]:
    """Copy the texts of drafts into the shared memory from ``offset``, and describe the drafts."""
    messages = []
    for draft in wanted:
        start = offset
        for part in draft.parts:
            memory[offset : offset + len(part)] = part
            offset += len(part)
        place = start, offset - start
        kind = draft.apart, draft.dropped
        copies = [
            (one.refs, one.name, one.final_name, one.trailer, one.turn) for one in draft.beside
        ]
        who = draft.refs, draft.name, draft.quotas, draft.owners
        final = draft.final_name, draft.trailer
        messages.append(DraftMessage(*who, *kind, *place, *final, copies))
    return messages


def unpack(message: DraftMessage, memory: mmap) -> Draft:
    """The draft that ``pack`` described."""
    refs, name, quotas, owners, apart, dropped, offset, size, final, trailer, copies = message
    draft = Draft(
        refs,
        name,
        quotas=quotas,
        owners=owners,
        parts=[memory[offset : offset + size]],
        apart=apart,
        dropped=dropped,
        final_name=final,
        trailer=trailer,
    )
    for refs, name, final, trailer, turn in copies:
        copy = Draft(refs, name, final_name=final, trailer=trailer, original=draft, turn=turn)
        draft.beside.append(copy)
    return draft


class CommitResult(NamedTuple):
    """
    What the store process returns for a batch.

    ``outcomes`` are those of ``commit.commit_batch``, ``missed`` those of the
    drafts, ``notices`` are for the owners of maildrops, ``reports`` for the log.  ``removed`` is,
    for each removal, whether it was committed, and whether the message was there.
    """

    outcomes: list[Exception | None]
    missed: list[dict[MaildropRef, Exception]]
    notices: list[Notice]
    reports: list[LogLine]
    removed: list[tuple[bool, bool]]


class StoreProcess:
    """
    Commits into ``store`` with a Journal of its own; the settings are those of MaildirStore.

    ``memory`` has the texts of drafts (``pack``).
    """

    def __init__(
        self,
        store: str,
        durability: str,
        undelete: bool,
        levels: Sequence[int],
        segment: int,
        vault_limit: int | None,
        memory: mmap,
    ) -> None:
        self._memory = memory
        self._reports: list[LogLine] = []
        self._pool = FolderPool()
        self._journal = journal_of(store, self._report, segment)
        self._journal.open(durability)
        journal = self._journal if durability == JOURNAL else None
        self._enforcement = QuotaEnforcement(
            journal, MeasuredSizes(), undelete, levels, vault_limit=vault_limit
        )

    def _report(self, level: str, text: str) -> None:
        self._reports.append((level, text))

    def commit_batch(
        self, messages: Sequence[DraftMessage], removals: Sequence[RemovalMessage] = ()
    ) -> CommitResult:
        """Commit a batch (``commit.commit_batch``)."""
        drafts = [unpack(message, self._memory) for message in messages]
        removing = [QueueRemoval(*one) for one in removals]
        outcomes = commit.commit_batch(
            drafts, self._enforcement.journal, self._enforcement, self._pool, removing
        )
        for outcome in outcomes:
            if outcome is not None and not isinstance(outcome, (OSError, PostOfficeError)):
                bug = "".join(traceback.format_exception(outcome))  # a traceback cannot be pickled
                self._report("error", f"a bug in the store process: committing failed:\n{bug}")
        reports, self._reports = self._reports, []
        return CommitResult(
            outcomes,
            [one.missed for one in drafts],
            self._enforcement.told(),
            reports,
            [(one.committed, one.there) for one in removing],
        )

    def close(self) -> None:
        """Close the folders and the journal; no batch may be under way."""
        self._pool.close()
        self._journal.close()
