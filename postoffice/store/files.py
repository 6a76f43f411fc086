"""
Maildirs on disk: folders and locks.

This room's blocking functions are here, in drafts.py and groups.py (delivery),
contents.py (listing, reading, removing), replaying.py and clearing.py
(setting aside, sweeping); nothing else names tmp, new and cur.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
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
from postoffice.util.file_modes import set_mode

LOCK = "postoffice.lock"
FOLDERS = ("tmp", "new", "cur")
#: What the disk says when it, or somebody's share of it, is full.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Beside the domains: the journal; and where earlier releases put mail that it could not place.
JOURNAL = ".journal"
LATE = ".unplaced"

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class MaildropRef(NamedTuple):
    """
    A maildrop's folder, and which folder that was when it was found.

    Whoever delivers knows by it that the maildrop is still the one that was
    meant, and not a new one of the same name.
    """

    path: str
    identity: tuple[int, int]  # device and inode


@contextmanager
def failures(what: str) -> Iterator[None]:
    """Turns an OSError into the failure that it means: later, whatever it is."""
    try:
        yield
    except OSError as error:
        raise failure(what, error) from error


def failure(what: str, error: OSError) -> TemporaryFailure:
    """The failure that an OSError means."""
    kind = NoSpace if error.errno in FULL else TemporaryFailure
    return kind(f"{what}: {error}")


def sync_folder(path: str, dir_fd: int | None = None) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def prepare(store: str) -> None:
    """See that a store's folder is there, durably, and can be written to.  Raises StartupError."""
    path, missing = os.path.abspath(store), []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    try:
        for path in reversed(missing):
            make_folder(path)
            sync_folder(os.path.dirname(path))
    except OSError as error:
        raise StartupError(
            f"the store {store} cannot be made: {error}; make it, or give another `path`"
        ) from error
    if not os.path.isdir(store):
        raise StartupError(f"the store {store} is no folder; move it away, or give another `path`")
    if not os.access(store, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise StartupError(
            f"the store {store} cannot be written to; it must belong to the user "
            "that the post office runs as, on a disk that can be written to"
        )


def make(folder: str) -> None:
    """Make a maildrop where it is missing, durable up to the store's own folder."""
    domain = os.path.dirname(folder)
    for path in (domain, folder, *(f"{folder}/{name}" for name in FOLDERS)):
        make_folder(path)
    for path in (folder, domain, os.path.dirname(domain)):
        sync_folder(path)


def make_folder(path: str) -> None:
    """Make a folder where it is missing, for us alone.  Raises OSError."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    set_mode(path, 0o700)  # whatever the umask


def find(folders: Sequence[str]) -> list[MaildropRef | TemporaryFailure]:
    """
    Where these maildrops are, or what is in the way; what is missing is made, and all is durable.

    Durable also where another process made it a moment ago: its syncs may not
    be over, and a delivery syncs nothing above ``new``.
    """
    return list(map(_find, folders))


def _find(folder: str) -> MaildropRef | TemporaryFailure:
    try:
        make(folder)
        return MaildropRef(folder, identity(os.stat(folder)))
    except OSError as error:
        return failure(folder, error)


def is_there(ref: MaildropRef | None) -> bool:
    """Whether a maildrop is where it was found."""
    try:
        return ref is not None and identity(os.stat(ref.path)) == ref.identity
    except OSError:
        return False


def is_on(folder: str, device: int) -> bool:
    """Whether a maildrop, with what it holds, is on the file system of this number."""
    for path in (folder, f"{folder}/new", f"{folder}/cur"):
        with suppress(OSError):
            if os.stat(path).st_dev != device:
                return False
    return True


def identity(status: os.stat_result) -> tuple[int, int]:
    """Which file this is, whatever its name."""
    return status.st_dev, status.st_ino


def open_plain(path: str) -> tuple[int, os.stat_result]:
    """Open a file that is a plain one, and nothing that only looks so.  Raises OSError."""
    fd = os.open(path, _READ)
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
    Take a maildrop's lock: an open file that holds it, gone with its holder.

    Raises MaildropLocked, MaildropChanging, TemporaryFailure.
    """
    path = f"{folder}/{LOCK}"
    with failures(path):
        while True:
            fd = _open_lock(folder, path)
            try:
                flock(fd, LOCK_EX | LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    with suppress(OSError):  # on a disk that cannot be written to it stays
                        os.fchmod(fd, 0o600)  # whatever the umask
                    return fd
            except FileNotFoundError:
                if _is_folder(fd):
                    return fd
                # else the maildrop was set aside meanwhile: the lock is another one now
            except BlockingIOError:
                changing = is_changing(fd)
                os.close(fd)
                raise MaildropChanging if changing else MaildropLocked from None
            except OSError:
                os.close(fd)
                raise
            os.close(fd)


def open_own(path: str, mode: int = os.O_RDWR) -> int:
    """Open a file of ours, made where it is missing, for us alone.  Raises OSError."""
    fd = os.open(path, mode | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)  # whatever the umask
    except BaseException:
        os.close(fd)
        raise
    return fd


def set_changing(lock: int, changing: bool) -> None:
    """
    Mark a lock that is held: names go that nobody shall see again, and are not gone yet.

    Whoever finds the mark on a lock that nobody held sees to the end of that.
    It takes no room, which may be what those names go for.  The lock's time
    stays that of the last login.
    """
    status = os.fstat(lock)
    os.ftruncate(lock, int(changing))
    with suppress(OSError):  # it is only a time
        os.utime(lock, ns=(status.st_atime_ns, status.st_mtime_ns))


def is_changing(lock: int) -> bool:
    """Whether it is marked."""
    return not _is_folder(lock) and os.fstat(lock).st_size > 0


def see_to_delay(lock: int | str, delay: float) -> None:
    """
    Raises LoginTooSoon where the last login was less than so many seconds ago.

    ``lock`` is open, or the path of one that somebody else holds.
    """
    if delay and 0 <= time.time() - os.stat(lock).st_mtime < delay:
        raise LoginTooSoon


def log_in(lock: int) -> None:
    """Somebody has logged in, who holds the lock: its time says so."""
    os.utime(lock)


def last_login(folder: str) -> float | None:
    """When somebody logged in last, in seconds since 1970."""
    with suppress(OSError):
        return os.stat(f"{folder}/{LOCK}").st_mtime or None
    return None


def _is_folder(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def _open_lock(folder: str, path: str) -> int:
    """
    The file, made where it is missing.

    On a read-only disk mail can still be collected: there the lock file is
    opened for reading or, where it is missing, the folder cur is the lock.
    """
    try:
        return _open_lock_to_write(folder, path)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    # cur is locked for this alone; deliveries and recounts lock the maildrop's other folders
    return os.open(f"{folder}/cur", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


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
    with suppress(OSError):  # nobody has logged in yet: who makes it may come for something else
        os.utime(fd, (0, 0))
    return fd
