"""
The vault: removed messages, kept for a while in ``DOMAIN/.vault/LOCALPART/SESSION/``.

A session's folder is named TIME.ID: the time in seconds, and the session's id.
``expunge`` moves messages into it.  All functions block.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from typing import NamedTuple

from postoffice.interfaces import VaultSession
from postoffice.store import names
from postoffice.store.drafts import PART, move
from postoffice.store.files import FULL, make_folder, names_in, open_own
from postoffice.store.quota import maildirsize
from postoffice.util.atomic_file import sync_folder

#: How many files ``empty`` deletes in one call, so that it does not occupy a thread for long.
PORTION = 500
#: A file in a maildrop with the octets in its vault; each line adds.  Never synced: if missing, the
#: vault is counted.
FILE = "postoffice.vault"
#: The most octets of that file; a longer one is replaced by a count.
LONGEST = 4096
#: The space of a message on the disk is a multiple of this.
BLOCK = 4096
#: The limit of a vault is its maildrop's quota, and at least LEAST; without a quota, OTHERWISE.
LEAST, OTHERWISE = 1 << 20, 1 << 30
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Trimmed(NamedTuple):
    """How much was deleted from a vault."""

    messages: int = 0
    octets: int = 0


NOTHING = Trimmed()


def path_of(folder: str, session: str = "") -> str:
    """The folder of a maildrop's vault, or of ``session`` in it, with the time now."""
    domain, local = os.path.split(folder)
    vault = f"{domain}/.vault/{local}"
    return f"{vault}/{time.time():.0f}.{session}" if session else vault


def sessions(folder: str) -> list[VaultSession]:
    """The sessions in a maildrop's vault, oldest first.  Raises OSError."""
    return sorted(_sessions(path_of(folder)), key=lambda kept: kept.time)


def _sessions(vault: str) -> Iterator[VaultSession]:
    for name, path in _folders(vault):
        when, _, session = name.partition(".")
        sizes = []
        for message in names_in(path):
            with suppress(FileNotFoundError):
                sizes.append(os.stat(f"{path}/{message}", follow_symlinks=False).st_size)
        yield VaultSession(session, float(when), len(sizes), sum(sizes))


def _folders(vault: str) -> list[tuple[str, str]]:
    with suppress(FileNotFoundError), os.scandir(vault) as items:
        return [
            (item.name, item.path)
            for item in items
            if item.is_dir(follow_symlinks=False) and item.name.partition(".")[0].isdigit()
        ]
    return []


def bring_back(folder: str, session: str, since: float) -> list[str]:
    """
    Put back the messages that ``session`` removed ("": any session) after ``since``.

    Returns their file names, which are as before; so are UIDLs, dates and flags.
    The caller holds the maildrop's lock, within ``Journal.quiet``.  Raises OSError.
    """
    vault = path_of(folder)
    back: list[str] = []
    for name, path in _folders(vault):
        when, _, which = name.partition(".")
        if (session and which != session) or float(when) < since:
            continue
        for message in names_in(path):
            box = "cur" if ":" in message else "new"
            with suppress(FileNotFoundError):  # deleted meanwhile
                move(f"{path}/{message}", f"{folder}/{box}/{message}", f"{folder}/tmp")
                back.append(message)
        with suppress(FileNotFoundError):
            os.rmdir(path)
    if back:
        for place in (f"{folder}/new", f"{folder}/cur"):
            sync_folder(place)
        with suppress(FileNotFoundError):  # it was empty and was removed
            sync_folder(vault)
        maildirsize.forget(folder)
        _forget(folder)
    return back


def empty(domain: str, before: float) -> tuple[int, bool]:
    """
    Delete messages that were removed before ``before`` from the vaults of a domain.

    ``domain`` is its folder.  Returns how many were deleted, and whether these were
    all: if not, call it again.
    """
    gone = 0
    for local in names_in(f"{domain}/.vault"):
        vault = f"{domain}/.vault/{local}"
        for name in names_in(vault):
            if name.startswith(PART):
                with suppress(OSError):  # a copy that a crash has cut off
                    if os.stat(f"{vault}/{name}").st_mtime < before:
                        os.unlink(f"{vault}/{name}")
        for name, path in _folders(vault):
            if float(name.partition(".")[0]) >= before:
                continue
            for message in names_in(path):
                if gone >= PORTION:
                    return gone, False
                with suppress(FileNotFoundError):
                    os.unlink(f"{path}/{message}")
                    gone += 1
            with suppress(OSError):
                os.rmdir(path)
        with suppress(OSError):  # something is in it
            os.rmdir(vault)
    return gone, True


def count(folder: str, sizes: Iterable[int]) -> None:
    """
    Add messages of these sizes to the octets of a maildrop's vault.

    If that fails, or ``trim`` holds the lock, the file is deleted: the next ``trim`` counts.
    """
    try:
        fd = os.open(f"{folder}/{FILE}", _APPEND)
    except OSError:
        return
    try:
        flock(fd, LOCK_EX | LOCK_NB)
        os.write(fd, b"%d\n" % sum(map(_on_disk, sizes)))
    except OSError:
        _forget(folder)
    finally:
        os.close(fd)


def trim(folder: str, vault_limit: int | None, *, anew: bool = False) -> Trimmed:
    """
    Delete the oldest messages of a maildrop's vault beyond ``vault_limit`` octets.

    ``vault_limit`` 0: no limit; None: as many as the maildrop's quota.  The oldest is the
    one that was removed first.  A tenth more is deleted than necessary, so that not
    every removal lists the vault.  ``anew``: count the vault first.  Raises OSError.
    """
    limit = _limit(folder, vault_limit)
    if not limit:
        return NOTHING
    fd = open_own(f"{folder}/{FILE}", os.O_RDWR | os.O_APPEND)
    try:
        flock(fd, LOCK_EX)
        held = None if anew else _sum_of_lines(os.read(fd, LONGEST + 1))
        if held is not None and held <= limit:
            return NOTHING
        return _trim(folder, limit, fd)
    finally:
        os.close(fd)


def _limit(folder: str, vault_limit: int | None) -> int:
    if vault_limit is None:
        return max(maildirsize.octets_of(folder) or OTHERWISE, LEAST)
    return vault_limit


def is_within(folder: str, vault_limit: int | None) -> bool:
    """Whether the recorded octets are within the limit: then ``trim`` has nothing to do."""
    limit = _limit(folder, vault_limit)
    with suppress(OSError):
        fd = os.open(f"{folder}/{FILE}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            held = _sum_of_lines(os.read(fd, LONGEST + 1))
        finally:
            os.close(fd)
        return not limit or (held is not None and held <= limit)
    return not limit


def _trim(folder: str, limit: int, fd: int) -> Trimmed:
    there = _oldest_first(path_of(folder))
    held = sum(_on_disk(size) for _, size in there)
    messages = octets = 0
    try:
        if held > limit:
            for path, size in there:
                if held <= limit - limit // 10:
                    break
                with suppress(FileNotFoundError):  # somebody else empties it, or brings it back
                    os.unlink(path)
                    messages, octets = messages + 1, octets + size
                held -= _on_disk(size)
    finally:
        for session in {os.path.dirname(path) for path, _ in there[: messages + 1]}:
            with suppress(OSError):  # something is in it
                os.rmdir(session)
        os.ftruncate(fd, 0)
        os.write(fd, b"%d\n" % held)
    return Trimmed(messages, octets)


def _oldest_first(vault: str) -> list[tuple[str, int]]:
    """The path and octets of each message."""
    found = []
    for _, path in sorted(_folders(vault), key=lambda one: float(one[0].partition(".")[0])):
        for name in sorted(names_in(path), key=lambda name: names.order_of(name, 0.0)):
            with suppress(FileNotFoundError):
                size = names.sizes_of(name).file
                if size is None:
                    size = os.stat(f"{path}/{name}", follow_symlinks=False).st_size
                found.append((f"{path}/{name}", size))
    return found


def _on_disk(size: int) -> int:
    return max(-(-size // BLOCK), 1) * BLOCK


def _sum_of_lines(text: bytes) -> int | None:
    """The sum of the lines; None if the file is not valid."""
    if not text.endswith(b"\n") or len(text) > LONGEST:
        return None
    try:
        return sum(map(int, text.split()))
    except ValueError:
        return None


def _forget(folder: str) -> None:
    """Delete the recorded octets: the next ``trim`` counts."""
    with suppress(OSError):
        os.unlink(f"{folder}/{FILE}")


def ready(vault: str, *, sync: bool) -> str:
    """
    Make a session's folder (``make``); "" where the disk is full.

    Then removed messages are deleted for good: keeping them would free no space, and
    space is what the owner needs then.  Raises OSError.
    """
    try:
        make(vault, sync=sync)
    except OSError as error:
        if error.errno not in FULL:
            raise
        return ""
    return vault


def make(vault: str, *, sync: bool) -> None:
    """Make a session's folder in the vault; ``sync``: durably.  Raises OSError."""
    if os.path.isdir(vault):
        return
    made = _make(vault, above=2)
    if not made and not os.path.isdir(vault):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), vault)
    if sync:
        for path in made:
            sync_folder(os.path.dirname(path))


def _make(path: str, above: int) -> list[str]:
    """Make a folder and up to ``above`` missing ones above it; return those that were made."""
    made: list[str] = []
    for tries_left in (2, 1, 0):
        try:
            return [*made, path] if make_folder(path) else made
        except FileNotFoundError:
            if not above or not tries_left:
                raise
            # again after another process has removed the folder above, because it was empty
            made += _make(os.path.dirname(path), above - 1)
    raise AssertionError("the last try returns or raises")
