"""
Snapshot: the files of each maildrop that a backup copies, while mail is delivered and fetched.

A message moves from set-aside to new, to cur, and into the vault.  Folders are listed in
this order: a file that moves meanwhile is seen twice, not missed.  All functions block.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from postoffice.interfaces import Piece
from postoffice.store import drafts, maildir, maildrop_folders, set_aside, size_cache, vault
from postoffice.store.files import LOCK, failures, names_in
from postoffice.store.names import uidl_of_file
from postoffice.store.quota import usage_file

#: How often a folder that keeps changing is listed.
LOOKS = 10
#: Not copied: files that are derived from the rest, and unfinished ones.
_DERIVED = frozenset(("tmp", usage_file.FILE, size_cache.FILE))


def folders(store: str) -> list[tuple[str, int]]:
    """
    ``DOMAIN/LOCALPART`` of all maildrops, each with its number of files.

    Includes maildrops of which only the vault is left, and maildrops that are links to
    another place: clients fetch mail from them as from any other.
    """
    found = {*maildrop_folders.maildrops(store), *set_aside.maildrops(store)}
    for domain in maildrop_folders.domains(store):
        found |= {f"{domain}/{local}" for local in names_in(f"{domain}/.vault")}
    return [
        (folder[len(store) + 1 :], sum(len(names_in(f"{folder}/{box}")) for box in ("new", "cur")))
        for folder in sorted(found)
    ]


def pieces(store: str, name: str) -> list[Piece]:
    """All files of a maildrop, with their paths in the store.  Raises TemporaryFailure."""
    folder = f"{store}/{name}"
    with failures(folder):
        return _pieces(store, folder, name)


def _pieces(store: str, folder: str, name: str) -> list[Piece]:
    live = _messages(store, name)
    uidls = {piece.uidl for piece in live}
    others = list(_others(folder, name)) if os.path.isdir(folder) else []
    kept = [piece for piece in _kept(store, name) if piece.uidl not in uidls]
    return sorted(live) + sorted(others) + sorted(kept)


def _messages(store: str, name: str) -> list[Piece]:
    folder = f"{store}/{name}"
    found: dict[str, list[Piece]] = {}
    hidden = set_aside.hidden(folder)
    for path in set_aside.waiting(folder, "place"):
        file = os.path.basename(path)
        uidl = uidl_of_file(file)
        found[uidl] = [Piece(f"{name}/new/{file}", path, uidl, aside=True)]
    for _ in range(LOOKS):
        before = _stamps(folder)
        for box in ("new", "cur"):
            for file in names_in(f"{folder}/{box}"):
                if not file.startswith("."):
                    uidl = uidl_of_file(file)
                    piece = Piece(f"{name}/{box}/{file}", f"{folder}/{box}/{file}", uidl)
                    others = found.setdefault(uidl, [])
                    if piece not in others:
                        others.append(piece)
        if before == _stamps(folder):
            break
    hidden |= set_aside.hidden(folder)
    return [piece for uidl, twins in found.items() if uidl not in hidden for piece in _alive(twins)]


def _alive(twins: list[Piece]) -> list[Piece]:
    """
    Of several names of one file, the last; all names of different files.

    A message that is set aside has the right octets; the other file has its name.
    """
    if len(twins) == 1:
        return twins
    files: dict[tuple[int, int], Piece] = {}
    for piece in twins:
        with suppress(OSError):
            status = os.lstat(piece.path)
            files[status.st_dev, status.st_ino] = piece
    found = list(files.values()) or twins[-1:]
    if len(found) > 1 and found[0].aside:
        return [*found[1:-1], found[0]._replace(name=found[-1].name)]
    return found


def find_again(store: str, piece: Piece) -> Piece | None:
    """Find a message that was moved since it was listed; None if it is gone."""
    name = os.path.dirname(os.path.dirname(piece.name))
    with suppress(OSError):
        place = maildir.subpaths(f"{store}/{name}").get(piece.uidl)
        if place is not None:
            return Piece(f"{name}/{place}", f"{store}/{name}/{place}", piece.uidl)
    return None


def _others(folder: str, name: str) -> Iterator[Piece]:
    """All other files in a maildrop: ours, and those of other programs with their folders."""
    for where, below, files in os.walk(folder):
        if where == folder:
            below[:] = [one for one in below if one not in ("new", "cur", "tmp")]
            files = [one for one in files if one not in _DERIVED]
        below[:] = [one for one in below if one != "tmp"]
        for file in files:
            path = f"{where}/{file}"
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(os.lstat(path).st_mode):
                    continue
                yield Piece(
                    name + path[len(folder) :], path, empty=file == LOCK and where == folder
                )


def _kept(store: str, name: str) -> Iterator[Piece]:
    """The messages in the vault, and those set aside for it."""
    folder = f"{store}/{name}"
    domain, local = os.path.split(name)
    there = vault.path_of(folder)
    seen = set()
    for session in set_aside.sessions(folder):
        for path in set_aside.waiting(folder, f"keep/{session}"):
            file = os.path.basename(path)
            seen.add((session, file))
            yield Piece(f"{domain}/.vault/{local}/{session}/{file}", path, uidl_of_file(file))
    for session in names_in(there):
        for file in names_in(f"{there}/{session}"):
            if (session, file) not in seen and not file.startswith(drafts.PART):
                path = f"{there}/{session}/{file}"
                yield Piece(f"{domain}/.vault/{local}/{session}/{file}", path, uidl_of_file(file))


def removed(store: str) -> Iterator[Piece]:
    """The mail of deleted accounts, in ``.removed``."""
    for root in (store, *maildrop_folders.domains(store)):
        top = f"{root}/.removed"
        yield from _files_below(store, top)
        for domain in (top, *maildrop_folders.subfolders(top)):
            for link in maildrop_folders.links(domain):  # a maildrop that was elsewhere
                yield from _files_below(store, link)


def _files_below(store: str, folder: str) -> Iterator[Piece]:
    for where, below, files in os.walk(folder):
        below[:] = sorted(one for one in below if one != "tmp")
        for file in sorted(files):
            path = f"{where}/{file}"
            yield Piece(path[len(store) + 1 :], path)


def _stamps(folder: str) -> list[int]:
    return [_stamp(f"{folder}/{box}") for box in ("new", "cur")]


def _stamp(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0
