"""
Maildirs on disk: folders, locks, what is set aside and what is swept.

This room's blocking functions are here, in drafts.py (delivery) and in
contents.py (listing, reading, removing); nothing else names tmp, new and cur.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock

from postoffice.errors import MaildropLocked, NoSpace, TemporaryFailure
from postoffice.maildrop import names

LOCK = "postoffice.lock"
FOLDERS = ("tmp", "new", "cur")
#: Seconds after which what another program left in tmp is litter (the Maildir convention).
LITTER_AGE = 36 * 3600

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def failures(what: str) -> Iterator[None]:
    """Turns an OSError into the failure that it means: later, whatever it is."""
    try:
        yield
    except OSError as error:
        raise failure(what, error) from error


def failure(what: str, error: OSError) -> TemporaryFailure:
    """The failure that an OSError means."""
    kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else TemporaryFailure
    return kind(f"{what}: {error}")


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make(folder: str) -> None:
    """Make a maildrop where it is missing, durable up to the store's own folder."""
    domain = os.path.dirname(folder)
    for path in (domain, folder, *(f"{folder}/{name}" for name in FOLDERS)):
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
    for path in (folder, domain, os.path.dirname(domain)):
        sync_folder(path)


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

    Raises MaildropLocked, TemporaryFailure.
    """
    path = f"{folder}/{LOCK}"
    with failures(path):
        while True:
            fd = _open_lock(folder, path)
            try:
                flock(fd, LOCK_EX | LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return fd
            except FileNotFoundError:
                pass  # the maildrop was set aside meanwhile: the lock is another one now
            except BlockingIOError:
                os.close(fd)
                raise MaildropLocked from None
            except OSError:
                os.close(fd)
                raise
            os.close(fd)


def _open_lock(folder: str, path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        make(folder)
        return os.open(path, flags, 0o600)


def set_aside(store: str, place: str, keep: bool) -> str:
    """
    Take a whole maildrop out of its place; its lock must be held.

    Returns where it lies now (``keep``), or "" when it is deleted.
    """
    folder = f"{store}/{place}"
    aside = f"{store}/.removed/{place}.{time.time_ns()}"
    with failures(folder):
        os.makedirs(os.path.dirname(aside), mode=0o700, exist_ok=True)
        os.rename(folder, aside)
        sync_folder(os.path.dirname(aside))
        sync_folder(os.path.dirname(folder))
        if keep:
            return aside
        shutil.rmtree(aside)
        return ""


def maildrops(store: str) -> list[str]:
    """The folders of all maildrops."""
    found = []
    for domain in _subfolders(store):
        found += _subfolders(domain)
    return found


def _subfolders(path: str) -> list[str]:
    with suppress(FileNotFoundError), os.scandir(path) as items:
        return [
            item.path
            for item in items
            if not item.name.startswith(".") and item.is_dir(follow_symlinks=False)
        ]
    return []


def sweep(folder: str, now: float) -> int:
    """Remove what a crash left in a maildrop's tmp, and nothing that is being written; how many."""
    swept = 0
    with suppress(OSError), os.scandir(f"{folder}/tmp") as items:
        for item in list(items):
            with suppress(OSError):
                if _is_litter(item, now):
                    os.unlink(item.path)
                    swept += 1
    return swept


def _is_litter(item: os.DirEntry[str], now: float) -> bool:
    """Ours is litter when nobody holds its lock; others' when it is old."""
    if not names.is_ours(item.name):
        return now - item.stat(follow_symlinks=False).st_mtime > LITTER_AGE
    fd, _ = open_plain(item.path)
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
