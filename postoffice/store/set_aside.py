"""
Messages and removals that could not be applied to a maildrop.

They are in ``STORE/.journal/set-aside/DOMAIN/LOCALPART/``:

``place/`` has messages that could not be put into the maildrop, ``keep/SESSION/`` messages that
could not be put into its vault, ``remove/`` removals whose files could not be unlinked: listings
leave out their messages.  ``why`` has the last error; it is the only file here that is not synced.
All functions block.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from postoffice.interfaces import Finding
from postoffice.store.files import JOURNAL, LATE, make_with_parents
from postoffice.store.journal.segments import create
from postoffice.store.names import uidl_of_file

_PIECE = 1 << 20
_PART = ".new"  # what ``create`` has not finished


class WaitingRemoval(NamedTuple):
    """A removal that is set aside: its file, and what is in it."""

    path: str
    uidls: list[str]
    vault: str  # the session's, or ""


def home(folder: str) -> str:
    """The folder of what is set aside for a maildrop."""
    store, domain, local = folder.rsplit("/", 2)
    return f"{store}/{JOURNAL}/set-aside/{domain}/{local}"


def maildrops(store: str) -> list[str]:
    """The maildrops that something is set aside for."""
    root = f"{store}/{JOURNAL}/set-aside"
    return [
        f"{store}/{domain}/{one}" for domain in _names(root) for one in _names(f"{root}/{domain}")
    ]


# -- setting aside -------------------------------------------------------------


def keep_text(folder: str, name: str, text: Iterable[bytes], why: str, session: str = "") -> None:
    """Set a message aside, for the maildrop or a session's folder of the vault.  Raises OSError."""
    box = f"keep/{session}" if session else "place"
    _create(folder, f"{box}/{name}", text)
    _write_why(folder, why)


def keep_removal(folder: str, uidls: Iterable[str], session: str, why: str) -> None:
    """Set a removal aside; its messages are left out of listings.  Raises OSError."""
    _create(folder, f"remove/{secrets.token_hex(8)}", [_encoded(uidls, session)])
    _write_why(folder, why)


def pieces(path: str) -> Iterator[bytes]:
    """Read a file in pieces.  Raises OSError."""
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _encoded(uidls: Iterable[str], session: str) -> bytes:
    return json.dumps({"names": list(uidls), "vault": session}).encode()


def _create(folder: str, name: str, text: Iterable[bytes]) -> None:
    path = f"{home(folder)}/{name}"
    octets = list(text) if not isinstance(text, Iterator) else text
    for again in (True, True, False):
        make_with_parents(os.path.dirname(path))
        try:
            create(path, octets)
            return
        except FileNotFoundError:  # another process carried out the last one and removed the folder
            if not again or os.path.isdir(os.path.dirname(path)):
                raise


def _write_why(folder: str, why: str) -> None:
    with suppress(OSError), open(f"{home(folder)}/why", "wb") as file:
        file.write(os.fsencode(why))


def adopt(store: str) -> None:
    """Set aside here what earlier releases put into ``STORE/.unplaced``.  Raises OSError."""
    late = f"{store}/{LATE}"
    for domain in _names(late):
        for local in _names(f"{late}/{domain}"):
            there = f"{late}/{domain}/{local}"
            for box in ("new", "cur"):
                for name in _names(f"{there}/{box}"):
                    path = f"{there}/{box}/{name}"
                    plain = name.partition(":")[0]
                    keep_text(f"{store}/{domain}/{local}", plain, pieces(path), f"it was in {late}")
                    os.unlink(path)
            for path in (*(f"{there}/{box}" for box in ("tmp", "new", "cur")), there):
                with suppress(OSError):
                    os.rmdir(path)
        with suppress(OSError):
            os.rmdir(f"{late}/{domain}")
    with suppress(OSError):
        os.rmdir(late)


# -- looking -------------------------------------------------------------------


def hidden(folder: str) -> frozenset[str]:
    """The UIDLs of removed messages whose files are still there.  Raises OSError."""
    return frozenset(uidl for one in removals(folder) for uidl in one.uidls)


def removals(folder: str) -> list[WaitingRemoval]:
    """The removals that are set aside.  Raises OSError."""
    found = []
    for path in waiting(folder, "remove"):
        with suppress(FileNotFoundError), open(path, "rb") as file:
            said = json.loads(file.read())
            found.append(WaitingRemoval(path, said["names"], said["vault"]))
    return found


def waiting(folder: str, box: str) -> list[str]:
    """The complete files in ``box`` (place, remove, keep/SESSION).  Raises OSError."""
    path = f"{home(folder)}/{box}"
    return [f"{path}/{name}" for name in sorted(_names(path)) if not name.endswith(_PART)]


def sessions(folder: str) -> list[str]:
    """The sessions whose vault something is set aside for.  Raises OSError."""
    return _names(f"{home(folder)}/keep")


def counts(folder: str) -> dict[str, int]:
    """How many messages are set aside, by reason.  Raises OSError."""
    kept = sum(len(waiting(folder, f"keep/{one}")) for one in sessions(folder))
    told = {
        "messages are set aside, since putting them into the maildrop failed": len(
            waiting(folder, "place")
        ),
        "removed messages are hidden, since removing their files failed": len(hidden(folder)),
        "removed messages are set aside, since putting them into the vault failed": kept,
    }
    return {what: number for what, number in told.items() if number}


def findings(folder: str) -> list[Finding]:
    """What is set aside, as findings for ``verify``.  Raises OSError."""
    because = why(folder)
    return [
        Finding(home(folder), f"{number} {what}{because}", False)
        for what, number in counts(folder).items()
    ]


def why(folder: str) -> str:
    """The last error, after a colon; "" if it is not known."""
    with suppress(OSError), open(f"{home(folder)}/why", encoding="utf-8", errors="replace") as file:
        return f": {file.read()}"
    return ""


# -- forgetting ----------------------------------------------------------------


def change(one: WaitingRemoval, left: Iterable[str]) -> None:
    """Rewrite a removal: only ``left`` is not removed yet.  Raises OSError."""
    create(one.path, [_encoded(left, one.vault)])


def forget(folder: str, uidls: Iterable[str]) -> None:
    """Delete messages that are set aside and were removed since.  Raises OSError."""
    place = f"{home(folder)}/place"
    names = _names(place)
    if names:
        gone = set(uidls)
        for name in names:
            if uidl_of_file(name) in gone:
                with suppress(FileNotFoundError):
                    os.unlink(f"{place}/{name}")


def tidy(folder: str) -> None:
    """Remove empty folders."""
    place = home(folder)
    boxes = [f"keep/{one}" for one in _names(f"{place}/keep")]
    for box in (*boxes, "keep", "place", "remove"):
        with suppress(OSError):
            os.rmdir(f"{place}/{box}")
    if _names(place) == ["why"]:
        with suppress(OSError):
            os.unlink(f"{place}/why")
    with suppress(OSError):
        os.rmdir(place)


def _names(folder: str) -> list[str]:
    if os.path.isdir(folder):  # for most maildrops it is missing: a login then costs one stat
        with suppress(FileNotFoundError):
            return os.listdir(folder)
    return []
