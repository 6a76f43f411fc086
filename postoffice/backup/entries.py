"""
What a backup is made of: files by name, and behind them a manifest that tells of each.

Names, with the same layout in a tar and in a folder::

    mail/DOMAIN/LOCALPART/new/NAME          messages; they never change
    files/TIME/mail/…                       what else lies in the store
    files/TIME/state/…                      databases and keys
    files/TIME/config/…                     the configuration, and what lies beside it
    files/TIME/machine/…                    what the configuration names elsewhere
    MANIFEST                                a JSON object a line; the last file
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import IO, Any, Protocol

from postoffice.store.files import JOURNAL, make_folder
from postoffice.store.names import is_maildrop, maildrop_of

#: The version of this layout.
FORMAT = 1
MANIFEST = "MANIFEST"
MAIL = "mail"
#: Roots of what may change from one backup to the next.
ROOTS = ("mail", "state", "config", "machine")
#: Octets that are read at once; a smaller file is read whole.
PIECE = 1 << 20
#: Octets of a line of the manifest.
LINE = 1 << 16
_MAIL = (b"mail/", b"mail0")
_LISTS = ("maildrops", "domains")
_HEADER = ("hostname", "begun", "config", "state", "whole", "accounts", *_LISTS)
_OTHER = re.compile(r"files/[0-9TZ]{1,40}/(.+)\Z", re.DOTALL)


class Octets(Protocol):
    """What can be read from."""

    def read(self, size: int = -1, /) -> bytes:
        """So many of them, or less; none at the end."""


class BackupError(Exception):
    """A backup cannot be made, or be believed; the text says why."""


@dataclass(frozen=True)
class Entry:
    """
    A file of a backup: octets, time in nanoseconds, and digest; or ``same``, the name of another.

    The time of what is the ``same`` is the other's.
    """

    path: str
    size: int = 0
    mtime: int = 0
    sha256: str = ""
    same: str = ""

    def line(self) -> bytes:
        """As it stands in the manifest."""
        told = {"path": self.path, "same": self.same} if self.same else asdict(self)
        if not self.same:
            del told["same"]
        return dumped(told)


def dumped(what: dict[str, Any]) -> bytes:
    """A line of the manifest."""
    return json.dumps(what).encode() + b"\n"


def place(name: str) -> tuple[str, str]:
    """
    Which root a file belongs to, and its path there.

    Raises BackupError for every name that we give to none: absolute ones, those
    that lead upwards, and those of other places.
    """
    if name.startswith(f"{MAIL}/"):
        root, path = MAIL, name.removeprefix(f"{MAIL}/")
    else:
        found = _OTHER.match(name)
        root, _, path = (found[1] if found else "").partition("/")
    parts = path.split("/")
    known = root in ROOTS and all(map(_is_plain, parts)) and JOURNAL not in parts
    if not known or (root == MAIL and parts[0].startswith(".") and parts[0] != ".removed"):
        raise BackupError(f"it is no backup of ours, or was changed: the name {name!r} in it")
    return root, path


def _is_plain(part: str) -> bool:
    try:
        return part not in ("", ".", "..") and "\0" not in part and len(os.fsencode(part)) <= 255
    except UnicodeError:
        return False


def make_above(path: str) -> None:
    """Make the folders that a file will lie in, for us alone.  Raises OSError."""
    missing = []
    while not os.path.isdir(path := os.path.dirname(path)):
        missing.append(path)
    for path in reversed(missing):
        make_folder(path)


class Manifest:
    """Tells of each file as it is written; it lies in ``spool`` until it is whole."""

    def __init__(self, spool: IO[bytes], header: dict[str, Any]) -> None:
        self.spool = spool
        self._digest = sha256()
        self._write(dumped({"format": FORMAT, **header}))

    def add(self, entry: Entry) -> None:
        self._write(entry.line())

    def end(self, counts: dict[str, Any]) -> IO[bytes]:
        """Whole; to be read from its beginning."""
        self._digest.update(dumped(counts))
        self.spool.write(dumped({"end": self._digest.hexdigest(), **counts}))
        self.spool.flush()
        self.spool.seek(0)
        return self.spool

    def _write(self, line: bytes) -> None:
        self._digest.update(line)
        self.spool.write(line)


@dataclass
class Told:
    """What a manifest says of the whole: its first line, and its last."""

    header: dict[str, Any]
    counts: dict[str, Any]


def read_manifest(lines: IO[bytes], told: Told) -> Iterator[Entry]:
    """
    The files that a manifest tells of, with checked names; ``told`` is filled in.

    Raises BackupError where it is not whole, not ours, or changed.
    """
    digest = sha256()
    told.header = _object(lines.readline(LINE))
    if told.header.get("format") != FORMAT:
        raise BackupError(
            f"its format is {told.header.get('format')!r}, and this release knows {FORMAT} alone"
        )
    if not all(_is_ours(told.header, key) for key in _HEADER):
        raise BackupError("its manifest is damaged")
    digest.update(dumped(told.header))
    while True:
        found = _object(lines.readline(LINE))
        if "end" in found:
            break
        entry = _entry(found)
        digest.update(entry.line())
        yield entry
    end = found.pop("end")
    digest.update(dumped(found))
    if end != digest.hexdigest() or lines.readline(LINE):
        raise BackupError("its manifest is damaged")
    if not all(type(found.get(one)) is int for one in ("files", "messages", "octets")):
        raise BackupError("its manifest is damaged")
    told.counts = found


def _is_ours(header: dict[str, Any], key: str) -> bool:
    """Whether it says there what ``backup`` may have said: it becomes part of paths."""
    said = header.get(key)
    if key in _LISTS:
        return said is None or (isinstance(said, list) and _are_texts(said))
    if key == "accounts":
        if not isinstance(said, dict):
            return said is None
        return said.keys() <= {"database", "key"} and _are_texts(said.values())
    return isinstance(said, bool if key == "whole" else str)


def _are_texts(those: Iterable[Any]) -> bool:
    return all(isinstance(one, str) for one in those)


def _entry(found: dict[str, Any]) -> Entry:
    try:
        entry = Entry(**found)
    except TypeError as error:
        raise BackupError(f"its manifest is damaged: {error}") from error
    texts, numbers = (entry.path, entry.sha256, entry.same), (entry.size, entry.mtime)
    if not all(isinstance(text, str) for text in texts) or not all(
        type(number) is int and 0 <= number < 1 << 63 for number in numbers
    ):
        raise BackupError("its manifest is damaged")
    for name in filter(None, (entry.path, entry.same)):
        place(name)
    return entry


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BackupError(f"its manifest is damaged or cut off: {error}") from error
    if not isinstance(found, dict):
        raise BackupError("its manifest is damaged")
    return found


class Index:
    """Names and what is known of them: in a temporary file as soon as they are many."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.executescript(
            "CREATE TABLE known (key BLOB PRIMARY KEY, value TEXT) WITHOUT ROWID;"
            "CREATE TABLE goal (source BLOB, path BLOB, mtime INTEGER);"
            "CREATE INDEX goal_source ON goal (source);"
        )

    def set(self, key: str, value: str) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO known VALUES (?, ?)", (os.fsencode(key), value)
        )

    def get(self, key: str) -> str | None:
        row = self._database.execute(
            "SELECT value FROM known WHERE key = ?", (os.fsencode(key),)
        ).fetchone()
        return None if row is None else str(row[0])

    def add_goal(self, source: str, path: str, mtime: int) -> None:
        """A file of the backup goes there, too."""
        row = (os.fsencode(source), os.fsencode(path), mtime)
        self._database.execute("INSERT INTO goal VALUES (?, ?, ?)", row)

    def goals(self, source: str) -> list[tuple[str, int]]:
        """Where it goes, and with which time."""
        found = self._database.execute(
            "SELECT path, mtime FROM goal WHERE source = ?", (os.fsencode(source),)
        )
        return [(os.fsdecode(path), mtime) for path, mtime in found]

    def maildrops(self) -> list[str]:
        """Whose mail it has, by the names of files."""
        paths = self._database.execute("SELECT path FROM goal WHERE path >= ? AND path < ?", _MAIL)
        found = dict.fromkeys("/".join(os.fsdecode(path).split("/")[1:3]) for (path,) in paths)
        return [maildrop_of(f"/{folder}") for folder in found if is_maildrop(f"/{folder}")]

    def close(self) -> None:
        self._database.close()
