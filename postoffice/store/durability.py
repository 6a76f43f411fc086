"""
The two ways to make a batch durable: sync each file and folder, or append to the journal.

A Durability is the part of a commit in which they differ (``commit.Commit``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from postoffice.model.errors import PostOfficeError
from postoffice.store import drafts, intents, queue_files
from postoffice.store.batch import Batch, check_place
from postoffice.store.drafts import Draft
from postoffice.store.files import MaildropRef, failure
from postoffice.store.journal.journal import Journal, Ticket
from postoffice.store.journal.records import PutRecord, Record, RemoveRecord
from postoffice.store.names import uidl_of_file
from postoffice.util.atomic_file import sync_folder

#: Errors of link() when the first maildrop, whose tmp has the file, was moved away or discarded:
#: with ``draft.apart`` the other maildrops get a copy.
_GONE = (errno.ESTALE, errno.ENOENT)


class Durability(Protocol):
    """How a batch becomes durable, and what its links are made of."""

    def make_durable(self) -> None:
        """Make all drafts durable that have not failed; each that cannot be fails."""

    def link(self, draft: Draft, ref: MaildropRef) -> None:
        """Give a draft its name in ``new`` of a maildrop.  Raises OSError."""

    def sync_names(self, refs: set[MaildropRef]) -> dict[MaildropRef, Exception]:
        """Make new names durable where that is needed; return errors."""

    def remove(self, draft: Draft) -> None:
        """Carry out a draft's removal from the queue.  Raises OSError."""

    def end(self, *, failed: bool) -> None:
        """The batch was applied; ``failed``: the commit itself was broken off."""


class SyncedFiles:
    """Durability by syncing each file and each folder (durability: files)."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._intents: dict[Draft, int] = {}  # open files, locked
        self._unsure = False

    def make_durable(self) -> None:
        for draft in self._batch.well():
            _start_writing(draft.fd)
        self._batch.each(_sync)
        self._batch.each(self._intend, [draft for draft in self._batch.drafts if draft.intent])

    def _intend(self, draft: Draft) -> None:
        """Write down what is done together; a start completes it or takes it back."""
        self._intents[draft] = intents.write(draft)

    def link(self, draft: Draft, ref: MaildropRef) -> None:
        _link(self._batch, draft, ref)

    def sync_names(self, refs: set[MaildropRef]) -> dict[MaildropRef, Exception]:
        folders = self._batch.folders
        return self._batch.check(refs, lambda ref: sync_folder("new", dir_fd=folders.open(ref)))

    def remove(self, draft: Draft) -> None:
        assert draft.removal is not None
        message, *marks = draft.removal.paths
        queue_files.unlink_message(draft.removal)
        try:
            queue_files.sync_folders([message])
            queue_files.unlink(marks)
        except OSError:  # a crash may bring the message back: the next start removes it again
            self._unsure = True

    def end(self, *, failed: bool) -> None:
        well = self._batch.undo() and not failed and not self._unsure
        if self._intents:
            well = well and self._sync_undone()
        for draft, fd in self._intents.items():
            if well:
                intents.forget(draft.intent)
            os.close(fd)

    def _sync_undone(self) -> bool:
        """Sync the folders of what was undone, before its intent goes.  False if that failed."""
        linked = self._batch.linked
        refs = {ref for draft, ref in linked if self._batch.failed_in(draft, ref)}
        return not self.sync_names(refs)


class Journaled:
    """
    Durability by the journal (durability: journal).

    Only the journal is synced, and the files of large texts.  Everything that
    may fail comes before the append, because a committed message must be
    applied.  If linking fails all the same, a removal of the message is appended.
    """

    def __init__(self, batch: Batch, journal: Journal) -> None:
        self._batch = batch
        self._journal = journal
        self._ticket: Ticket | None = None
        self._committed: list[tuple[Draft, list[MaildropRef]]] = []

    def make_durable(self) -> None:
        """Sync large texts, then append the batch to the journal, which syncs once."""
        large = [draft for draft in self._batch.well() if draft.streamed]
        if large:
            self._sync_large(large)
        why: Exception
        try:
            self._ticket = self._journal.append(self._records)
            for draft, _ in self._committed:
                draft.moved = draft.streamed  # the journal owns the file until its checkpoint
            for draft in self._batch.well(self._batch.removing()):
                self._batch.pledged.update((draft, *draft.beside))
            for removal in self._batch.others:
                removal.committed = True
            return
        except OSError as error:
            why = failure("the journal", error)
        except PostOfficeError as error:
            why = error
        self._batch.wrong.update((draft, why) for draft in self._batch.well())

    def _sync_large(self, large: Sequence[Draft]) -> None:
        wrong = self._batch.wrong
        for draft in large:
            _start_writing(draft.fd)
        self._batch.each(lambda draft: _sync(draft) if draft.streamed else None)
        try:
            sync_folder(self._journal.large)
        except OSError as error:
            wrong.update((draft, failure(draft.path, error)) for draft in large)
        if any(draft in wrong for draft in large):
            self._journal.note_failed_sync()

    def _records(self) -> list[Record]:
        """The records of the batch, for maildrops that were not moved away."""
        drafts = self._batch.well()
        refs = {ref for draft in drafts for ref in draft.refs}
        gone = self._batch.check(refs, self._check_place)
        if gone:
            for draft in drafts:
                for ref in gone.keys() & set(draft.refs):
                    self._batch.miss(draft, ref, gone[ref])
        those = [
            (draft, [ref for ref in draft.refs if ref not in draft.missed])
            for draft in self._batch.well()
        ]
        self._committed = [(draft, refs) for draft, refs in those if refs]
        records: list[Record] = [
            PutRecord(draft.final_name, tuple(map(self._maildrop, refs)), draft.text, draft.size)
            for draft, refs in self._committed
        ]
        removing = self._batch.well(self._batch.removing())
        removals = [draft.removal for draft in removing if draft.removal is not None]
        return records + [one.record for one in (*removals, *self._batch.others)]

    def _check_place(self, ref: MaildropRef) -> None:
        """Check that a maildrop is there, and that a checkpoint syncs it.  Raises OSError."""
        check_place(ref)
        if ref.identity[0] != self._journal.device:
            raise OSError(errno.EXDEV, "not on the journal's file system", ref.path)

    def _maildrop(self, ref: MaildropRef) -> str:
        return self._journal.maildrop(ref.path)

    def link(self, draft: Draft, ref: MaildropRef) -> None:
        """A small text in one maildrop is renamed; others are linked, as the journal owns them."""
        with suppress(FileExistsError):  # a checkpoint has applied it: another process had died
            if not draft.streamed and len(draft.refs) == 1:
                fd = self._batch.folders.open(ref)
                target = f"new/{draft.final_name}"
                os.rename(f"tmp/{draft.name}", target, src_dir_fd=fd, dst_dir_fd=fd)
                draft.moved = True
            else:
                _link(self._batch, draft, ref)

    def sync_names(self, refs: set[MaildropRef]) -> dict[MaildropRef, Exception]:
        return {}

    def remove(self, draft: Draft) -> None:
        assert draft.removal is not None
        queue_files.carry_out(draft.removal)

    def end(self, *, failed: bool) -> None:
        """Mark the batch as applied, after undoing what failed; or leave it to be recovered."""
        ticket, self._ticket = self._ticket, None
        if ticket is None:
            self._batch.undo()
        elif failed:
            self._journal.leave(ticket)
            self._batch.undo()
        elif not self._undo():
            self._journal.leave(ticket)  # recovery puts it into all its maildrops rather than some
        elif self._batch.unfinished:
            self._journal.leave(ticket)
        else:
            self._journal.applied(ticket)

    def _undo(self) -> bool:
        """Unlink failed messages and append their removal.  False if both failed."""
        batch = self._batch
        broken = [
            (self._maildrop(ref), (uidl_of_file(draft.final_name),))
            for draft, refs in self._committed
            for ref in refs
            if batch.failed_in(draft, ref)
        ]
        gone = batch.undo()
        if not broken:
            return True
        try:
            undone = self._journal.append(lambda: [RemoveRecord(tuple(broken))])
        except (OSError, PostOfficeError):
            return gone  # a crash may bring it back: a duplicate, as after any failed delivery
        if undone is not None:
            (self._journal.applied if gone else self._journal.leave)(undone)
        return True


def _link(batch: Batch, draft: Draft, ref: MaildropRef) -> None:
    """Give a draft's file one more name; a copy where it can have none."""
    fd = batch.folders.open(ref)
    source, target = draft.path, f"new/{draft.final_name}"
    first = None
    try:
        if not draft.folder:
            source, first = f"tmp/{draft.name}", batch.folders.open(draft.refs[0])
        os.link(source, target, src_dir_fd=first, dst_dir_fd=fd)
    except OSError as error:
        if error.errno not in drafts.COPIED and not (draft.apart and error.errno in _GONE):
            raise
        _copy(draft, fd)


def _copy(draft: Draft, folder: int) -> None:
    """Give one maildrop a copy of the file."""
    path = f"tmp/{draft.name}.copy"  # the draft may be in the same tmp
    fd = drafts.create(path, folder)
    try:
        drafts.copy_text(draft, fd)
        os.fsync(fd)
        os.link(path, f"new/{draft.final_name}", src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with suppress(OSError):
            os.unlink(path, dir_fd=folder)
        os.close(fd)


def _start_writing(fd: int) -> None:
    """Start writing this file out while the next are written: a third faster."""
    if hasattr(os, "posix_fadvise"):  # on Linux, DONTNEED starts the write-out
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _sync(draft: Draft) -> None:
    os.fsync(draft.fd)
