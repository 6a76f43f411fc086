"""
The store's journal: a write-ahead log of deliveries and removals.

Every process of a store appends batches of records in one order, and makes each
batch durable by one data sync (commit).  Then it applies the batch to the
maildrops without a sync.  Every few seconds a checkpoint syncs the file system;
the segments that it covers are used again.  A start recovers the batches that
no checkpoint covers.

The journal knows no Maildir: its ``redo`` argument applies records to them.
The format is in ``records``, the files in ``segments`` and ``journal_files``,
the rest in ``checkpoints`` and ``recovery``.  All functions block.  Every rule has
a test (docs/reliability.rst).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fcntl import LOCK_SH, flock
from itertools import count
from typing import NamedTuple

from postoffice.model.errors import NoSpace, StartupError, TemporaryFailure
from postoffice.store.files import FULL, Report, make_folder
from postoffice.store.journal import segments
from postoffice.store.journal.checkpoints import Checkpoints
from postoffice.store.journal.filesystem import FILES, JOURNAL
from postoffice.store.journal.journal_files import PATIENCE, TICK, JournalFiles
from postoffice.store.journal.large_texts import LargeTexts
from postoffice.store.journal.records import BLOCK, PutRecord, Record, encode, room_for
from postoffice.store.journal.recovery import MakeRedo
from postoffice.store.journal.segments import SEGMENT, SEGMENTS, State
from postoffice.util.atomic_file import sync_folder

#: The folder of segments that the disk could not read at a start.
UNREADABLE = "unreadable"
#: How often a state in another format is read before we report a process of another version.
_LOOKS = 100


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

    The locks are those of ``journal_files``.
    """

    def __init__(
        self,
        folder: str,
        redo: MakeRedo,
        report: Report,
        *,
        key_of: Callable[[str], str],
        segment: int = SEGMENT,
    ) -> None:
        self.durability = ""  # of the store, once the journal is open
        self.report = report
        self.large = f"{folder}/large"
        self._root = os.path.dirname(folder)
        self._key_of = key_of
        self._files = JournalFiles(folder, segment)
        self._large = LargeTexts(self.large, report)
        self._checkpoints = Checkpoints(self._files, self._large, redo, report, key_of)
        self.checkpoint = self._checkpoints.checkpoint
        self.quiet = self._checkpoints.quiet

    @property
    def active(self) -> bool:
        """Whether there is anything to append or to checkpoint."""
        return self._files.active

    @property
    def device(self) -> int:
        """The device of the file system that a checkpoint syncs."""
        return self._files.device

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
        self._files.join()
        try:
            return self._join(durability, asked)
        except BaseException:
            self._files.leave()
            raise

    def _join(self, durability: str, asked: bool) -> Recovered:
        for look in count():
            alone = self._files.try_alone()
            if not alone:
                self._files.share()  # waits while another process recovers
            self._files.open()
            found = Recovered()
            if alone:
                found = self._begin_alone(durability)
                self._files.share()
            with self._files.appending.held():
                state = self._files.state.read()
                if state.boot == segments.boot():
                    # if we were alone, we have recovered everything ourselves
                    self._checkpoints.since = 0 if alone else state.generation + 1
                    self._checkpoints.close_generation(state)
                    break
            if look >= _LOOKS and self._files.state.is_of_another_version():
                raise StartupError(
                    "a process of another version serves this store, and its journal cannot be "
                    "shared with it; restart the post office first"
                )
            # the process that was alone has died before it was ready: try again
            self._files.close()
            time.sleep(TICK)
        if not asked and state.durability in (JOURNAL, FILES):
            durability = state.durability
        self.durability = durability
        self._files.active = durability == JOURNAL or state.no_space
        if state.durability != durability or not self.active:
            self._files.close()
        if state.durability != durability:
            raise StartupError(
                f"another process serves this store with durability: {state.durability}, this one "
                f"would with {durability}; stop it first, or give both the same"
            )
        return found

    def _begin_alone(self, durability: str) -> Recovered:
        # else a power cut could bring back segments that we use again
        self._files.checkpoint_file.affirm()
        state = State(durability=durability, checkpointed=self._files.checkpoint_file.read())
        self._files.state.write(state)  # without our boot id: others wait until we are ready
        recovery = self._checkpoints.recovery(state, range(SEGMENTS), tolerant=True)
        state.generations, state.counts = recovery.generations, recovery.counts
        state.generation = max(state.checkpointed, *state.generations)
        found = Recovered(recovery.batches, recovery.put_records, len(recovery.removals))
        if found.batches or recovery.unreadable:
            synced = recovery.sync()
            try:
                self._checkpoints.apply_again(recovery, state.generation, anew=True, synced=False)
                if durability == JOURNAL and synced and not recovery.unreadable:
                    self._leave_for_checkpoint(state)
                else:
                    self._checkpoints.sync_again(state, recovery, state.generation)
            except (OSError, TemporaryFailure) as error:
                if not _is_for_want_of_space(error):
                    raise
                state.no_space = True
                self.report(
                    "error",
                    f"recovering {found.put_records} messages failed: no space on the disk; they "
                    "wait in the journal, and mail is refused until there is room",
                )
        if not state.no_space:
            if recovery.unreadable:  # all is synced: no later start needs to read them again
                self._put_away(recovery.unreadable, state.checkpointed)
            self._large.sweep(state.checkpointed)
        state.boot = segments.boot()
        self._files.state.write(state)
        return found

    def _put_away(self, numbers: Sequence[int], checkpointed: int) -> None:
        """
        Move segments that the disk cannot read out of the way, with the large texts.

        What they held is recovered as far as it can be.  Nobody knows which large
        texts were theirs: all that no recovery needs are kept beside them.
        """
        folder = f"{self._files.folder}/{UNREADABLE}/{time.time_ns()}"
        for path in (os.path.dirname(folder), folder):
            make_folder(path)
            sync_folder(os.path.dirname(path))
        texts = self._large.unneeded(checkpointed)
        for key in texts:
            os.rename(f"{self.large}/{key}", f"{folder}/{key}")
        for number in numbers:
            os.rename(self._files.segment(number), f"{folder}/seg.{number}")
        for path in (folder, self.large, self._files.folder):
            sync_folder(path)
        self.report(
            "error",
            f"{len(numbers)} unreadable segments and {len(texts)} large texts are in {folder}; "
            "check the disk, and remove the folder when nothing is missing",
        )

    def _leave_for_checkpoint(self, state: State) -> None:
        """Mark all as applied: the first checkpoint syncs it, so that the start need not wait."""
        for number in state.pending():
            self._files.state.set_all_applied(number, state.counts[number])

    def close(self) -> None:
        """Leave the journal, with no batch under way.  The last process checkpoints it."""
        if not self._files.joined:
            return
        if self.active:
            with suppress(OSError, TemporaryFailure):
                if self._files.try_alone():
                    self.checkpoint(now=True)
                    self._large.sweep(self._files.state.read().checkpointed)
                else:
                    self._checkpoints.unlink_large()
            with ExitStack() as others:
                with suppress(OSError):  # close all the same if the disk has failed
                    others.enter_context(self._files.checkpointing.held())  # wait for a checkpoint
                self._files.active = False
                self._files.close()
        self._files.leave()

    def apply_waiting(self) -> None:
        """
        Apply the messages that could not be recovered for want of space.

        Raises TemporaryFailure or OSError if there is still no space.
        """
        if self.active and self._files.state.read().no_space:
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
            with self._files.appending.held():
                records = make()
                if not records:
                    return None
                state = self._files.state.read()
                if state.no_space:
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
            time.sleep(TICK)

    def _has_room(self, state: State, octets: int) -> bool:
        """Whether there is room for so many octets; begins the next generation if needed."""
        if octets > self._files.size:
            raise TemporaryFailure(f"{octets} octets do not fit into a segment")
        # even if the state could not be written then
        failed = state.generation == self._checkpoints.failed
        if state.current >= 0 and not failed and state.tail + octets <= self._files.size:
            return True
        free = [n for n in range(SEGMENTS) if state.generations[n] <= state.checkpointed]
        if not free:
            return False
        self._files.make_segment(free[0])
        state.generation += 1
        state.current, state.tail = free[0], 0
        state.generations[free[0]], state.counts[free[0]] = state.generation, 0
        self._files.state.begin(free[0])
        self._files.state.write(state)
        return True

    def _append(self, state: State, records: Sequence[Record]) -> Ticket:
        at = state.tail
        octets = encode(self._files.key, state.generation, at, records)
        fd = segments.open_segment(self._files.segment(state.current))
        try:
            flock(fd, LOCK_SH)
            segments.write_all(fd, octets, at)
            os.fdatasync(fd)
            ticket = Ticket(fd, state.generation, state.current, state.counts[state.current])
            state.tail += len(octets)
            state.counts[state.current] += 1
            self._files.state.write(state)
        except BaseException:
            # nobody knows what a failed sync has left on the disk: nothing is appended after it
            self._checkpoints.failed = state.generation
            with suppress(OSError):  # erased, so that it is not recovered
                segments.write_all(fd, bytes(BLOCK), at)
            os.close(fd)
            self._checkpoints.mark_suspect(self._files.state.read())
            raise
        large = (one for one in records if isinstance(one, PutRecord) and one.text is None)
        self._large.add({self._key_of(one.name): state.generation for one in large})
        return ticket

    def note_failed_sync(self) -> None:
        """The caller's sync of another file has failed: what was applied so far is suspect."""
        with suppress(OSError):
            # before the lock: a checkpoint that is under way sees it at once
            self._checkpoints.failed = self._files.state.read().generation
            with self._files.appending.held():
                self._checkpoints.mark_suspect(self._files.state.read())

    def applied(self, ticket: Ticket) -> None:
        """The batch of this ticket is applied, or undone."""
        with suppress(OSError):  # a checkpoint applies it again, which changes nothing
            self._files.state.set_applied(ticket.segment, ticket.number)
        os.close(ticket.fd)

    def leave(self, ticket: Ticket) -> None:
        """The batch of this ticket could not be applied: a checkpoint applies it again."""
        os.close(ticket.fd)


def _is_for_want_of_space(error: Exception) -> bool:
    why = error if isinstance(error, OSError) else error.__cause__
    return isinstance(why, OSError) and why.errno in FULL
