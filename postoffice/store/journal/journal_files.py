"""The journal's open files and locks, which this process shares with the others of the store."""

from __future__ import annotations

import os
from contextlib import ExitStack
from fcntl import LOCK_SH, flock

from postoffice.model.errors import StartupError
from postoffice.store.files import open_own, try_lock
from postoffice.store.journal import segments
from postoffice.store.journal.segments import CheckpointFile, FileLock, StateFile
from postoffice.util.atomic_file import sync_folder

#: Seconds to wait for other processes and threads before giving up; and between two looks.
PATIENCE = 5.0
TICK = 0.01


class JournalFiles:
    """
    The files in ``folder``; ``size`` is the size of a segment.

    Locks: ``appending`` is held while the state is read or written, and for each
    append; ``checkpointing`` (taken first) for a checkpoint; a segment, shared, from
    the append of a batch until it is applied; the file ``open``, shared, as long
    as a process serves the store, exclusive while it starts or stops alone.

    ``active``: there is something to append or to checkpoint.
    """

    def __init__(self, folder: str, size: int) -> None:
        self.folder = folder
        self.size = size
        self.appending = FileLock(f"{folder}/append")
        self.checkpointing = FileLock(f"{folder}/retire")
        self.active = False
        self.key = b""
        self.checkpoint_file: CheckpointFile
        self.state: StateFile
        self.sync_fd = -1
        self.device = 0  # of the file system that a checkpoint syncs
        self._open_fd = -1
        self._named: set[int] = set()  # the segments whose names are durable
        self._opened = ExitStack()

    @property
    def joined(self) -> bool:
        """Whether this process serves the store."""
        return self._open_fd >= 0

    def join(self) -> None:
        """Make the folders, and open the lock of all processes.  Raises OSError."""
        segments.prepare(self.folder)
        self._open_fd = open_own(f"{self.folder}/open", os.O_RDONLY)

    def try_alone(self) -> bool:
        """Whether no other process serves the store; then none can begin."""
        return try_lock(self._open_fd)

    def share(self) -> None:
        """Let others serve the store, too; waits while another process is alone."""
        flock(self._open_fd, LOCK_SH)

    def open(self) -> None:
        """Open the key, the checkpoint file and the state.  Raises StartupError, OSError."""
        try:
            self.key = segments.read_key(self.folder)
            self.checkpoint_file = CheckpointFile(f"{self.folder}/mark", self.key)
            self._opened.callback(self.checkpoint_file.close)
        except FileNotFoundError:
            raise StartupError(
                f"{self.folder} has segments and no key: recovering what they hold failed; put "
                "the file `key` back, or, if no mail is missing, move the folder away"
            ) from None
        # opened before anything is applied: syncfs reports every failed write since then
        self.sync_fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._opened.callback(os.close, self.sync_fd)
        self.device = os.fstat(self.sync_fd).st_dev
        self.state = StateFile(f"{self.folder}/state")
        self._opened.callback(self.state.close)

    def close(self) -> None:
        """Close what ``open`` opened."""
        self._opened.close()

    def leave(self) -> None:
        """Close everything: this process serves the store no more."""
        self.close()
        os.close(self._open_fd)
        self._open_fd = -1
        self.appending.close()
        self.checkpointing.close()

    def segment(self, number: int) -> str:
        """The path of a segment."""
        return f"{self.folder}/seg.{number}"

    def make_segment(self, number: int) -> None:
        """Make sure that a segment exists, and that its name is durable."""
        if number not in self._named:
            if not os.path.exists(self.segment(number)):
                segments.make_segment(self.segment(number), self.size)
            sync_folder(self.folder)  # also if another process made it: it may have failed to
            self._named.add(number)
