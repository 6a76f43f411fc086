"""
The journal's files: segments, the key, the checkpoint file, the shared state, the locks.

A new segment is filled with zeros, so that later data syncs have no metadata to
commit.  The state is shared by processes and not kept over a reboot.  What is in a
segment is in ``records``; when files are read and written, in ``journal``.  All
functions block, and raise OSError.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_UN, flock
from hashlib import blake2b
from hmac import compare_digest
from itertools import repeat

from postoffice.model.errors import StartupError
from postoffice.store.files import make_with_parents, open_own
from postoffice.store.journal.records import BLOCK
from postoffice.util.atomic_file import replacing, sync_folder

#: How many segments there may be, and octets of each.
SEGMENTS = 16
SEGMENT = 16 << 20

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_libc = ctypes.CDLL(None, use_errno=True)


def sync_all(fd: int) -> None:
    """
    Sync the file system that ``fd`` is on (syncfs).

    Raises OSError, also for any write to it that failed since ``fd`` was opened.
    """
    if _libc.syncfs(fd):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def boot() -> bytes:
    """
    The boot id of the machine: a state that another boot wrote is worthless.

    Raises StartupError if the system does not tell.
    """
    try:
        with open(_BOOT_ID, "rb") as file:
            return file.read().strip()[:36]
    except OSError as error:
        raise StartupError(
            f"{_BOOT_ID} cannot be read ({error.strerror}), and without it the journal cannot know "
            "whether the machine was started anew; let the post office see /proc/sys (under "
            "systemd: no ProcSubset=pid)"
        ) from error


def write_all(fd: int, octets: bytes, offset: int) -> None:
    """Write all octets at ``offset``."""
    view = memoryview(octets)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def create(path: str, pieces: Iterable[bytes]) -> None:
    """Create a file with these octets, durably: after a crash it is complete, or not there."""
    with replacing(path, f"{path}.new", _create) as fd:
        os.fchmod(fd, 0o600)  # whatever the umask
        offset = 0
        for piece in pieces:
            write_all(fd, piece, offset)
            offset += len(piece)
    sync_folder(os.path.dirname(path))


def _create(path: str) -> int:
    with suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)


class FileLock:
    """A lock between threads and processes, released when its holder dies."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._fd = -1

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock, exclusively."""
        with self._threads:
            if self._fd < 0:
                self._fd = open_own(self._path, os.O_RDONLY)
            flock(self._fd, LOCK_EX)
            try:
                yield
            finally:
                flock(self._fd, LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class CheckpointFile:
    """
    The last generation that a checkpoint covers, on the disk, in three slots.

    Two are written in turn, so that one is valid whenever the power fails.  The
    third is for ``affirm``.
    """

    _SLOT = struct.Struct("<8sQ")
    _MAGIC = b"PostMark"

    def __init__(self, path: str, key: bytes) -> None:
        self._key = key
        if not os.path.exists(path):
            create(path, [self._slot(0).ljust(3 * BLOCK, b"\0")])
        self._fd = os.open(path, _FLAGS)

    def read(self) -> int:
        """The latest generation in a valid slot; 0 if none is valid: then all is recovered."""
        return max(self._slots())

    def write(self, checkpointed: int, last: int) -> None:
        """Write it, durably; the slot with ``last``, which is valid on the disk, is not touched."""
        slots = self._slots()
        free = 1 if slots[0] == last else 0
        write_all(self._fd, self._slot(checkpointed), free * BLOCK)
        os.fdatasync(self._fd)

    def affirm(self) -> None:
        """
        Write the value once more, durably, in the third slot.

        The last write may have failed to reach the disk, with the value still in the
        page cache: then what we read is not what a power cut would leave.
        """
        write_all(self._fd, self._slot(self.read()), 2 * BLOCK)
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _slot(self, checkpointed: int) -> bytes:
        said = self._SLOT.pack(self._MAGIC, checkpointed)
        return said + blake2b(said, key=self._key, digest_size=32).digest()

    def _slots(self) -> list[int]:
        return [self._read(os.pread(self._fd, BLOCK, number * BLOCK)) for number in range(3)]

    def _read(self, octets: bytes) -> int:
        said = octets[: self._SLOT.size]
        if len(said) < self._SLOT.size:
            return 0
        checkpointed: int = self._SLOT.unpack(said)[1]
        slot = self._slot(checkpointed)
        return checkpointed if compare_digest(octets[: len(slot)], slot) else 0


_STATE = struct.Struct(f"<8s36s8sQQqQBBQ{SEGMENTS}Q{SEGMENTS}I")
_STATE_MAGIC = b"PostSta2"
_ANY_MAGIC = b"PostSta"  # of any version


@dataclass
class State:
    """
    What all processes of the store share; it is lost at a reboot.

    ``checkpointed`` is the generation in the checkpoint file.  ``generation`` is
    the last that was begun, in segment ``current`` (-1: none is open), written up
    to ``tail``.  ``generations`` and ``counts`` say, for each segment, which
    generation it holds and of how many batches.
    ``syncing``: a process has called syncfs and has not written its result yet.
    ``no_space``: mail waits to be recovered, for want of space; nothing may be appended.
    ``suspect``: a sync failed; files of generations up to this one may be lost,
    and no later sync reports it.
    """

    boot: bytes = b""
    durability: str = ""
    checkpointed: int = 0
    generation: int = 0
    current: int = -1
    tail: int = 0
    syncing: bool = False
    no_space: bool = False
    suspect: int = 0
    generations: list[int] = field(default_factory=lambda: [0] * SEGMENTS)
    counts: list[int] = field(default_factory=lambda: [0] * SEGMENTS)

    def pending(self) -> list[int]:
        """The segments with generations that no checkpoint covers, oldest first."""
        later = [
            number for number in range(SEGMENTS) if self.generations[number] > self.checkpointed
        ]
        return sorted(later, key=lambda number: self.generations[number])


class StateFile:
    """The state, in a file that is never synced; after it, which batches are applied."""

    def __init__(self, path: str) -> None:
        self._fd = open_own(path)

    def is_of_another_version(self) -> bool:
        """Whether a process of another version wrote it last, in another format."""
        magic = os.pread(self._fd, len(_STATE_MAGIC), 0)
        return magic.startswith(_ANY_MAGIC) and magic != _STATE_MAGIC

    def read(self) -> State:
        """Read the state.  The caller holds the append lock, as for ``write``."""
        octets = os.pread(self._fd, _STATE.size, 0)
        if len(octets) < _STATE.size or not octets.startswith(_STATE_MAGIC):
            return State()
        (
            _,
            run,
            durability,
            checkpointed,
            generation,
            current,
            tail,
            syncing,
            no_space,
            suspect,
            *more,
        ) = _STATE.unpack(octets)
        return State(
            run.rstrip(b"\0"),
            durability.rstrip(b"\0").decode("ascii", "replace"),
            checkpointed,
            generation,
            current,
            tail,
            bool(syncing),
            bool(no_space),
            suspect,
            more[:SEGMENTS],
            more[SEGMENTS:],
        )

    def write(self, state: State) -> None:
        """Write the state."""
        octets = _STATE.pack(
            _STATE_MAGIC,
            state.boot,
            state.durability.encode(),
            state.checkpointed,
            state.generation,
            state.current,
            state.tail,
            state.syncing,
            state.no_space,
            state.suspect,
            *state.generations,
            *state.counts,
        )
        write_all(self._fd, octets, 0)

    def begin(self, segment: int) -> None:
        """Mark no batch of a segment as applied: a generation begins in it."""
        write_all(self._fd, bytes(BLOCK), BLOCK * (1 + segment))

    def set_applied(self, segment: int, number: int) -> None:
        """Mark one batch as applied."""
        write_all(self._fd, b"\1", BLOCK * (1 + segment) + number)

    def set_all_applied(self, segment: int, count: int) -> None:
        """Mark the first ``count`` batches as applied."""
        write_all(self._fd, b"\1" * count, BLOCK * (1 + segment))

    def all_applied(self, segment: int, count: int) -> bool:
        """Whether the first ``count`` batches are applied."""
        return os.pread(self._fd, count, BLOCK * (1 + segment)) == b"\1" * count

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_key(folder: str) -> bytes:
    """Read the journal's key, or create it with a new journal."""
    path = f"{folder}/key"
    try:
        with open(path, "rb") as file:
            key = file.read()
    except FileNotFoundError:
        if any(name.startswith("seg.") for name in os.listdir(folder)):
            raise
        key = secrets.token_bytes(32)
        create(path, [key])
    return key


def prepare(folder: str) -> None:
    """Create the journal's folders, durably."""
    make_with_parents(f"{folder}/large")


def make_segment(path: str, size: int) -> None:
    """Create a segment, full of zeros."""
    piece = min(size, 1 << 20)
    create(path, repeat(bytes(piece), size // piece))


def open_segment(path: str) -> int:
    """Open a segment for reading and writing."""
    return os.open(path, _FLAGS)
