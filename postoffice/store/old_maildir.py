"""A Maildir of another server: its messages in the order and with the UIDLs that it shows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b

from postoffice.interfaces import ImportSource
from postoffice.model.errors import CannotImport
from postoffice.store import names, uidlists
from postoffice.store.maildir import files_of
from postoffice.store.uidlists import OldName, OldNames, base_of

DOVECOT, COURIER, QMAIL = "dovecot", "courier", "qmail"
#: The file with which a server makes known that a Maildir is its own.
LISTS = {DOVECOT: "dovecot-uidlist", COURIER: "courierpop3dsizelist"}
#: The most octets of such a file: of a million messages.
LONGEST = 256 << 20


@dataclass(frozen=True)
class OldMessage:
    """A message: its file below the source, its UIDL ("" if none was given), and its times."""

    subpath: str
    uidl: str
    order: tuple[int, int, str]
    size: int
    arrived: float

    @property
    def base(self) -> str:
        """The part of its name that no server changes."""
        return base_of(os.path.basename(self.subpath))


@dataclass(frozen=True)
class OldMaildir:
    """All messages, in order, each with a UIDL of its own; and what was odd."""

    kind: str
    messages: list[OldMessage]
    warnings: list[str]


def read(source: ImportSource) -> OldMaildir:
    """Read the names of a Maildir, not its messages.  Raises CannotImport, OSError."""
    path = source.path
    for box in ("new", "cur"):
        if not os.path.isdir(f"{path}/{box}"):
            raise CannotImport(f"{path} is no Maildir: there is no folder {box} in it")
        os.listdir(f"{path}/{box}")  # a folder that we may not read is not an empty one
    kind = source.kind or next((one for one in LISTS if _has(path, LISTS[one])), QMAIL)
    old = _list(path, kind, source.uidl_format)
    messages = {one.base: one for one in _messages(path, kind, old)}  # one that moved is in cur
    warnings = [f"{old.damaged} lines of {LISTS[kind]} cannot be read"] if old.damaged else []
    ordered = sorted(messages.values(), key=lambda one: one.order)
    return OldMaildir(kind, list(_distinct(ordered, warnings.append)), warnings)


def find_again(path: str, base: str) -> str | None:
    """Where a message is now, because the old server has set a flag; None if it is gone."""
    return next((at for at, _ in files_of(path) if base_of(os.path.basename(at)) == base), None)


def _has(path: str, name: str) -> bool:
    return os.path.lexists(f"{path}/{name}")


def _list(path: str, kind: str, form: str) -> OldNames:
    name = LISTS.get(kind)
    if name is None or (kind == COURIER and not _has(path, name)):
        return OldNames({})
    try:
        with open(f"{path}/{name}", "rb") as file:
            text = os.fsdecode(file.read(LONGEST))
        if kind == COURIER:
            return uidlists.courier(text)
        return uidlists.dovecot(text, form or uidlists.UIDL_FORMAT)
    except FileNotFoundError:
        raise CannotImport(f"{path} has no {name}, which has the UIDLs") from None
    except ValueError as why:
        raise CannotImport(f"{path}/{name}: {why}") from why


def _messages(path: str, kind: str, old: OldNames) -> Iterator[OldMessage]:
    for subpath, status in files_of(path):
        base, written = base_of(os.path.basename(subpath)), status.st_mtime
        known = old.names.get(base)
        arrived = written if kind == DOVECOT else names.time_of(base, written)
        if kind == DOVECOT:  # one without a UID is newer than all that have one
            uidl, (first, second) = known or OldName("", (2, int(names.time_of(base, written))))
        elif kind == COURIER:
            uidl = known.uidl if known else "" if old.names else uidlists.courier_uidl(base)
            first, second = 0, uidlists.number_before(base)
        else:
            uidl, first, second = base, 0, int(written)
        yield OldMessage(subpath, uidl, (first, second, base), status.st_size, arrived)


def _distinct(
    messages: Iterable[OldMessage], warn: Callable[[str], object]
) -> Iterator[OldMessage]:
    """Give a new UIDL to each message without one, or one that POP3 cannot show, or a twin's."""
    taken: set[str] = set()
    counts = {"no UIDL yet": 0, "a UIDL that POP3 does not allow": 0, "the UIDL of another": 0}
    for one in messages:
        if not one.uidl:
            why = "no UIDL yet"
        elif not names.is_uidl(one.uidl):
            why = "a UIDL that POP3 does not allow"
        else:
            why = "the UIDL of another" if one.uidl in taken else ""
        if why:
            counts[why] += 1
            one = replace(one, uidl=_new_uidl(one))
        taken.add(one.uidl)
        yield one
    for why, count in counts.items():
        if count:
            warn(f"{count} of the messages have {why} at the old server: they get new ones")


def _new_uidl(message: OldMessage) -> str:
    """The same each time, so that an import that is run again finds the message."""
    said = f"{message.uidl}\n{message.base}".encode("utf-8", "surrogateescape")
    return "o" + blake2b(said, digest_size=20).hexdigest()
