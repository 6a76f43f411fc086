"""A backup on its way: each file goes once into the target, and is told of in the manifest."""

from __future__ import annotations

import io
import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from hashlib import sha256
from typing import IO, Any, Protocol

from postoffice.accounts.schema import connect
from postoffice.backup.entries import PIECE, BackupError, Entry, Index, Manifest, Octets
from postoffice.store.files import open_plain

#: How a database begins.
SQLITE = b"SQLite format 3\0"
#: Seconds that the copy of a database waits for whoever has locked it.
WAITS = 30.0


class Unreadable(Exception):
    """A file could not be read, and nothing of it was written."""


class Target(Protocol):
    """Where a backup is written to: a tar, or a folder."""

    def known(self, name: str, size: int, mtime: int) -> str | None:
        """The digest of a file that is there already, and is the same."""

    def add(self, name: str, size: int, mtime: int, octets: Octets) -> None:
        """Write a file.  Raises OSError."""

    def link(self, name: str, first: str) -> None:
        """The same as a file that was written before.  Raises OSError."""

    def commit(self, manifest: IO[bytes]) -> None:
        """All is there: make it durable, under its name.  Raises OSError."""

    def abandon(self) -> None:
        """Leave nothing behind that looks like a backup."""


def see_to_owner(fd: int) -> None:
    """What others have made there, they could read or put links into.  Raises BackupError."""
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or (stat.S_ISREG(status.st_mode) and status.st_nlink != 1):
        raise BackupError("what is there belongs to another user: chown or remove it")


class Hashed:
    """
    Exactly so many octets of a file, and their digest.

    A file that has become shorter is filled up with zeros: then it was ``cut``.
    One that cannot be read raises Unreadable, or, if it ``fills``, is cut, too.
    """

    fills = False

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._left = size
        self._digest = sha256()
        self.cut = False

    def read(self, size: int = -1, /) -> bytes:
        size = min(self._left, PIECE if size < 0 else size)
        try:
            octets = os.read(self._fd, size) if size and not self.cut else b""
        except OSError as error:
            if not self.fills:
                raise Unreadable(error.strerror) from error
            octets = b""
        if size and not octets:
            self.cut = True
            octets = bytes(size)
        self._left -= len(octets)
        self._digest.update(octets)
        return octets

    def finish(self) -> str:
        return self._digest.hexdigest()


class Written:
    """
    Takes files in; ``step`` hears of each.

    ``complaints`` has, in words, what could not be copied: the rest was.
    """

    def __init__(self, target: Target, manifest: Manifest, step: Callable[[], None]) -> None:
        self._target = target
        self._manifest = manifest
        self._step = step
        self._links = Index()
        self.complaints: list[str] = []
        self.messages = self.files = self.octets = self.fresh = 0

    def counts(self) -> dict[str, Any]:
        return {"files": self.files, "messages": self.messages, "octets": self.octets}

    def close(self) -> None:
        self._links.close()

    def message(self, name: str, path: str) -> bool:
        """A message, or whatever else never changes.  False where it is gone."""
        try:
            fd, status = open_plain(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self.complaints.append(f"{path}: {error.strerror}")
            return True
        try:
            inode = f"{status.st_dev}.{status.st_ino}.{status.st_size}.{status.st_mtime_ns}"
            first = self._links.get(inode) if status.st_nlink > 1 else None
            if first is not None:
                self._target.link(name, first)
                self._told(Entry(name, same=first), 0)
            else:
                self._copy(name, path, fd, status)
                if status.st_nlink > 1:
                    self._links.set(inode, name)
        finally:
            os.close(fd)
        return True

    def _copy(self, name: str, path: str, fd: int, status: os.stat_result) -> None:
        size, mtime = status.st_size, status.st_mtime_ns
        digest = self._target.known(name, size, mtime)
        if digest is None:
            octets = Hashed(fd, size)
            try:
                self._target.add(name, size, mtime, octets)
            except Unreadable as error:
                self.complaints.append(f"{path}: {error}")
                return
            digest = octets.finish()
            self.fresh += 1
            if octets.cut:
                self.complaints.append(f"{path}: its end could not be read, and is zeros")
        self._told(Entry(name, size, mtime, digest), size)

    def _told(self, entry: Entry, size: int) -> None:
        self._manifest.add(entry)
        self.files += 1
        self.octets += size
        self.messages += entry.path.startswith("mail/")
        self._step()

    def octets_of(self, name: str, octets: bytes, mtime: int) -> None:
        """A small file that was read already."""
        self._target.add(name, len(octets), mtime, io.BytesIO(octets))
        self._told(Entry(name, len(octets), mtime, sha256(octets).hexdigest()), len(octets))
        self.fresh += 1

    def other(self, name: str, path: str) -> None:
        """A file that may change; a database by SQLite's own copy."""
        try:
            fd, status = open_plain(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self.complaints.append(f"{path}: {error.strerror}")
            return
        try:
            # only read, and by another descriptor than SQLite's: closing it would lose locks that
            # this process holds, and it holds none here
            database = os.pread(fd, len(SQLITE), 0) == SQLITE
            if not database:
                self._copy(name, path, fd, status)
        finally:
            os.close(fd)
        if database:
            self.database(name, path)

    def database(
        self, name: str, path: str, change: Callable[[sqlite3.Connection], None] | None = None
    ) -> None:
        """A database as it is at one moment; only what ``change`` leaves of it."""
        with tempfile.TemporaryDirectory(prefix="postoffice-") as folder:
            copy = f"{folder}/copy.db"
            try:
                copied(path, copy, change)
            except sqlite3.Error as error:
                self.complaints.append(f"{path}: the database could not be copied: {error}")
                return
            fd, status = open_plain(copy)
            os.unlink(copy)
        try:
            self._copy(name, path, fd, status)
        finally:
            os.close(fd)


def copied(
    path: str, copy: str, change: Callable[[sqlite3.Connection], None] | None = None
) -> None:
    """Copy a database, while others use it, to a new file.  Raises sqlite3.Error, OSError."""
    os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(connect(path, WAITS)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")
        if change is not None:
            change(new)
            new.commit()
            new.execute("VACUUM")  # what was removed is not in free pages either
    for rest in ("-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            os.unlink(copy + rest)
