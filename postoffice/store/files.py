"""
Folders and locks of Maildirs: made, found, synced, locked.

Messages are not in here: ``drafts`` and ``commit`` write them, ``maildir`` lists,
reads and removes them.  All functions block.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from typing import NamedTuple

from postoffice.model.errors import (
    LoginTooSoon,
    MaildropChanging,
    MaildropLocked,
    NoSpace,
    StartupError,
    TemporaryFailure,
)
from postoffice.util.atomic_file import sync_folder
from postoffice.util.file_modes import set_mode

LOCK = "postoffice.lock"
FOLDERS = ("tmp", "new", "cur")
#: Errors of a full disk, or a full disk quota of the system.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Folders beside the domains: the journal; mail that earlier releases could not apply.
JOURNAL = ".journal"
LATE = ".unplaced"

#: Flags with which a folder is opened.
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: Writes a line to the log: its level and its text.
Report = Callable[[str, str], None]


class MaildropRef(NamedTuple):
    """
    A maildrop's path, and the identity of its folder when the delivery began.

    By the identity a delivery recognizes a new maildrop of the same name, which is
    not the one that was meant.
    """

    path: str
    identity: tuple[int, int]  # device and inode


def failures(what: str) -> _Failures:
    """In ``with``: turn an OSError into NoSpace or another TemporaryFailure."""
    return _Failures(what)


class _Failures:
    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise failure(self._what, error) from error


def failure(what: str, error: OSError) -> TemporaryFailure:
    """NoSpace for a full disk, TemporaryFailure for any other OSError."""
    kind = NoSpace if error.errno in FULL else TemporaryFailure
    return kind(f"{what}: {error}")


@contextmanager
def open_folder(path: str, dir_fd: int | None = None) -> Iterator[int]:
    """Open a folder, for work relative to it and for its locks.  Raises OSError."""
    fd = os.open(path, FOLDER, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def prepare(store: str) -> None:
    """Make a store's folder if missing, and check that it is writable.  Raises StartupError."""
    try:
        make_with_parents(os.path.abspath(store))
    except OSError as error:
        raise StartupError(
            f"the store {store} cannot be made: {error}; make it, or give another `path`"
        ) from error
    if not os.path.isdir(store):
        raise StartupError(
            f"the store {store} is not a folder; move it away, or give another `path`"
        )
    if not os.access(store, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise StartupError(
            f"the store {store} cannot be written to; it must belong to the user "
            "that the post office runs as, on a disk that can be written to"
        )


def make_with_parents(path: str, *, sync: bool = True) -> None:
    """Make a folder and those above it, as far as they are missing; ``sync``: durably."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for path in reversed(missing):
        make_folder(path)
        if sync:
            sync_folder(os.path.dirname(path))


def names_in(folder: str) -> list[str]:
    """The names in a folder, sorted; none if there is no folder.  Raises OSError."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(os.listdir(folder))
    return []


def make(folder: str) -> None:
    """Make a maildrop if it is missing, durably up to the store's folder."""
    domain = os.path.dirname(folder)
    for path in (domain, folder, *(f"{folder}/{name}" for name in FOLDERS)):
        make_folder(path)
    for path in (folder, domain, os.path.dirname(domain)):
        sync_folder(path)


def make_folder(path: str) -> bool:
    """Make a folder with mode 0700; False if something is there already.  Raises OSError."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return False
    set_mode(path, 0o700)  # whatever the umask
    return True


def find(folders: Sequence[str]) -> list[MaildropRef | TemporaryFailure]:
    """
    Find these maildrops, and make those that are missing; return refs or failures.

    All folders are synced, even existing ones: another process may have just made
    them and not synced yet, and a delivery syncs nothing above ``new``.
    """
    return list(map(_find, folders))


def _find(folder: str) -> MaildropRef | TemporaryFailure:
    try:
        make(folder)
        return MaildropRef(folder, identity(os.stat(folder)))
    except OSError as error:
        return failure(folder, error)


def is_there(ref: MaildropRef | None) -> bool:
    """Whether a ref's path still leads to the same folder."""
    try:
        return ref is not None and identity(os.stat(ref.path)) == ref.identity
    except OSError:
        return False


def is_on(folder: str, device: int) -> bool:
    """Whether a maildrop with its new and cur is on the file system ``device``."""
    for path in (folder, f"{folder}/new", f"{folder}/cur"):
        with suppress(OSError):
            if os.stat(path).st_dev != device:
                return False
    return True


def identity(status: os.stat_result) -> tuple[int, int]:
    """The identity of a file, whatever its name: device and inode."""
    return status.st_dev, status.st_ino


def open_plain(path: str) -> tuple[int, os.stat_result]:
    """Open a regular file; no link, pipe or folder.  Raises OSError."""
    fd = os.open(path, READ)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def lock(folder: str) -> int:
    """
    Take a maildrop's lock; return the open file that holds it (flock: a dead process releases it).

    Raises MaildropLocked, MaildropChanging, TemporaryFailure.
    """
    path = f"{folder}/{LOCK}"
    with failures(path):
        while True:
            fd = _open_lock(folder, path)
            try:
                flock(fd, LOCK_EX | LOCK_NB)
                status = os.fstat(fd)
                if os.path.samestat(status, os.stat(path)):
                    if stat.S_IMODE(status.st_mode) != 0o600:  # whatever the umask
                        with suppress(OSError):  # not on a read-only disk
                            os.fchmod(fd, 0o600)
                    return fd
            except FileNotFoundError:
                if _is_folder(fd):
                    return fd
                # else the maildrop was discarded meanwhile: lock the new file
            except BlockingIOError:
                changing = is_changing(fd)
                os.close(fd)
                raise MaildropChanging if changing else MaildropLocked from None
            except OSError:
                os.close(fd)
                raise
            os.close(fd)


def try_lock(fd: int) -> bool:
    """Lock a file exclusively (flock); False if another holds it."""
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_own(path: str, mode: int = os.O_RDWR) -> int:
    """Open a file of ours with mode 0600; created if missing.  Raises OSError."""
    fd = os.open(path, mode | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)  # whatever the umask
    except BaseException:
        os.close(fd)
        raise
    return fd


def set_changing(lock: int, changing: bool) -> None:
    """
    Mark a held lock: a removal is committed, and its files are not unlinked yet.

    A process that takes a marked lock applies the removal first.  The mark is the
    length of the file, which needs no space on a full disk.  The mtime of the file
    stays that of the last login.
    """
    status = os.fstat(lock)
    os.ftruncate(lock, int(changing))
    with suppress(OSError):  # only the login delay depends on it
        os.utime(lock, ns=(status.st_atime_ns, status.st_mtime_ns))


def is_changing(lock: int) -> bool:
    """Whether a lock is marked by ``set_changing``."""
    status = os.fstat(lock)
    return not stat.S_ISDIR(status.st_mode) and status.st_size > 0


def check_delay(lock: int | str, delay: float) -> None:
    """
    Raises LoginTooSoon if the last login was less than ``delay`` seconds ago.

    ``lock`` is the open file, or its path if another session holds it.
    """
    if delay and 0 <= time.time() - os.stat(lock).st_mtime < delay:
        raise LoginTooSoon


def log_in(lock: int) -> None:
    """Record a login: the mtime of the lock file is now."""
    os.utime(lock)


def last_login(folder: str) -> float | None:
    """The time of the last login, in seconds since 1970; None if there was none."""
    with suppress(OSError):
        return os.stat(f"{folder}/{LOCK}").st_mtime or None
    return None


def _is_folder(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def _open_lock(folder: str, path: str) -> int:
    """
    Open the lock file, created if missing.

    On a read-only disk mail can still be fetched: there the lock file is opened for
    reading or, if it is missing, the folder cur is the lock.
    """
    try:
        return _open_lock_to_write(folder, path)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    # cur is locked for this alone; deliveries and recounts lock the maildrop's other folders
    return os.open(f"{folder}/cur", FOLDER)


def _open_lock_to_write(folder: str, path: str) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        make(folder)
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    with suppress(OSError):  # 0: no login yet; the caller may not be a login
        os.utime(fd, (0, 0))
    return fd
