"""
The commit of a batch of messages: made durable together, then linked into ``new``.

A message is linked only when it is durable: its file was synced, or the
journal has it.  ``_Commit`` syncs files and folders (durability: files);
``_JournalCommit`` appends to the journal instead.  The queue before it is
``batcher``; a commit that a crash cut off is recovered by ``journal.redo``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress

from postoffice.model.address import Quota
from postoffice.model.errors import PostOfficeError, TemporaryFailure
from postoffice.store import drafts
from postoffice.store.drafts import Draft, drop
from postoffice.store.files import MaildropRef, failure, identity, sync_folder
from postoffice.store.journal.journal import Journal, Ticket
from postoffice.store.journal.records import PutRecord, RemoveRecord
from postoffice.store.names import uidl_of_file
from postoffice.store.open_folders import FolderPool, OpenFolders, was_taken_away
from postoffice.store.quota import maildirsize
from postoffice.store.quota.enforcement import QuotaEnforcement

#: Errors of link() when the first maildrop, whose tmp has the file, was moved away or discarded:
#: with ``draft.apart`` the other maildrops get a copy.
_GONE = (errno.ESTALE, errno.ENOENT)


def commit_batch(
    wanted: Sequence[Draft],
    journal: Journal | None = None,
    enforcement: QuotaEnforcement | None = None,
    pool: FolderPool | None = None,
) -> list[Exception | None]:
    """
    Put messages into all their maildrops; return, for each message, None or its error.

    The messages are durable when it returns.  The journal is synced once for the
    batch; without a journal, each file and folder is.  A message with an error
    is in none of its maildrops.  A draft that is ``apart`` has no error if only
    some maildrops failed: its ``missed`` names those.

    No maildrop is created here.  If a maildrop's path leads to another folder
    than when the delivery began, the maildrop was discarded, and the delivery
    fails: its sender tries again.  Links are made in the opened folders,
    wherever they are now; after the sync the path is checked again, and the
    link in a folder that was moved away is removed.  So a message is in its
    maildrop before that is discarded, or the delivery fails.
    ``pool`` keeps folders open from batch to batch.
    """
    with (pool or FolderPool(keep=0)).borrowed() as folders:
        batch = (
            _Commit(wanted, folders)
            if journal is None
            else _JournalCommit(wanted, folders, journal)
        )
        with batch:
            batch.each(drafts.finish)
            batch.reserve(enforcement)
            batch.make_durable()
            batch.each(batch.link)
            batch.settle()
        return batch.outcomes()


class _Commit:
    """The commit of one batch by syncing each file and folder (durability: files)."""

    def __init__(self, wanted: Sequence[Draft], folders: OpenFolders) -> None:
        self._drafts = wanted
        self._wrong: dict[Draft, Exception] = {}
        self._folders = folders
        self._linked: list[tuple[Draft, MaildropRef]] = []
        self._reserved: list[tuple[Draft, MaildropRef]] = []
        self._reserving = ExitStack()  # shared locks of the maildrops in ``_counted``, until linked
        self._counted: set[MaildropRef] = set()
        self._suspect: set[MaildropRef] = (
            set()
        )  # they do not stay open: they may have been taken away

    def outcomes(self) -> list[Exception | None]:
        """For each draft, its error or None."""
        return [self._wrong.get(draft) for draft in self._drafts]

    def __enter__(self) -> _Commit:
        return self

    def __exit__(self, *why: object) -> None:
        self._undo()
        for draft, ref in self._reserved:
            if draft in self._wrong or ref in draft.missed:
                with suppress(OSError):
                    maildirsize.add(self._open(ref), -draft.size, -1)
        self._reserving.close()
        for draft in self._drafts:
            drop(draft)
        for ref in self._suspect:
            self._folders.forget(ref)

    def _undo(self) -> bool:
        """Unlink failed drafts where they were linked.  False if one could not be unlinked."""
        wrong = [
            (draft, ref)
            for draft, ref in self._linked
            if draft in self._wrong or ref in draft.missed
        ]
        gone = True
        for draft, ref in wrong:
            try:
                os.unlink(f"new/{draft.final_name}", dir_fd=self._open(ref))
            except FileNotFoundError:
                pass
            except OSError:
                gone = False
        return gone

    def well(self) -> Iterator[Draft]:
        """The drafts that have not failed so far."""
        return (draft for draft in self._drafts if draft not in self._wrong)

    def each(self, step: Callable[[Draft], None]) -> None:
        """Take one step with each draft that has not failed; an error fails only that draft."""
        for draft in list(self.well()):
            try:
                step(draft)
            except OSError as error:
                self._wrong[draft] = failure(draft.path, error)
                self._suspect.update(draft.refs)
            except Exception as error:  # a bug costs one message, not the batch
                self._wrong[draft] = error

    def reserve(self, enforcement: QuotaEnforcement | None) -> None:
        """Reserve quota for each draft in each limited maildrop; a draft over quota fails."""
        wanted: dict[MaildropRef, list[Draft]] = {}
        for draft in self.well():
            for ref in draft.refs:
                wanted.setdefault(ref, []).append(draft)
        for ref, those in sorted(
            wanted.items()
        ):  # lock order, by path: no deadlock with other batches
            try:
                limited = [draft for draft in those if ref in draft.quotas]
                if limited:
                    self._reserve(ref, limited, enforcement)
                if len(limited) < len(those):
                    self._count(ref, [one for one in those if ref not in one.quotas])
            except (OSError, PostOfficeError) as error:
                why = failure(ref.path, error) if isinstance(error, OSError) else error
                for draft in those:
                    self._miss(draft, ref, why)

    def _reserve(
        self, ref: MaildropRef, those: Sequence[Draft], enforcement: QuotaEnforcement | None
    ) -> None:
        if self._reserve_quickly(ref, those, enforcement):
            return
        fd, limit, owner = self._open(ref), those[0].quotas[ref], those[0].owners.get(ref, "")
        sizes = [draft.size for draft in those]
        more = _together(limit, sizes)
        taken = self._take(ref, limit, sizes, all_of_them=True)
        for _ in range(3):
            if taken is not None:
                break
            room, held = maildirsize.has_room(fd, limit, more)
            if not room and limit.over == "make-room" and enforcement is not None:
                enforcement.make_room(ref.path, limit, held, more, owner)
            taken = self._take(ref, limit, sizes)
        if taken is None:
            raise TemporaryFailure(
                f"{ref.path}: reserving quota failed: others recounted it again and again"
            )
        fits, held = taken
        for draft, fit in zip(those, fits, strict=True):
            if fit:
                self._reserved.append((draft, ref))
            else:
                alone = draft.apart or len(draft.refs) == 1
                self._miss(draft, ref, maildirsize.full(ref.path, limit, draft.size, alone=alone))
        if enforcement is not None:
            came = [size for size, fit in zip(sizes, fits, strict=True) if fit]
            before = held.less(maildirsize.Usage(sum(came), len(came)))
            with suppress(OSError):  # he is not told, and has his mail
                enforcement.filled(ref.path, limit, before, held, owner)

    def _reserve_quickly(
        self, ref: MaildropRef, those: Sequence[Draft], enforcement: QuotaEnforcement | None
    ) -> bool:
        """Reserve all from the open count.  False: nothing reserved, count or make room first."""
        limit, owner = those[0].quotas[ref], those[0].owners.get(ref, "")
        count = self._folders.count(ref)
        more = maildirsize.Usage(sum(draft.size for draft in those), len(those))
        with ExitStack() as stack:
            count.begin()
            stack.callback(count.end)
            held = count.reserve(limit, more)
            if held is None:
                return False
            self._reserving.enter_context(stack.pop_all())
        self._counted.add(ref)
        self._reserved += [(draft, ref) for draft in those]
        if enforcement is not None:
            with suppress(OSError):  # he is not told, and has his mail
                enforcement.filled(ref.path, limit, held.less(more), held, owner)
        return True

    def _take(
        self, ref: MaildropRef, limit: Quota, sizes: Sequence[int], *, all_of_them: bool = False
    ) -> tuple[list[bool], maildirsize.Usage] | None:
        """Reserve, and hold the shared lock until the batch is linked.  None: recount first."""
        fd = self._open(ref)
        with ExitStack() as stack:
            stack.enter_context(maildirsize.reserving(fd))
            taken = maildirsize.reserve(fd, limit, sizes, all_of_them=all_of_them)
            if taken is not None:
                self._reserving.enter_context(stack.pop_all())
                self._counted.add(ref)
            return taken

    def _count(self, ref: MaildropRef, those: Sequence[Draft]) -> None:
        """Count drafts for an account without a quota, if the maildrop has a maildirsize."""
        fd = self._open(ref)
        if maildirsize.is_kept(fd):
            if ref not in self._counted:
                self._reserving.enter_context(maildirsize.reserving(fd))
            maildirsize.add(fd, sum(draft.size for draft in those), len(those))
            self._reserved += [(draft, ref) for draft in those]

    def make_durable(self) -> None:
        """Sync the file of each draft."""
        for draft in self.well():
            _start_writing(draft.fd)
        self.each(_sync)

    def link(self, draft: Draft) -> None:
        """Link a draft's file into ``new`` of each of its maildrops."""
        drafts.check(draft)  # dropped: nobody waits for it, and its sender tries again
        for ref in draft.refs:
            if ref in draft.missed:
                continue
            try:
                self._link(draft, ref)
            except OSError as error:
                if not draft.apart:
                    raise
                draft.missed[ref] = failure(ref.path, error)
            else:
                self._linked.append((draft, ref))

    def _link(self, draft: Draft, ref: MaildropRef) -> None:
        fd = self._open(ref)
        source, target = draft.path, f"new/{draft.final_name}"
        first = None
        try:
            if not draft.folder:
                source, first = f"tmp/{draft.name}", self._open(draft.refs[0])
            os.link(source, target, src_dir_fd=first, dst_dir_fd=fd)
        except OSError as error:
            if error.errno not in drafts.COPIED and not (draft.apart and error.errno in _GONE):
                raise
            _copy(draft, fd)

    def settle(self) -> None:
        """Sync the new names, and check that no maildrop was moved away meanwhile."""
        gone: dict[MaildropRef, Exception] = {}
        for ref in {ref for _, ref in self._linked}:
            try:
                self._sync_names(ref)
                _is_there(ref)
            except OSError as error:
                self._suspect.add(ref)
                gone[ref] = failure(ref.path, error)
        for draft, ref in self._linked:
            if ref in gone:
                self._miss(draft, ref, gone[ref])

    def _sync_names(self, ref: MaildropRef) -> None:
        sync_folder("new", dir_fd=self._open(ref))

    def _miss(self, draft: Draft, ref: MaildropRef, why: Exception) -> None:
        if draft.apart:
            draft.missed[ref] = why
        else:
            self._wrong.setdefault(draft, why)

    def _open(self, ref: MaildropRef) -> int:
        return self._folders.open(ref)


class _JournalCommit(_Commit):
    """
    The commit of one batch by the journal (durability: journal).

    Only the journal is synced, and the files of large texts.  Everything that
    may fail comes before the append, because a committed message must be
    applied.  If linking fails all the same, a removal of the message is appended.
    """

    def __init__(self, wanted: Sequence[Draft], folders: OpenFolders, journal: Journal) -> None:
        super().__init__(wanted, folders)
        self._journal = journal
        self._ticket: Ticket | None = None
        self._committed: list[tuple[Draft, list[MaildropRef]]] = []

    def __exit__(self, *why: object) -> None:
        ticket, self._ticket = self._ticket, None
        try:
            if ticket is not None:
                self._apply(ticket, failed=why[0] is not None)
        finally:
            super().__exit__(*why)

    def make_durable(self) -> None:
        """Sync large texts, then append the batch to the journal, which syncs once."""
        large = [draft for draft in self.well() if draft.streamed]
        if large:
            for draft in large:
                _start_writing(draft.fd)
            self.each(lambda draft: _sync(draft) if draft.streamed else None)
            try:
                sync_folder(self._journal.large)
            except OSError as error:
                self._wrong.update((draft, failure(draft.path, error)) for draft in large)
            if any(draft in self._wrong for draft in large):
                self._journal.note_failed_sync()
        why: Exception
        try:
            self._ticket = self._journal.append(self._records)
            for draft, _ in self._committed:
                draft.moved = draft.streamed  # the journal owns the file until its checkpoint
            return
        except OSError as error:
            why = failure("the journal", error)
        except PostOfficeError as error:
            why = error
        self._wrong.update((draft, why) for draft in list(self.well()))

    def _records(self) -> list[PutRecord]:
        """The records of the batch, for maildrops that were not moved away."""
        refs = {ref for draft in self.well() for ref in draft.refs}
        for ref in refs:
            try:
                _is_there(ref)
                if ref.identity[0] != self._journal.device:
                    raise OSError(errno.EXDEV, "not on the journal's file system", ref.path)
            except OSError as error:
                self._suspect.add(ref)
                why = failure(ref.path, error)
                for draft in list(self.well()):
                    if ref in draft.refs:
                        self._miss(draft, ref, why)
        those = [(one, [p for p in one.refs if p not in one.missed]) for one in self.well()]
        self._committed = [(draft, refs) for draft, refs in those if refs]
        return [
            PutRecord(draft.final_name, tuple(map(self._maildrop, refs)), draft.text, draft.size)
            for draft, refs in self._committed
        ]

    def _maildrop(self, ref: MaildropRef) -> str:
        return self._journal.maildrop(ref.path)

    def _link(self, draft: Draft, ref: MaildropRef) -> None:
        with suppress(FileExistsError):  # a checkpoint has applied it: another process had died
            if not draft.streamed and len(draft.refs) == 1:
                fd = self._open(ref)
                target = f"new/{draft.final_name}"
                os.rename(f"tmp/{draft.name}", target, src_dir_fd=fd, dst_dir_fd=fd)
                draft.moved = True
            else:
                super()._link(draft, ref)

    def _sync_names(self, ref: MaildropRef) -> None:
        pass

    def _apply(self, ticket: Ticket, *, failed: bool) -> None:
        """Mark the batch as applied, after undoing what failed; or leave it to be recovered."""
        if failed:
            self._journal.leave(ticket)
            return
        broken = [
            (self._maildrop(ref), (uidl_of_file(draft.final_name),))
            for draft, refs in self._committed
            for ref in refs
            if draft in self._wrong or ref in draft.missed
        ]
        if broken and not self._take_back(broken):
            self._journal.leave(ticket)  # recovery puts it into all its maildrops rather than some
            return
        self._journal.applied(ticket)

    def _take_back(self, broken: Sequence[tuple[str, tuple[str, ...]]]) -> bool:
        """Unlink failed messages and append their removal.  False if both failed."""
        gone = self._undo()
        try:
            undone = self._journal.append(lambda: [RemoveRecord(tuple(broken))])
        except (OSError, PostOfficeError):
            return gone  # a crash may bring it back: a duplicate, as after any failed delivery
        if undone is not None:
            (self._journal.applied if gone else self._journal.leave)(undone)
        return True


def _together(limit: Quota, sizes: Sequence[int]) -> maildirsize.Usage:
    """How much of these messages an empty maildrop could hold."""
    octets = messages = 0
    for size in sizes:
        if limit.holds(octets + size, messages + 1):
            octets, messages = octets + size, messages + 1
    return maildirsize.Usage(octets, messages)


def _start_writing(fd: int) -> None:
    """Start writing this file out while the next are written: a third faster."""
    if hasattr(os, "posix_fadvise"):  # on Linux, DONTNEED starts the write-out
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _sync(draft: Draft) -> None:
    os.fsync(draft.fd)


def _is_there(ref: MaildropRef) -> None:
    if identity(os.stat(ref.path)) != ref.identity:
        raise was_taken_away(ref)


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
