"""Taking away: whole maildrops whose accounts go, and what a crash left in tmp."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from fcntl import LOCK_EX, LOCK_NB, flock

from postoffice.store import fetch_log, names, set_aside, vault
from postoffice.store.files import (
    FOLDERS,
    LOCK,
    failures,
    lock,
    make_folder,
    open_plain,
    sync_folder,
)
from postoffice.store.quota import maildirsize
from postoffice.store.quota.enforcement import TOLD

#: Seconds after which what another program left in tmp is litter (the Maildir convention).
LITTER_AGE = 36 * 3600


def discard(
    store: str,
    subpath: str,
    keep: bool,
    quiet: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> str:
    """
    Take a whole maildrop, lock and all, out of its place: set aside, or deleted.

    It goes aside first, while all is ``quiet``: what a crash leaves half deleted is in no
    new maildrop's way, and nobody waits until many files are gone.

    Returns where it lies now, or "" when nothing is kept; its vault goes with
    it.  A delivery that is under way either was placed before, and lies there
    too, or fails and is undone (``drafts.subpath``).  Raises MaildropLocked, TemporaryFailure.
    """
    folder = f"{store}/{subpath}"
    if not os.path.isdir(folder):
        if not keep:
            shutil.rmtree(set_aside.home(folder), ignore_errors=True)
        return ""
    held = lock(folder)
    try:
        with failures(folder), quiet():
            aside = _move_aside(store, subpath)
            with suppress(FileNotFoundError):  # what was taken out of it is nobody else's either
                os.rename(vault.path_of(folder), f"{aside}/vault")
            with suppress(FileNotFoundError):
                os.rename(set_aside.home(folder), f"{aside}/set-aside")
        return _keep_or_delete(aside, keep)
    finally:
        os.close(held)


def _keep_or_delete(aside: str, keep: bool) -> str:
    with failures(aside):
        if keep and not _is_empty(aside):
            return aside
        try:
            _empty(aside)
        except OSError:
            _empty(aside)  # a delivery that was just being undone had a name in it
        return ""


def _empty(folder: str) -> None:
    """
    Delete what a folder holds, and leave the folder itself to a later sweep.

    As long as it is there no new maildrop gets its inode, by which deliveries
    that are under way know which maildrop they were meant for.
    """
    with os.scandir(folder) as items:
        for item in list(items):
            if item.is_dir(follow_symlinks=False):
                shutil.rmtree(item.path)
            else:
                os.unlink(item.path)


def _move_aside(store: str, subpath: str) -> str:
    """Rename a maildrop's folder, durably; to the domain's own side where that is another disk."""
    folder = f"{store}/{subpath}"
    domain, _, local = subpath.rpartition("/")
    stamp = time.time_ns()
    for root, name in ((store, f"{domain}/{local}"), (f"{store}/{domain}", local)):
        aside = f"{root}/.removed/{name}.{stamp}"
        above = os.path.dirname(aside)
        for path in dict.fromkeys((f"{root}/.removed", above)):
            make_folder(path)
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
    there = set(os.listdir(folder))
    if there - {*FOLDERS, LOCK, maildirsize.FILE, TOLD, fetch_log.FILE, vault.FILE}:
        return False
    return not any(os.listdir(f"{folder}/{box}") for box in there & {"new", "cur"})


def domains(store: str) -> list[str]:
    """The folders of all domains."""
    return _subfolders(store)


def maildrops(store: str) -> list[str]:
    """The folders of all maildrops."""
    found = []
    for domain in domains(store):
        with suppress(OSError):  # one that cannot be looked at keeps nobody from the others
            found += maildrops_of(domain)
    return found


def maildrops_of(domain: str) -> list[str]:
    """The folders of all maildrops in the folder of a domain."""
    return _subfolders(domain)


def linked_maildrops(store: str) -> list[str]:
    """Links to maildrops, in the places of maildrops; a link to anything else is left out."""
    found = []
    for domain in domains(store):
        with suppress(OSError), os.scandir(domain) as items:
            links = [item.path for item in items if item.name[0] != "." and item.is_symlink()]
            found += [
                path for path in links if all(os.path.isdir(f"{path}/{box}") for box in FOLDERS)
            ]
    return found


def _subfolders(path: str) -> list[str]:
    with suppress(FileNotFoundError, PermissionError), os.scandir(path) as items:
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
                swept += _sweep_one(item, now)
    return swept


def litter(folder: str, now: float) -> int:
    """How much of that there is."""
    found = 0
    with suppress(OSError), os.scandir(f"{folder}/tmp") as items:
        for item in items:
            with suppress(OSError):
                found += _is_litter(item, now)
    return found


def sweep_removed(store: str, now: float) -> None:
    """Remove the empty folders of maildrops that were deleted, when no delivery remembers them."""
    for root in (store, *_subfolders(store)):
        for domain in (f"{root}/.removed", *_subfolders(f"{root}/.removed")):
            for path in _subfolders(domain):
                with suppress(OSError):  # it is not empty: something was set aside
                    if now - os.stat(path).st_mtime > LITTER_AGE:
                        os.rmdir(path)


def _sweep_one(item: os.DirEntry[str], now: float) -> bool:
    """Ours is litter when nobody holds its lock; others' when it is old."""
    if not names.is_ours(item.name):
        if now - item.stat(follow_symlinks=False).st_mtime < LITTER_AGE:
            return False
        os.unlink(item.path)
        return True
    fd = _locked(item)
    if fd < 0:
        return False
    try:
        os.unlink(item.path)  # before the lock is gone: whoever just made it sees that
        return True
    finally:
        os.close(fd)


def _is_litter(item: os.DirEntry[str], now: float) -> bool:
    if not names.is_ours(item.name):
        return now - item.stat(follow_symlinks=False).st_mtime >= LITTER_AGE
    fd = _locked(item)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def _locked(item: os.DirEntry[str]) -> int:
    """A draft of ours, opened and locked; -1 while somebody writes it."""
    fd, _ = open_plain(item.path)
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    except BaseException:
        os.close(fd)
        raise
    return fd
