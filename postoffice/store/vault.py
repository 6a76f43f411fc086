"""
The vault: what was taken out of maildrops, for a while: ``DOMAIN/.vault/LOCALPART/SESSION/``.

A session's folder is called after the time, in seconds, and the session's id.
All functions block.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from typing import NamedTuple

from postoffice.interfaces import VaultSession
from postoffice.store import names
from postoffice.store.files import FULL, make_folder, open_own, sync_folder
from postoffice.store.quota import maildirsize

#: How the copy of a message begins that is not whole yet.
PART = ".part."
#: How many files go between two looks at whether there is something better to do.
GENTLY = 500
#: In a maildrop: what its vault holds, each line adds to it.  Never synced: who misses it counts.
FILE = "postoffice.vault"
#: Octets of that file, at most; then somebody counts.
LONGEST = 4096
#: What every message takes on the disk is a multiple of this.
BLOCK = 4096
#: A vault may hold as much as its maildrop's quota, but so much at the least; or where there is
#: no quota.
LEAST, OTHERWISE = 1 << 20, 1 << 30
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Trimmed(NamedTuple):
    """What went out of a vault for good."""

    messages: int = 0
    octets: int = 0


NOTHING = Trimmed()


def path_of(folder: str, session: str = "") -> str:
    """Where a maildrop's vault is, or what this session takes out of it now."""
    domain, local = os.path.split(folder)
    vault = f"{domain}/.vault/{local}"
    return f"{vault}/{time.time():.0f}.{session}" if session else vault


def sessions(folder: str) -> list[VaultSession]:
    """What the vault of a maildrop holds, oldest first.  Raises OSError."""
    return sorted(_sessions(path_of(folder)), key=lambda kept: kept.time)


def _sessions(vault: str) -> Iterator[VaultSession]:
    for name, path in _folders(vault):
        when, _, session = name.partition(".")
        sizes = []
        for message in _names(path):
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
    Put back what one session took out, or all sessions since then; the names of the messages.

    Their names, and with them their UIDLs, dates and flags, are as they were.
    Whoever calls holds the maildrop's lock, and the journal is at rest.
    Raises OSError.
    """
    vault = path_of(folder)
    back: list[str] = []
    for name, path in _folders(vault):
        when, _, which = name.partition(".")
        if (session and which != session) or float(when) < since:
            continue
        for message in _names(path):
            box = "cur" if ":" in message else "new"
            with suppress(FileNotFoundError):  # it has just been emptied
                os.rename(f"{path}/{message}", f"{folder}/{box}/{message}")
                back.append(message)
        with suppress(FileNotFoundError):
            os.rmdir(path)
    if back:
        for place in (f"{folder}/new", f"{folder}/cur"):
            sync_folder(place)
        with suppress(FileNotFoundError):  # nothing was left in it
            sync_folder(vault)
        maildirsize.forget(folder)
        _forget(folder)
    return back


def empty(domain: str, before: float) -> tuple[int, bool]:
    """
    Let go of what was taken out before then; how many messages, and whether that was all.

    ``domain`` is the folder of a domain.  It stops after some: who calls comes again.
    """
    gone = 0
    for local in _names(f"{domain}/.vault"):
        vault = f"{domain}/.vault/{local}"
        for name in _names(vault):
            if name.startswith(PART):
                with suppress(OSError):  # a copy that a crash has cut off
                    if os.stat(f"{vault}/{name}").st_mtime < before:
                        os.unlink(f"{vault}/{name}")
        for name, path in _folders(vault):
            if float(name.partition(".")[0]) >= before:
                continue
            for message in _names(path):
                if gone >= GENTLY:
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
    Messages have gone into a maildrop's vault.  What cannot be counted will be.

    Nor is it counted here while somebody trims, whom it does not wait for.
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


def trim(folder: str, most: int | None, *, anew: bool = False) -> Trimmed:
    """
    Delete for good what a maildrop's vault holds beyond ``most`` octets, oldest first.

    0: it may hold any number; None: as many as the maildrop's quota.  What was
    removed first is the oldest.  A tenth more goes than must, so that not
    every removal looks at all that is there.  ``anew``: it is counted, whatever
    was counted before.  Raises OSError.
    """
    limit = _limit(folder, most)
    if not limit:
        return NOTHING
    fd = open_own(f"{folder}/{FILE}", os.O_RDWR | os.O_APPEND)
    try:
        flock(fd, LOCK_EX)
        held = None if anew else _said(os.read(fd, LONGEST + 1))
        if held is not None and held <= limit:
            return NOTHING
        return _trim(folder, limit, fd)
    finally:
        os.close(fd)


def _limit(folder: str, most: int | None) -> int:
    return max(maildirsize.octets_of(folder) or OTHERWISE, LEAST) if most is None else most


def is_within(folder: str, most: int | None) -> bool:
    """Whether ``trim`` would find, without counting, that there is nothing to do."""
    limit = _limit(folder, most)
    with suppress(OSError):
        fd = os.open(f"{folder}/{FILE}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            held = _said(os.read(fd, LONGEST + 1))
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
    """The path of each message, and how many octets it has."""
    found = []
    for _, path in sorted(_folders(vault), key=lambda one: float(one[0].partition(".")[0])):
        for name in sorted(_names(path), key=lambda name: names.order_of(name, 0.0)):
            with suppress(FileNotFoundError):
                size = names.sizes_of(name).file
                if size is None:
                    size = os.stat(f"{path}/{name}", follow_symlinks=False).st_size
                found.append((f"{path}/{name}", size))
    return found


def _on_disk(size: int) -> int:
    return max(-(-size // BLOCK), 1) * BLOCK


def _said(text: bytes) -> int | None:
    """What its lines come to; None where they cannot be believed."""
    if not text.endswith(b"\n") or len(text) > LONGEST:
        return None
    try:
        return sum(map(int, text.split()))
    except ValueError:
        return None


def _forget(folder: str) -> None:
    """Whoever asks next counts."""
    with suppress(OSError):
        os.unlink(f"{folder}/{FILE}")


def _names(folder: str) -> list[str]:
    with suppress(FileNotFoundError):  # somebody else empties it, or brings it back
        return os.listdir(folder)
    return []


def ready(vault: str) -> str:
    """
    Make a session's vault; "" where the disk is full: then removed messages are deleted for good.

    Keeping them would free no space, and space is what the owner needs then.  Raises OSError.
    """
    try:
        if vault:
            make(vault, sync=False)
    except OSError as error:
        if error.errno not in FULL:
            raise
        return ""
    return vault


def make(vault: str, *, sync: bool) -> None:
    """Make a session's vault."""
    above = [vault]
    while len(above) < 3:
        above.append(os.path.dirname(above[-1]))
    made = []
    while missing := [path for path in reversed(above) if not os.path.isdir(path)]:
        try:
            make_folder(missing[0])
            made.append(missing[0])
        except FileNotFoundError:
            if missing[0] == above[-1]:
                raise
            # the one above it was empty, and has just been removed
    if sync:
        for path in made:
            sync_folder(os.path.dirname(path))
