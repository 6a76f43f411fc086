"""
Cleanup: discards whole maildrops, and sweeps what crashes left in tmp.

Single messages are removed in ``expunge``; the vault cleans itself
(``vault.empty``).  All functions block.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

from postoffice.store import fetch_log, names, set_aside, vault
from postoffice.store.files import (
    FOLDERS,
    LOCK,
    failures,
    lock,
    make_folder,
    open_plain,
    try_lock,
)
from postoffice.store.maildrop_folders import subfolders
from postoffice.store.quota import usage_file
from postoffice.store.quota.enforcement import TOLD
from postoffice.util.atomic_file import sync_folder

#: Seconds after which another program's file in tmp is a leftover (the Maildir convention).
LITTER_AGE = 36 * 3600


def discard(
    store: str,
    subpath: str,
    keep: bool,
    quiet: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> str:
    """
    Discard a whole maildrop: move it to ``.removed``, and delete it there unless ``keep``.

    It is moved first, within ``quiet`` (``Journal.quiet``): then a crash while it is
    deleted leaves nothing at its path, and no delivery waits for the deletion.

    Returns its new path, or "" if nothing is kept; its vault goes with it.  A
    delivery that is under way was either committed before and is in it, or fails
    (``commit.commit_batch``).  Raises MaildropLocked, TemporaryFailure.
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
            # no other maildrop may inherit these; they may be on another file system
            with suppress(FileNotFoundError):
                shutil.move(vault.path_of(folder), f"{aside}/vault")
            with suppress(FileNotFoundError):
                shutil.move(set_aside.home(folder), f"{aside}/set-aside")
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
            _empty(aside)  # a delivery was unlinking its file in it
        if os.path.islink(aside):  # the folder itself, elsewhere, stays
            os.unlink(aside)
        return ""


def _empty(folder: str) -> None:
    """
    Delete all in a folder, and leave the folder itself to a later sweep.

    While the folder exists, no new maildrop gets its inode number, by which a
    delivery that is under way recognizes its maildrop.
    """
    with os.scandir(folder) as items:
        for item in list(items):
            if item.is_dir(follow_symlinks=False):
                shutil.rmtree(item.path)
            else:
                os.unlink(item.path)


def _move_aside(store: str, subpath: str) -> str:
    """Move a maildrop's folder to ``.removed``, durably; to its domain's on another disk."""
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
    """Whether a maildrop holds no mail, and no files but our own."""
    there = set(os.listdir(folder))
    if there - {*FOLDERS, LOCK, usage_file.FILE, TOLD, fetch_log.FILE, vault.FILE}:
        return False
    return not any(os.listdir(f"{folder}/{box}") for box in there & {"new", "cur"})


def sweep(folder: str, now: float) -> int:
    """Remove leftovers of crashes from a maildrop's tmp, and no file in use; return how many."""
    swept = 0
    with suppress(OSError), os.scandir(f"{folder}/tmp") as items:
        for item in list(items):
            with suppress(OSError):
                swept += _sweep_one(item, now)
    return swept


def litter(folder: str, now: float) -> int:
    """Count the leftovers in a maildrop's tmp."""
    found = 0
    with suppress(OSError), os.scandir(f"{folder}/tmp") as items:
        for item in items:
            with suppress(OSError):
                found += _is_litter(item, now)
    return found


def sweep_removed(store: str, now: float) -> None:
    """Remove the empty folders of deleted maildrops, after any delivery to them has ended."""
    for root in (store, *subfolders(store)):
        for domain in (f"{root}/.removed", *subfolders(f"{root}/.removed")):
            for path in subfolders(domain):
                with suppress(OSError):  # not empty: its mail is kept
                    if now - os.stat(path).st_mtime > LITTER_AGE:
                        os.rmdir(path)


def _sweep_one(item: os.DirEntry[str], now: float) -> bool:
    """Remove a file of ours if no process holds its lock, another program's if it is old."""
    if not names.is_ours(item.name):
        if now - item.stat(follow_symlinks=False).st_mtime < LITTER_AGE:
            return False
        os.unlink(item.path)
        return True
    fd = _locked(item)
    if fd < 0:
        return False
    try:
        os.unlink(item.path)  # with the lock held: ``drafts.create`` sees that it is gone
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
    """Open and lock a draft of ours; -1 while another process writes it."""
    fd, _ = open_plain(item.path)
    try:
        if try_lock(fd):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return -1
