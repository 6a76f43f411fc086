"""
The vault: what was taken out of maildrops, for a while: ``DOMAIN/.vault/LOCALPART/SESSION/``.

A session's folder is called after the time, in seconds, and the session's id.
All functions block.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

from postoffice.interfaces import Kept
from postoffice.maildrop import quota
from postoffice.maildrop.files import FULL, make_folder, sync_folder

#: How the copy of a message begins that is not whole yet.
PART = ".part."
#: How many files go between two looks at whether there is something better to do.
GENTLY = 500


def path_of(folder: str, session: str = "") -> str:
    """Where a maildrop's vault is, or what this session takes out of it now."""
    domain, local = os.path.split(folder)
    vault = f"{domain}/.vault/{local}"
    return f"{vault}/{time.time():.0f}.{session}" if session else vault


def sessions(folder: str) -> list[Kept]:
    """What the vault of a maildrop holds, oldest first.  Raises OSError."""
    return sorted(_sessions(path_of(folder)), key=lambda kept: kept.time)


def _sessions(vault: str) -> Iterator[Kept]:
    for name, path in _folders(vault):
        when, _, session = name.partition(".")
        sizes = []
        for message in _names(path):
            with suppress(FileNotFoundError):
                sizes.append(os.stat(f"{path}/{message}", follow_symlinks=False).st_size)
        yield Kept(session, float(when), len(sizes), sum(sizes))


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
        quota.forget(folder)
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
