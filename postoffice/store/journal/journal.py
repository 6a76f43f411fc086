"""
The store's journal: a write-ahead log of deliveries and removals.

Every process of a store appends batches of records in one order, and makes each
batch durable by one data sync (commit).  Then it applies the batch to the
maildrops without a sync.  Every few seconds a checkpoint syncs the file system;
the segments that it covers are used again.  A start recovers the batches that
no checkpoint covers.

The journal knows no Maildir: its ``redo`` argument applies records to them.
The format is in ``records``, the files in ``segments``, recovery in
``recovery``.  All functions block.  Every rule has a test (docs/reliability.rst).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from itertools import count
from typing import NamedTuple, TypeVar

from postoffice.model.errors import NoSpace, StartupError, TemporaryFailure
from postoffice.store.files import FULL, open_own, sync_folder
from postoffice.store.journal import segments
from postoffice.store.journal.filesystem import FILES, JOURNAL
from postoffice.store.journal.records import (
    BLOCK,
    PutRecord,
    Record,
    RemoveRecord,
    encode,
    room_for,
)
from postoffice.store.journal.recovery import MakeRedo, PendingBatches
from postoffice.store.journal.segments import (
    SEGMENT,
    SEGMENTS,
    CheckpointFile,
    FileLock,
    State,
    StateFile,
)

#: Seconds to wait for other processes and threads before giving up.
PATIENCE = 5.0
_TICK = 0.01
#: How often a state in another format is read before we report a process of another version.
_LOOKS = 100
_R = TypeVar("_R", PutRecord, RemoveRecord)
#: How many checkpoints we leave to processes that joined before us.
_OTHERS = 3


class Ticket(NamedTuple):
    """A batch that is committed and not applied yet; ``fd`` holds a shared lock on its segment."""

    fd: int
    generation: int
    segment: int
    number: int


@dataclass
class Recovered:
    """What a recovery found."""

    batches: int = 0
    put_records: int = 0
    removals: int = 0


class Journal:
    """
    One process's access to the journal in ``folder``.

    ``redo`` makes what applies records again.  ``report`` is called with a log
    level and a text.  ``key_of`` gives the part of a message's name that never
    changes, which names its large text.  ``segment`` is the size of a segment.

    Locks: ``append`` is held while the state is read or written, and for each
    append; ``retire`` (taken first) for a checkpoint; a segment, shared, from the append
    of a batch until it is applied; ``open``, shared, as long as a process serves
    the store, exclusive while it starts or stops alone.
    """

    def __init__(
        self,
        folder: str,
        redo: MakeRedo,
        report: Callable[[str, str], None],
        *,
        key_of: Callable[[str], str],
        segment: int = SEGMENT,
    ) -> None:
        self._root = os.path.dirname(folder)
        self.large = f"{folder}/large"
        self._folder = folder
        self._redo = redo
        self.report = report
        self._key_of = key_of
        self._size = segment
        self._appending = FileLock(f"{folder}/append")
        self._checkpointing = FileLock(f"{folder}/retire")
        self._open_fd = self._sync_fd = -1
        self.device = 0  # of the file system that a checkpoint syncs
        self._since = 0  # the first generation that began after our descriptor was opened
        self._left_to_others = 0
        self.durability = ""  # of the store, once the journal is open
        self.active = False  # whether there is anything to append or to checkpoint
        self._large: dict[
            str, int
        ] = {}  # keys of large texts that a recovery may need, with their generations
        self._named: set[int] = set()  # the segments whose names are durable
        self._failed = -1  # the last generation in which a write or sync of ours failed
        self._files = ExitStack()
        self._key = b""
        self._mark: CheckpointFile
        self._state: StateFile

    def maildrop(self, path: str) -> str:
        """The name of a maildrop in records: its folder's path below the store."""
        return path[len(self._root) + 1 :]

    # -- beginning and end -----------------------------------------------------

    def open(self, durability: str, *, asked: bool = True) -> Recovered:
        """
        Join the processes that serve the store; if there are none, recover what they left.

        Returns what was recovered.  If ``asked`` is false, ``durability`` is only
        a default, and the other processes' durability is used.

        Raises StartupError if others serve the store with another durability, or
        the journal cannot be used; TemporaryFailure, OSError.
        """
        segments.prepare(self._folder)
        self._open_fd = open_own(f"{self._folder}/open", os.O_RDONLY)
        try:
            return self._join(durability, asked)
        except BaseException:
            self._leave()
            raise

    def _join(self, durability: str, asked: bool) -> Recovered:
        for look in count():
            alone = self._try_alone()
            if not alone:
                flock(self._open_fd, LOCK_SH)  # waits while another process recovers
            self._read_key()
            found = Recovered()
            if alone:
                found = self._begin_alone(durability)
                flock(self._open_fd, LOCK_SH)
            with self._appending.held():
                state = self._state.read()
                if state.boot == segments.boot():
                    # if we were alone, we have recovered everything ourselves
                    self._since = 0 if alone else state.generation + 1
                    self._close_generation(state)
                    break
            if look >= _LOOKS and self._state.is_of_another_version():
                raise StartupError(
                    "a process of another version serves this store, and its journal cannot be "
                    "shared with it; restart the post office first"
                )
            # the process that was alone has died before it was ready: try again
            self._let_go()
            time.sleep(_TICK)
        if not asked and state.durability in (JOURNAL, FILES):
            durability = state.durability
        self.durability = durability
        self.active = durability == JOURNAL or state.held
        if state.durability != durability or not self.active:
            self._let_go()
        if state.durability != durability:
            raise StartupError(
                f"another process serves this store with durability: {state.durability}, this one "
                f"would with {durability}; stop it first, or give both the same"
            )
        return found

    def _try_alone(self) -> bool:
        try:
            flock(self._open_fd, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _read_key(self) -> None:
        try:
            self._key = segments.read_key(self._folder)
            self._mark = CheckpointFile(f"{self._folder}/mark", self._key)
            self._files.callback(self._mark.close)
        except FileNotFoundError:
            raise StartupError(
                f"{self._folder} has segments and no key: recovering what they hold failed; put "
                "the file `key` back, or, if no mail is missing, move the folder away"
            ) from None
        # opened before anything is applied: syncfs reports every failed write since then
        self._sync_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._files.callback(os.close, self._sync_fd)
        self.device = os.fstat(self._sync_fd).st_dev
        self._state = StateFile(f"{self._folder}/state")
        self._files.callback(self._state.close)

    def _begin_alone(self, durability: str) -> Recovered:
        self._mark.affirm()  # else a power cut could bring back segments that we use again
        state = State(durability=durability, checkpointed=self._mark.read())
        self._state.write(state)  # without our boot id: others wait until we are ready
        recovery = self._recovery(state, range(SEGMENTS))
        state.generations, state.counts = recovery.generations, recovery.counts
        state.generation = max(state.checkpointed, *state.generations)
        found = Recovered(recovery.batches, recovery.put_records, len(recovery.removals))
        if found.batches:
            try:
                self._apply_again(recovery, state.generation, anew=True, synced=False)
                if durability == JOURNAL:
                    self._leave_for_checkpoint(state)
                else:
                    self._sync_again(state, recovery, state.generation)
            except (OSError, TemporaryFailure) as error:
                if not _is_for_want_of_space(error):
                    raise
                state.held = True
                self.report(
                    "error",
                    f"recovering {found.put_records} messages failed: no space on the disk; they "
                    "wait in the journal, and mail is refused until there is room",
                )
        if not state.held:
            self._sweep_large(state.checkpointed)
        state.boot = segments.boot()
        self._state.write(state)
        return found

    def _leave_for_checkpoint(self, state: State) -> None:
        """Mark all as applied: the first checkpoint syncs it, so that the start need not wait."""
        for number in state.pending():
            self._state.set_all_applied(number, state.counts[number])

    def _recovery(self, state: State, numbers: Iterable[int]) -> PendingBatches:
        return PendingBatches(numbers, self._segment, self._key, state.checkpointed, self.report)

    def _segment(self, number: int) -> str:
        return f"{self._folder}/seg.{number}"

    def close(self) -> None:
        """Leave the journal, with no batch under way.  The last process checkpoints it."""
        if self._open_fd < 0:
            return
        if self.active:
            with suppress(OSError, TemporaryFailure):
                if self._try_alone():
                    self.checkpoint(now=True)
                    self._sweep_large(self._state.read().checkpointed)
                else:
                    self._unlink_large()
            with ExitStack() as others:
                with suppress(OSError):  # close all the same if the disk has failed
                    others.enter_context(self._checkpointing.held())  # wait for a checkpoint
                self.active = False
                self._let_go()
        self._leave()

    def _leave(self) -> None:
        self._let_go()
        os.close(self._open_fd)
        self._open_fd = -1
        self._appending.close()
        self._checkpointing.close()

    def _let_go(self) -> None:
        self._files.close()

    def apply_waiting(self) -> None:
        """
        Apply the messages that could not be recovered for want of space.

        Raises TemporaryFailure or OSError if there is still no space.
        """
        if self.active and self._state.read().held:
            self.checkpoint(now=True)

    # -- appending -------------------------------------------------------------

    def append(self, make: Callable[[], Sequence[Record]]) -> Ticket | None:
        """
        Commit records, all of them or none; return a Ticket, or None if there are none.

        ``make`` returns the records.  It is called with the append lock held: what
        it checks stays true until they are appended.  It may be called more than
        once.  Raises TemporaryFailure, NoSpace, OSError; after an error, a crash
        may still make the records take effect.
        """
        until = time.monotonic() + PATIENCE
        while True:
            with self._appending.held():
                records = make()
                if not records:
                    return None
                state = self._state.read()
                if state.held:
                    raise NoSpace(
                        "mail is refused: messages in the journal wait for space in the store"
                    )
                if self._has_room(state, room_for(records)):
                    return self._append(state, records)
            if time.monotonic() > until:
                raise TemporaryFailure(
                    "the journal is full, and a checkpoint timed out: the disk is slow"
                )
            self.checkpoint(stand_in=False)
            time.sleep(_TICK)

    def _has_room(self, state: State, octets: int) -> bool:
        """Whether there is room for so many octets; begins the next generation if needed."""
        if octets > self._size:
            raise TemporaryFailure(f"{octets} octets do not fit into a segment")
        failed = state.generation == self._failed  # even if the state could not be written
        if state.current >= 0 and not failed and state.tail + octets <= self._size:
            return True
        free = [n for n in range(SEGMENTS) if state.generations[n] <= state.checkpointed]
        if not free:
            return False
        self._make_segment(free[0])
        state.generation += 1
        state.current, state.tail = free[0], 0
        state.generations[free[0]], state.counts[free[0]] = state.generation, 0
        self._state.begin(free[0])
        self._state.write(state)
        return True

    def _make_segment(self, number: int) -> None:
        """Make sure that a segment exists, and that its name is durable."""
        if number not in self._named:
            if not os.path.exists(self._segment(number)):
                segments.make_segment(self._segment(number), self._size)
            sync_folder(self._folder)  # also if another process made it: it may have failed to
            self._named.add(number)

    def _append(self, state: State, records: Sequence[Record]) -> Ticket:
        at = state.tail
        octets = encode(self._key, state.generation, at, records)
        fd = segments.open_segment(self._segment(state.current))
        try:
            flock(fd, LOCK_SH)
            segments.write_all(fd, octets, at)
            os.fdatasync(fd)
            ticket = Ticket(fd, state.generation, state.current, state.counts[state.current])
            state.tail += len(octets)
            state.counts[state.current] += 1
            self._state.write(state)
        except BaseException:
            # what a failed sync has left on the disk, nobody knows: nothing goes behind it
            self._failed = state.generation
            with suppress(OSError):  # erased, so that it is not recovered
                segments.write_all(fd, bytes(BLOCK), at)
            os.close(fd)
            self._mark_suspect(self._state.read())
            raise
        for record in records:
            if isinstance(record, PutRecord) and record.text is None:
                self._large[self._key_of(record.name)] = state.generation
        return ticket

    def _close_generation(self, state: State) -> None:
        state.current = -1
        self._state.write(state)

    def _mark_suspect(self, state: State) -> None:
        """
        A sync has failed: all that was applied so far is suspect, and is applied again.

        The device may have dropped its cache, or the kernel the pages that could not be
        written; that is reported once, and later syncs succeed.
        """
        state.suspect = state.generation
        self._close_generation(state)

    def note_failed_sync(self) -> None:
        """The caller's sync of another file has failed: what was applied so far is suspect."""
        with suppress(OSError):
            self._failed = (
                self._state.read().generation
            )  # a checkpoint that is under way sees it at once
            with self._appending.held():
                self._mark_suspect(self._state.read())

    def applied(self, ticket: Ticket) -> None:
        """The batch of this ticket is applied, or undone."""
        with suppress(OSError):  # a checkpoint applies it again, which changes nothing
            self._state.set_applied(ticket.segment, ticket.number)
        os.close(ticket.fd)

    def leave(self, ticket: Ticket) -> None:
        """The batch of this ticket could not be applied: a checkpoint applies it again."""
        os.close(ticket.fd)

    # -- checkpoints -----------------------------------------------------------

    def checkpoint(self, *, now: bool = False, stand_in: bool = True) -> None:
        """
        Sync what is applied and free its segments; first redo what is not applied.

        Generations from before we joined are left to the older processes for a few rounds:
        only they can tell whether a sync failed since, and need not redo all.
        ``now``: do those as well.  Not ``stand_in``: never do those.
        Raises TemporaryFailure if a process does not finish applying; OSError.
        """
        with self._checkpointing.held():
            if self.active:
                self._checkpoint(now, stand_in)
                self._unlink_large()

    def _checkpoint(self, now: bool, stand_in: bool) -> None:
        with self._appending.held():
            state = self._state.read()
            pending = state.pending()
            if not pending:
                return
            oldest = state.generations[pending[0]]
            ours = oldest >= self._since
            theirs = not (now or ours or state.held)
            if theirs and (not stand_in or self._left_to_others < _OTHERS):
                self._left_to_others += stand_in  # they can tell whether a sync has failed
                return
            self._left_to_others = 0
            self._close_generation(state)
        until, counts = state.generation, state.counts
        whole = self._all_applied(pending, counts)
        suspect = self._is_suspect(state, oldest)
        if suspect:
            self.report("warn", "a sync has failed; recovering all that may not be on the disk")
        believed = ours and not (state.held or state.syncing or suspect)
        if believed and whole:
            self._sync(oldest, until)
        else:
            with self._appending.held():
                state = self._state.read()
                anew = not believed or self._is_suspect(state, oldest)
                self._redo_all(state, until, anew=anew, synced=anew)
                self._state.write(state)

    def _all_applied(self, pending: Sequence[int], counts: Sequence[int]) -> bool:
        """Wait for writers to finish.  False if one died before its batches were applied."""
        until = time.monotonic() + PATIENCE
        for number in pending:
            fd = segments.open_segment(self._segment(number))
            try:
                while not _is_free(fd):
                    if time.monotonic() > until:
                        raise TemporaryFailure(
                            "the checkpoint timed out: a delivery is not applied yet"
                        )
                    time.sleep(_TICK)
            finally:
                os.close(fd)
        return all(self._state.all_applied(number, counts[number]) for number in pending)

    def _sync(self, oldest: int, until: int) -> None:
        """Sync the file system and write the checkpoint; if the sync fails, redo all first."""
        self._change(syncing=True)
        failed: OSError | None = None
        try:
            segments.sync_all(self._sync_fd)
        except OSError as error:
            failed = error
        with self._appending.held():
            state = self._state.read()
            if failed is not None:
                self.report("error", f"the file system sync failed ({failed}); recovering all")
                self._mark_suspect(state)  # including what was appended meanwhile
            if self._is_suspect(state, oldest):  # or another sync has failed meanwhile
                self._redo_all(state, until, anew=True, synced=True)
            else:
                self._set_checkpointed(state, until)
            self._state.write(state)

    def _is_suspect(self, state: State, generation: int) -> bool:
        """Whether a sync has failed since this generation began."""
        return generation <= max(state.suspect, self._failed)

    def _change(self, *, syncing: bool) -> None:
        with self._appending.held():
            state = self._state.read()
            state.syncing = syncing
            self._state.write(state)

    def _redo_all(self, state: State, until: int, *, anew: bool, synced: bool) -> None:
        """Redo generations up to ``until`` that no checkpoint covers, and write the checkpoint."""
        recovery = self._recovery(state, state.pending())
        if not self._apply_again(recovery, until, anew=anew, synced=synced):
            self._mark_suspect(state)
        if synced:
            self._set_checkpointed(state, until)
        else:
            self._sync_again(state, recovery, until)

    def _apply_again(
        self, recovery: PendingBatches, until: int, *, anew: bool, synced: bool
    ) -> bool:
        """Redo generations up to ``until``.  False if the disk failed at a step."""
        work = self._redo(self.large, anew=anew, synced=synced)
        self._large |= recovery.redo(work, until, self._key_of)
        return work.well

    def _sync_again(self, state: State, recovery: PendingBatches, until: int) -> None:
        """Sync what was redone and write the checkpoint; if the sync fails, redo with syncs."""
        try:
            segments.sync_all(self._sync_fd)
        except OSError as error:
            self.report("error", f"the file system sync failed ({error}); recovering all")
            self._mark_suspect(state)
            self._apply_again(recovery, until, anew=True, synced=True)
        self._set_checkpointed(state, until)

    def _set_checkpointed(self, state: State, until: int) -> None:
        self._mark.write(until, state.checkpointed)
        state.checkpointed = until
        state.syncing = state.held = False
        if state.generation <= until:
            state.current = -1

    def _unlink_large(self) -> None:
        with self._appending.held():
            checkpointed = self._state.read().checkpointed
            done = [key for key, generation in self._large.items() if generation <= checkpointed]
            for key in done:
                del self._large[key]
        for key in done:
            self._unlink(key)

    def _unlink(self, key: str) -> None:
        """A large text goes; one that does not (its message is immutable) costs only its room."""
        path = f"{self.large}/{key}"
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self.report("error", f"removing {path} failed: {error}; the next start tries again")

    def _sweep_large(self, checkpointed: int) -> None:
        """Remove large texts that no recovery needs.  The caller is alone, and all is applied."""
        self._large = {key: one for key, one in self._large.items() if one > checkpointed}
        for key in set(os.listdir(self.large)) - self._large.keys():
            self._unlink(key)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Checkpoint everything and hold the append lock, to move or discard whole maildrops."""
        until = time.monotonic() + 2 * PATIENCE
        while True:
            self.checkpoint()
            with self._appending.held():
                if not (self.active and self._state.read().pending()):
                    yield
                    return
            if time.monotonic() > until:
                raise TemporaryFailure("waiting for the journal to be empty timed out")
            time.sleep(_TICK)


def _is_for_want_of_space(error: Exception) -> bool:
    why = error if isinstance(error, OSError) else error.__cause__
    return isinstance(why, OSError) and why.errno in FULL


def _is_free(fd: int) -> bool:
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True
