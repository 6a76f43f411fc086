"""
The store's journal: what was promised is durable here before it is in its place.

Deliveries and removals are appended in one order, all processes of a store
together, and made durable by one data sync; then they are put in their places
without syncs of their own.  The file system is synced off the hot path; what
it has synced is retired, and its segments are used again.  A start replays
what was not retired.

It knows no Maildir: who does that is given by whoever makes it.  All functions
block.  Every rule of it has a test (docs/reliability.rst).
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

#: Seconds that whoever must wait for others does, before it gives up or helps itself.
PATIENCE = 5.0
_TICK = 0.01
#: How often a state of another version is read before it is said to be one.
_LOOKS = 100
_R = TypeVar("_R", PutRecord, RemoveRecord)
#: Rounds of retiring that are left to processes which were here before us.
_OTHERS = 3


class Ticket(NamedTuple):
    """A group that is durable, and not yet in its place; its segment is locked as long."""

    fd: int
    generation: int
    segment: int
    number: int


@dataclass
class Recovered:
    """What a replay had to do."""

    batches: int = 0
    put_records: int = 0
    removals: int = 0


class Journal:
    """
    One process's part in the journal that lies in ``folder``.

    ``report`` is told in words, with the log's level, what somebody should know.
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
        self._key_of = key_of  # of a message's name: what of it never changes; its large text's
        self._size = segment
        self._appending = FileLock(f"{folder}/append")
        self._checkpointing = FileLock(f"{folder}/retire")
        self._open_fd = self._sync_fd = -1
        self.device = 0  # which file system it syncs
        self._since = 0  # the first generation that began after our descriptor was opened
        self._left_to_others = 0
        self.durability = ""  # which it is, once it is open
        self.active = False  # whether there is anything to append or to retire
        self._large: dict[str, int] = {}  # texts that a replay may need, with their generations
        self._named: set[int] = set()  # the segments whose names are on the disk
        self._failed = -1  # the generation in which a write or a sync of ours went wrong last
        self._files = ExitStack()
        self._key = b""
        self._mark: CheckpointFile
        self._state: StateFile

    def maildrop(self, path: str) -> str:
        """What a maildrop's folder is called here: by its place in the store."""
        return path[len(self._root) + 1 :]

    # -- beginning and end -----------------------------------------------------

    def open(self, durability: str, *, asked: bool = True) -> Recovered:
        """
        Join the others, or, alone, replay what they left; what that was.

        Where nobody ``asked`` for this durability, it is the others'.

        Raises StartupError where others keep the store another way, and where
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
                flock(self._open_fd, LOCK_SH)  # while one of them replays, we wait here
            self._read_key()
            found = Recovered()
            if alone:
                found = self._begin_alone(durability)
                flock(self._open_fd, LOCK_SH)
            with self._appending.held():
                state = self._state.read()
                if state.boot == segments.boot():
                    # where we were alone, we have placed ourselves all that is not retired
                    self._since = 0 if alone else state.generation + 1
                    self._close_generation(state)
                    break
            if look >= _LOOKS and self._state.is_of_another_version():
                raise StartupError(
                    "a process of another version serves this store, and its journal cannot be "
                    "shared with it; restart the post office first"
                )
            # whoever was alone has died before it was ready; others came by the same way
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
                f"{self._folder} has segments and no key, so what they hold cannot be read; put "
                "the file `key` back, or, where all mail is in its place, move the folder away"
            ) from None
        # before anything that it shall hear of is placed
        self._sync_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._files.callback(os.close, self._sync_fd)
        self.device = os.fstat(self._sync_fd).st_dev
        self._state = StateFile(f"{self._folder}/state")
        self._files.callback(self._state.close)

    def _begin_alone(self, durability: str) -> Recovered:
        self._mark.affirm()  # else segments are used again that a power cut would bring back
        state = State(durability=durability, checkpointed=self._mark.read())
        self._state.write(state)  # nobody is to believe what is there until we are ready
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
                    f"no space to put {found.put_records} messages in their places that were taken "
                    "in before the last stop: they wait in the journal, and no mail is taken in "
                    "until there is room",
                )
        if not state.held:
            self._sweep_large(state.checkpointed)
        state.boot = segments.boot()
        self._state.write(state)
        return found

    def _leave_for_checkpoint(self, state: State) -> None:
        """All is in its place; it reaches the disk in the first round, behind an open door."""
        for number in state.pending():
            self._state.set_all_applied(number, state.counts[number])

    def _recovery(self, state: State, numbers: Iterable[int]) -> PendingBatches:
        return PendingBatches(numbers, self._segment, self._key, state.checkpointed, self.report)

    def _segment(self, number: int) -> str:
        return f"{self._folder}/seg.{number}"

    def close(self) -> None:
        """Leave; nothing of ours may be on its way.  Whoever is last leaves nothing to replay."""
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
                with suppress(OSError):  # or the disk has failed
                    others.enter_context(self._checkpointing.held())  # whoever is at it ends
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
        Put in its place what waits for room: all mail that was taken in is to be seen.

        Raises TemporaryFailure, OSError where there is no room still.
        """
        if self.active and self._state.read().held:
            self.checkpoint(now=True)

    # -- appending -------------------------------------------------------------

    def append(self, make: Callable[[], Sequence[Record]]) -> Ticket | None:
        """
        Make records durable: all of them, or none; None where there are none.

        ``make`` says which, when everybody else waits: what it looks at stays
        so until they are appended.  It may be asked again.  Raises
        TemporaryFailure, NoSpace, OSError; what failed may still have taken
        effect after a crash.
        """
        until = time.monotonic() + PATIENCE
        while True:
            with self._appending.held():
                records = make()
                if not records:
                    return None
                state = self._state.read()
                if state.held:
                    raise NoSpace("mail waits in the journal for room in the store")
                if self._has_room(state, room_for(records)):
                    return self._append(state, records)
            if time.monotonic() > until:
                raise TemporaryFailure("the journal is full: the disk does not keep up")
            self.checkpoint(stand_in=False)
            time.sleep(_TICK)

    def _has_room(self, state: State, octets: int) -> bool:
        """Whether there is room for so many; the next generation begins where it must."""
        if octets > self._size:
            raise TemporaryFailure(f"{octets} octets do not fit into a segment")
        failed = state.generation == self._failed  # also where that could not be written down
        if state.current >= 0 and not failed and state.tail + octets <= self._size:
            return True
        free = [n for n in range(SEGMENTS) if state.generations[n] <= state.checkpointed]
        if not free:
            return False
        self._see_to_segment(free[0])
        state.generation += 1
        state.current, state.tail = free[0], 0
        state.generations[free[0]], state.counts[free[0]] = state.generation, 0
        self._state.begin(free[0])
        self._state.write(state)
        return True

    def _see_to_segment(self, number: int) -> None:
        """It is there, and so is its name, whenever the power goes."""
        if number not in self._named:
            if not os.path.exists(self._segment(number)):
                segments.make_segment(self._segment(number), self._size)
            sync_folder(self._folder)  # also where who made it did not come to that, or failed to
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
            with suppress(OSError):  # nor is it replayed, unless a crash brings it back
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
        A sync has failed: what was placed until now may be gone, and no later sync says so.

        A device that could not flush its cache has dropped it, or a file's
        octets are forgotten that could not be written: that is told once.
        """
        state.suspect = state.generation
        self._close_generation(state)

    def note_failed_sync(self) -> None:
        """A sync of something else has failed."""
        with suppress(OSError):
            self._failed = self._state.read().generation  # whoever retires now knows it at once
            with self._appending.held():
                self._mark_suspect(self._state.read())

    def applied(self, ticket: Ticket) -> None:
        """All of a group is in its place, or undone."""
        with suppress(OSError):  # whoever retires it finds all in its place
            self._state.set_applied(ticket.segment, ticket.number)
        os.close(ticket.fd)

    def leave(self, ticket: Ticket) -> None:
        """A group could not be put in its place: whoever retires it replays it."""
        os.close(ticket.fd)

    # -- retiring --------------------------------------------------------------

    def checkpoint(self, *, now: bool = False, stand_in: bool = True) -> None:
        """
        Sync what is in its place, and let go of its segments; replay where something is not.

        ``now``: also what others may do with less work, if they are there still;
        not ``stand_in``: only what is ours, however often others were waited for.
        Raises TemporaryFailure where somebody is not done with placing, OSError.
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
                self._left_to_others += stand_in  # they can tell whether all has reached the disk
                return
            self._left_to_others = 0
            self._close_generation(state)
        until, counts = state.generation, state.counts
        whole = self._all_applied(pending, counts)
        suspect = self._is_suspect(state, oldest)
        if suspect:
            self.report("warn", "a sync has failed; placing all anew that may not be on the disk")
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
        """Wait for those who place; whether all was placed: who was killed has not."""
        until = time.monotonic() + PATIENCE
        for number in pending:
            fd = segments.open_segment(self._segment(number))
            try:
                while not _is_free(fd):
                    if time.monotonic() > until:
                        raise TemporaryFailure("a delivery has not been put in its place for long")
                    time.sleep(_TICK)
            finally:
                os.close(fd)
        return all(self._state.all_applied(number, counts[number]) for number in pending)

    def _sync(self, oldest: int, until: int) -> None:
        """What is placed reaches the disk, and the mark says so; or all is placed once more."""
        self._change(syncing=True)
        failed: OSError | None = None
        try:
            segments.sync_all(self._sync_fd)
        except OSError as error:
            failed = error
        with self._appending.held():
            state = self._state.read()
            if failed is not None:
                self.report("error", f"the file system could not sync ({failed}); placing all anew")
                self._mark_suspect(state)  # also what came meanwhile, for later generations
            if self._is_suspect(state, oldest):  # also where another sync has failed meanwhile
                self._redo_all(state, until, anew=True, synced=True)
            else:
                self._set_checkpointed(state, until)
            self._state.write(state)

    def _is_suspect(self, state: State, generation: int) -> bool:
        """Whether a sync has failed since it began."""
        return generation <= max(state.suspect, self._failed)

    def _change(self, *, syncing: bool) -> None:
        with self._appending.held():
            state = self._state.read()
            state.syncing = syncing
            self._state.write(state)

    def _redo_all(self, state: State, until: int, *, anew: bool, synced: bool) -> None:
        """Replay what is not retired of the generations ``until`` this, and retire it."""
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
        """Whether nothing went wrong with it."""
        work = self._redo(self.large, anew=anew, synced=synced)
        self._large |= recovery.redo(work, until, self._key_of)
        return work.well

    def _sync_again(self, state: State, recovery: PendingBatches, until: int) -> None:
        """What was placed again is retired; placed once more, where it did not reach the disk."""
        try:
            segments.sync_all(self._sync_fd)
        except OSError as error:
            self.report("error", f"the file system could not sync ({error}); placing all anew")
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
        """Nobody else is here, and all is in its place: what no replay will need goes."""
        self._large = {key: one for key, one in self._large.items() if one > checkpointed}
        for key in set(os.listdir(self.large)) - self._large.keys():
            self._unlink(key)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Nothing is on its way, and nobody appends: for what changes maildrops as a whole."""
        until = time.monotonic() + 2 * PATIENCE
        while True:
            self.checkpoint()
            with self._appending.held():
                if not (self.active and self._state.read().pending()):
                    yield
                    return
            if time.monotonic() > until:
                raise TemporaryFailure("the journal does not come to rest")
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
