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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from typing import NamedTuple

from postoffice.errors import MaildropLocked, NoSpace, TemporaryFailure
from postoffice.maildrop import names

LOCK = "postoffice.lock"
FOLDERS = ("tmp", "new", "cur")
#: Seconds after which what another program left in tmp is litter (the Maildir convention).
LITTER_AGE = 36 * 3600

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Place(NamedTuple):
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
    kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else TemporaryFailure
    return kind(f"{what}: {error}")


def sync_folder(path: str, dir_fd: int | None = None) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make(folder: str) -> None:
    """Make a maildrop where it is missing, durable up to the store's own folder."""
    domain = os.path.dirname(folder)
    for path in (domain, folder, *(f"{folder}/{name}" for name in FOLDERS)):
        _make_folder(path)
    for path in (folder, domain, os.path.dirname(domain)):
        sync_folder(path)


def _make_folder(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    os.chmod(path, 0o700)  # whatever the umask


def find(folders: Sequence[str]) -> list[Place]:
    """
    Where these maildrops are; what is missing is made, and all is durable.

    Durable also where another process made it a moment ago: its syncs may not
    be over, and a delivery syncs nothing above ``new``.  Raises TemporaryFailure.
    """
    places = []
    for folder in folders:
        with failures(folder):
            make(folder)
            places.append(Place(folder, identity(os.stat(folder))))
    return places


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


def discard(store: str, place: str, keep: bool) -> str:
    """
    Take a whole maildrop, lock and all, out of its place: set aside, or deleted.

    Returns where it lies now, or "" when nothing is kept.  A delivery that is
    under way either was placed before, and lies there too, or fails and is
    undone (``drafts.place``).  Raises MaildropLocked, TemporaryFailure.
    """
    folder = f"{store}/{place}"
    if not os.path.isdir(folder):
        return ""
    held = lock(folder)
    try:
        with failures(folder):
            aside = _move_aside(store, place)
        return _keep_or_delete(aside, keep)
    finally:
        os.close(held)


def _keep_or_delete(aside: str, keep: bool) -> str:
    with failures(aside):
        if keep and not _is_empty(aside):
            return aside
        try:
            shutil.rmtree(aside)
        except OSError:
            shutil.rmtree(aside)  # a delivery that was just being undone had a name in it
        return ""


def _move_aside(store: str, place: str) -> str:
    """Rename a maildrop's folder, durably; to the domain's own side where that is another disk."""
    folder = f"{store}/{place}"
    domain, _, local = place.rpartition("/")
    stamp = time.time_ns()
    for root, name in ((store, f"{domain}/{local}"), (f"{store}/{domain}", local)):
        aside = f"{root}/.removed/{name}.{stamp}"
        above = os.path.dirname(aside)
        for path in dict.fromkeys((f"{root}/.removed", above)):
            _make_folder(path)
        try:
            os.rename(folder, aside)
        except OSError as error:
            if error.errno == errno.EXDEV and root == store:
                continue
            raise
        for path in dict.fromkeys((os.path.dirname(folder), above, f"{root}/.removed", root)):
            sync_folder(path)
        return aside
    raise AssertionError("a folder can be renamed beside itself")


def _is_empty(folder: str) -> bool:
    """Whether a maildrop holds nothing but what we made ourselves, and no mail."""
    if set(os.listdir(folder)) - {*FOLDERS, LOCK}:
        return False
    return not os.listdir(f"{folder}/new") and not os.listdir(f"{folder}/cur")


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
