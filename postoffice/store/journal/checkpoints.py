"""
Checkpoints: what is applied is synced, so that its segments are used again.

A checkpoint also redoes what was committed and not applied, because a process
died; and all, if a sync has failed.  All functions block.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from postoffice.model.errors import TemporaryFailure
from postoffice.store.files import Report, try_lock
from postoffice.store.journal import segments
from postoffice.store.journal.journal_files import PATIENCE, TICK, JournalFiles
from postoffice.store.journal.large_texts import LargeTexts
from postoffice.store.journal.recovery import MakeRedo, PendingBatches
from postoffice.store.journal.segments import State

#: How many checkpoints we leave to processes that joined before us.
_OTHERS = 3


class Checkpoints:
    """
    The checkpoints of one process.

    ``redo`` makes what applies records again.  ``since`` is the first generation
    that began after our descriptor was opened.  ``failed`` is the last generation
    in which a write or a sync of ours failed.
    """

    def __init__(
        self,
        files: JournalFiles,
        large: LargeTexts,
        redo: MakeRedo,
        report: Report,
        key_of: Callable[[str], str],
    ) -> None:
        self.since = 0
        self.failed = -1
        self._files = files
        self._large = large
        self._redo = redo
        self._report = report
        self._key_of = key_of
        self._left_to_others = 0

    def checkpoint(self, *, now: bool = False, stand_in: bool = True) -> None:
        """
        Sync what is applied and free its segments; first redo what is not applied.

        Generations from before we joined are left to the older processes for a few rounds:
        only they can tell whether a sync failed since, and need not redo all.
        ``now``: do those as well.  Not ``stand_in``: never do those.
        Raises TemporaryFailure if a process does not finish applying; OSError.
        """
        with self._files.checkpointing.held():
            if self._files.active:
                self._checkpoint(now, stand_in)
                self.unlink_large()

    def _checkpoint(self, now: bool, stand_in: bool) -> None:
        with self._files.appending.held():
            state = self._files.state.read()
            pending = state.pending()
            if not pending:
                return
            oldest = state.generations[pending[0]]
            ours = oldest >= self.since
            theirs = not (now or ours or state.no_space)
            if theirs and (not stand_in or self._left_to_others < _OTHERS):
                self._left_to_others += stand_in  # they can tell whether a sync has failed
                return
            self._left_to_others = 0
            self.close_generation(state)
        until, counts = state.generation, state.counts
        whole = self._all_applied(pending, counts)
        suspect = self._is_suspect(state, oldest)
        if suspect:
            self._report("warn", "a sync has failed; recovering all that may not be on the disk")
        believed = ours and not (state.no_space or state.syncing or suspect)
        if believed and whole:
            self._sync(oldest, until)
        else:
            with self._files.appending.held():
                state = self._files.state.read()
                anew = not believed or self._is_suspect(state, oldest)
                self._redo_all(state, until, anew=anew, synced=anew)
                self._files.state.write(state)

    def _all_applied(self, pending: Sequence[int], counts: Sequence[int]) -> bool:
        """Wait for writers to finish.  False if one died before its batches were applied."""
        until = time.monotonic() + PATIENCE
        for number in pending:
            fd = segments.open_segment(self._files.segment(number))
            try:
                while not try_lock(fd):
                    if time.monotonic() > until:
                        raise TemporaryFailure(
                            "the checkpoint timed out: a delivery is not applied yet"
                        )
                    time.sleep(TICK)
            finally:
                os.close(fd)
        return all(self._files.state.all_applied(number, counts[number]) for number in pending)

    def _sync(self, oldest: int, until: int) -> None:
        """Sync the file system and write the checkpoint; if the sync fails, redo all first."""
        self._change(syncing=True)
        failed: OSError | None = None
        try:
            segments.sync_all(self._files.sync_fd)
        except OSError as error:
            failed = error
        with self._files.appending.held():
            state = self._files.state.read()
            if failed is not None:
                self._report("error", f"the file system sync failed ({failed}); recovering all")
                self.mark_suspect(state)  # including what was appended meanwhile
            if self._is_suspect(state, oldest):  # or another sync has failed meanwhile
                self._redo_all(state, until, anew=True, synced=True)
            else:
                self._set_checkpointed(state, until)
            self._files.state.write(state)

    def _is_suspect(self, state: State, generation: int) -> bool:
        """Whether a sync has failed since this generation began."""
        return generation <= max(state.suspect, self.failed)

    def _change(self, *, syncing: bool) -> None:
        with self._files.appending.held():
            state = self._files.state.read()
            state.syncing = syncing
            self._files.state.write(state)

    def _redo_all(self, state: State, until: int, *, anew: bool, synced: bool) -> None:
        """Redo generations up to ``until`` that no checkpoint covers, and write the checkpoint."""
        recovery = self.recovery(state, state.pending())
        if not self.apply_again(recovery, until, anew=anew, synced=synced):
            self.mark_suspect(state)
        if synced:
            self._set_checkpointed(state, until)
        else:
            self.sync_again(state, recovery, until)

    def apply_again(
        self, recovery: PendingBatches, until: int, *, anew: bool, synced: bool
    ) -> bool:
        """Redo generations up to ``until``.  False if the disk failed at a step."""
        work = self._redo(self._large.folder, anew=anew, synced=synced)
        self._large.add(recovery.redo(work, until, self._key_of))
        return work.well

    def sync_again(self, state: State, recovery: PendingBatches, until: int) -> None:
        """Sync what was redone and write the checkpoint; if the sync fails, redo with syncs."""
        try:
            segments.sync_all(self._files.sync_fd)
        except OSError as error:
            self._report("error", f"the file system sync failed ({error}); recovering all")
            self.mark_suspect(state)
            self.apply_again(recovery, until, anew=True, synced=True)
        self._set_checkpointed(state, until)

    def _set_checkpointed(self, state: State, until: int) -> None:
        self._files.checkpoint_file.write(until, state.checkpointed)
        state.checkpointed = until
        state.syncing = state.no_space = False
        if state.generation <= until:
            state.current = -1

    def close_generation(self, state: State) -> None:
        """End the current generation: what is appended next begins another."""
        state.current = -1
        self._files.state.write(state)

    def mark_suspect(self, state: State) -> None:
        """
        A sync has failed: all that was applied so far is suspect, and is applied again.

        The device may have dropped its cache, or the kernel the pages that could not be
        written; that is reported once, and later syncs succeed.
        """
        state.suspect = state.generation
        self.close_generation(state)

    def recovery(
        self, state: State, numbers: Iterable[int], *, tolerant: bool = False
    ) -> PendingBatches:
        """Find the batches in these segments that no checkpoint covers (``PendingBatches``)."""
        files = self._files
        where = files.segment, files.key, state.checkpointed
        return PendingBatches(numbers, *where, self._report, tolerant=tolerant)

    def unlink_large(self) -> None:
        """Remove the large texts that a checkpoint covers."""
        with self._files.appending.held():
            done = self._large.take(self._files.state.read().checkpointed)
        self._large.unlink(done)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Checkpoint everything and hold the append lock, to move or discard whole maildrops."""
        until = time.monotonic() + 2 * PATIENCE
        while True:
            self.checkpoint()
            with self._files.appending.held():
                if not (self._files.active and self._files.state.read().pending()):
                    yield
                    return
            if time.monotonic() > until:
                raise TemporaryFailure("waiting for the journal to be empty timed out")
            time.sleep(TICK)
