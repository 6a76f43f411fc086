"""Reads a whole backup and checks its names, digests and manifest before anything is restored."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, Protocol

from postoffice.backup.folder import FolderSource
from postoffice.backup.manifest import (
    MANIFEST,
    PIECE,
    BackupError,
    Entry,
    ManifestSummary,
    no_summary,
    read_manifest,
    split_name,
)
from postoffice.backup.name_index import NameIndex
from postoffice.backup.tar import TarSource, readable
from postoffice.store.files import make_with_parents


class BackupSource(Protocol):
    """A backup to read; ``size`` is in octets."""

    size: int

    def members(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        """Yield name, size and content of each file; the manifest comes last."""

    def read_so_far(self) -> int:
        """Return how many octets of ``size`` were read, for a progress bar."""

    def close(self) -> None:
        """Close the backup."""


@dataclass(frozen=True)
class Checked:
    """A backup that was read and is intact."""

    source: BackupSource
    index: NameIndex
    summary: ManifestSummary


#: Returns the destination of a file, by its root and path; None if it is not restored.
Destination = Callable[[str, str], str | None]


def source_of(path: str) -> BackupSource:
    """Open a tar or a folder.  Raises BackupError, OSError."""
    return FolderSource(path) if os.path.isdir(path) else TarSource(path)


@readable()
def check(source: BackupSource, step: Callable[[int], None]) -> tuple[ManifestSummary, NameIndex]:
    """
    Check the backup; return the summary of its manifest, and an index of all entries.

    Raises BackupError if a name is not one of ours, or a file is missing, changed, or
    there twice.
    """
    index = NameIndex()
    summary: ManifestSummary | None = None
    try:
        with tempfile.SpooledTemporaryFile(1 << 24) as seen:
            for name, size, octets in source.members():
                if summary is not None:
                    raise BackupError("there are files after its manifest")
                if name == MANIFEST:
                    seen.seek(0)
                    summary = _compare(octets, seen, index)
                    continue
                split_name(name)
                seen.write(Entry(name, size, 0, _digest(octets, step, source)).line())
                _once(index, name, "file")
        if summary is None:
            raise BackupError("it has no manifest: it is no backup of ours, or was cut off")
    except BaseException:
        index.close()
        raise
    return summary, index


def _digest(octets: IO[bytes], step: Callable[[int], None], source: BackupSource) -> str:
    digest = sha256()
    while piece := octets.read(PIECE):
        digest.update(piece)
    step(source.read_so_far())
    return digest.hexdigest()


def _once(index: NameIndex, name: str, what: str) -> None:
    if index.get(name) is not None:
        raise BackupError(f"{name!r} is in it twice")
    index.set(name, what)


def _compare(manifest: IO[bytes], seen: IO[bytes], index: NameIndex) -> ManifestSummary:
    """Compare the manifest with the entries of the files that were read."""
    summary = no_summary()
    for entry in read_manifest(manifest, summary):
        if entry.same:
            if index.get(entry.same) != "file":
                raise BackupError(f"{entry.same!r} is missing in it")
            _once(index, entry.path, "link")
        else:
            line = Entry(entry.path, entry.size, 0, entry.sha256).line()
            if seen.readline() != line:
                raise BackupError(f"{entry.path!r} in it is damaged or missing")
        index.add_goal(entry.same or entry.path, entry.path, entry.mtime)
    if seen.readline():
        raise BackupError("it has files that are not in its manifest")
    return summary


@readable()
def extract(checked: Checked, destination: Destination, step: Callable[[int], None]) -> int:
    """
    Write the files that have a destination; return how many.  Raises OSError.

    The destination folders must be new and our own.  Files that are the same in the
    backup are linked, if the file system allows it.
    """
    number = 0
    for name, _, octets in checked.source.members():
        if name == MANIFEST:
            break
        first = ""
        for path, mtime in checked.index.goals(name):
            if (goal := destination(*split_name(path))) is None:
                continue
            make_with_parents(os.path.dirname(goal), sync=False)
            if first:
                _link(first, goal)
            else:
                _write(goal, octets, mtime)
                first = goal
            number += 1
        step(checked.source.read_so_far())
    return number


def _write(path: str, octets: IO[bytes], mtime: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        while piece := octets.read(PIECE):
            file.write(piece)
        file.flush()
        os.fchmod(file.fileno(), 0o600)  # whatever the umask
        os.utime(file.fileno(), ns=(mtime, mtime))


def _link(first: str, path: str) -> None:
    try:
        os.link(first, path)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        with open(first, "rb") as octets:
            _write(path, octets, os.fstat(octets.fileno()).st_mtime_ns)
