"""
The files of a backup, by name, and the manifest, which lists each of them.

Names, with the same layout in a tar and in a folder::

    mail/DOMAIN/LOCALPART/new/NAME          messages; they never change
    files/TIME/mail/…                       other files of the store
    files/TIME/state/…                      databases and keys
    files/TIME/config/…                     the configuration, and files beside it
    files/TIME/machine/…                    files elsewhere that the configuration names
    MANIFEST                                one JSON object on each line; the last file
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import IO, NotRequired, Protocol, TypedDict, cast

from postoffice.store.files import JOURNAL

#: The version of this layout.
FORMAT = 1
MANIFEST = "MANIFEST"
MAIL = "mail"
#: The folders under ``files/TIME``, for files that may change from one backup to the next.
ROOTS = ("mail", "state", "config", "machine")
#: The most octets to read at once; a smaller file is read whole.
PIECE = 1 << 20
#: The most octets of a line of the manifest.
LINE = 1 << 16
_LISTS = ("maildrops", "domains")
_HEADER = ("hostname", "begun", "config", "state", "whole", "accounts", *_LISTS)
_OTHER = re.compile(r"files/[0-9TZ]{1,40}/(.+)\Z", re.DOTALL)


class Octets(Protocol):
    """A file, as far as a backup reads it."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most so many octets; none at the end."""


class BackupError(Exception):
    """A backup cannot be made, or is invalid; the text says why."""


class AccountNames(TypedDict, total=False):
    """The names in the backup of the accounts' database and of its key."""

    database: str
    key: str


class Header(TypedDict):
    """The first line of a manifest; ``maildrops`` and ``domains`` if the backup has only those."""

    postoffice: NotRequired[str]  # the version
    hostname: str
    begun: str
    files: NotRequired[str]  # the folder for files that may change
    whole: bool
    config: str
    state: str
    accounts: NotRequired[AccountNames | None]
    maildrops: NotRequired[list[str] | None]
    domains: NotRequired[list[str] | None]


class Counts(TypedDict):
    """The last line of a manifest: how much is in the backup."""

    files: int
    messages: int
    octets: int
    ended: NotRequired[str | None]


@dataclass(frozen=True)
class Entry:
    """
    A file of a backup: size, time in nanoseconds, and digest.

    If another file in the backup is the same, ``same`` is its name, and the rest is empty.
    """

    path: str
    size: int = 0
    mtime: int = 0
    sha256: str = ""
    same: str = ""

    def line(self) -> bytes:
        """Return the entry's line in the manifest."""
        if self.same:
            return _line({"path": self.path, "same": self.same})
        return _line({name: value for name, value in asdict(self).items() if name != "same"})


def _line(data: Mapping[str, object]) -> bytes:
    """Return a line of the manifest."""
    return json.dumps(data).encode() + b"\n"


def split_name(name: str) -> tuple[str, str]:
    """
    Split the name of a file into its root (mail, state, config or machine) and its path there.

    Raises BackupError for a name that no backup of ours has, such as an absolute path or
    one that leads upwards.
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


class Manifest:
    """A manifest that is being written, to the temporary file ``spool``."""

    def __init__(self, spool: IO[bytes], header: Header) -> None:
        self.spool = spool
        self._digest = sha256()
        self._write(_line({"format": FORMAT, **header}))

    def add(self, entry: Entry) -> None:
        self._write(entry.line())

    def end(self, counts: Counts) -> IO[bytes]:
        """Write the last line; return the manifest, to be read from its beginning."""
        self._digest.update(_line(counts))
        self.spool.write(_line({"end": self._digest.hexdigest(), **counts}))
        self.spool.flush()
        self.spool.seek(0)
        return self.spool

    def _write(self, line: bytes) -> None:
        self._digest.update(line)
        self.spool.write(line)


@dataclass
class ManifestSummary:
    """The first and the last line of a manifest."""

    header: Header
    counts: Counts


def no_summary() -> ManifestSummary:
    """Return a summary for ``read_manifest`` to fill in."""
    header = Header(hostname="", begun="", whole=False, config="", state="")
    return ManifestSummary(header, Counts(files=0, messages=0, octets=0))


def read_manifest(lines: IO[bytes], summary: ManifestSummary | None = None) -> Iterator[Entry]:
    """
    Yield the entries of a manifest, with checked names, and fill in ``summary``.

    Raises BackupError if the manifest is incomplete, not ours, or changed.
    """
    summary = summary or no_summary()
    digest = sha256()
    header = _object(lines.readline(LINE))
    if header.get("format") != FORMAT:
        raise BackupError(
            f"its format is {header.get('format')!r}, and this release knows {FORMAT} alone"
        )
    if not all(_is_valid(header, key) for key in _HEADER):
        raise BackupError("its manifest is damaged")
    summary.header = cast(Header, header)
    digest.update(_line(header))
    while True:
        found = _object(lines.readline(LINE))
        if "end" in found:
            break
        entry = _entry(found)
        digest.update(entry.line())
        yield entry
    end = found.pop("end")
    digest.update(_line(found))
    if end != digest.hexdigest() or lines.readline(LINE):
        raise BackupError("its manifest is damaged")
    if not all(type(found.get(one)) is int for one in ("files", "messages", "octets")):
        raise BackupError("its manifest is damaged")
    summary.counts = cast(Counts, found)


def _is_valid(header: dict[str, object], key: str) -> bool:
    """Whether ``postoffice backup`` could have written this value, which may become a path."""
    value = header.get(key)
    if key in _LISTS:
        return value is None or (isinstance(value, list) and _are_texts(value))
    if key == "accounts":
        if not isinstance(value, dict):
            return value is None
        return value.keys() <= {"database", "key"} and _are_texts(value.values())
    return isinstance(value, bool if key == "whole" else str)


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(one, str) for one in values)


def _entry(found: dict[str, object]) -> Entry:
    try:
        entry = Entry(**found)  # type: ignore[arg-type]  # checked below
    except TypeError as error:
        raise BackupError(f"its manifest is damaged: {error}") from error
    texts, numbers = (entry.path, entry.sha256, entry.same), (entry.size, entry.mtime)
    if not all(isinstance(text, str) for text in texts) or not all(
        type(number) is int and 0 <= number < 1 << 63 for number in numbers
    ):
        raise BackupError("its manifest is damaged")
    for name in filter(None, (entry.path, entry.same)):
        split_name(name)
    return entry


def _object(line: bytes) -> dict[str, object]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BackupError(f"its manifest is damaged or cut off: {error}") from error
    if not isinstance(found, dict):
        raise BackupError("its manifest is damaged")
    return found
