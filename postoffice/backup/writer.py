"""Writes a backup: each file once into the target, and an entry into the manifest."""

from __future__ import annotations

import io
import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from hashlib import sha256
from typing import IO, Protocol

from postoffice.accounts.schema import connect
from postoffice.backup.manifest import PIECE, BackupError, Counts, Entry, Manifest, Octets
from postoffice.backup.name_index import NameIndex
from postoffice.store.files import open_plain

#: The beginning of a database file.
SQLITE = b"SQLite format 3\0"
#: What SQLite adds to the name of a database, for files beside it.
BESIDE = ("-wal", "-shm", "-journal")
#: How many seconds to wait for the lock of a database.
WAITS = 30.0


class UnreadableFile(Exception):
    """A file could not be read, and none of it was written."""


class BackupTarget(Protocol):
    """A backup that is being written: a tar or a folder."""

    def known(self, name: str, size: int, mtime: int) -> str | None:
        """Return the digest of a file that the folder already has, unchanged; else None."""

    def add(self, name: str, size: int, mtime: int, octets: Octets) -> None:
        """Write a file.  Raises OSError."""

    def link(self, name: str, first: str) -> None:
        """Add a file that is the same as the earlier one ``first``.  Raises OSError."""

    def commit(self, manifest: IO[bytes]) -> None:
        """Complete the backup: make it durable, under its name.  Raises OSError."""

    def abandon(self) -> None:
        """Remove what is incomplete."""


def check_owner(fd: int) -> None:
    """Raises BackupError if another user owns the target, and could read it or add links."""
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or (stat.S_ISREG(status.st_mode) and status.st_nlink != 1):
        raise BackupError("what is there belongs to another user: chown or remove it")


class Hashed:
    """
    Reads exactly so many octets of a file, and computes their digest.

    If the file has become shorter, zeros follow, and ``cut`` is True.  If it cannot be
    read, ``read`` raises UnreadableFile, or with ``fills`` returns zeros, too.
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
                raise UnreadableFile(error.strerror) from error
            octets = b""
        if size and not octets:
            self.cut = True
            octets = bytes(size)
        self._left -= len(octets)
        self._digest.update(octets)
        return octets

    def finish(self) -> str:
        return self._digest.hexdigest()


class BackupWriter:
    """
    Writes a backup, and calls ``step`` after each file.

    ``complaints`` lists, in words, the files that could not be copied.
    """

    def __init__(self, target: BackupTarget, manifest: Manifest, step: Callable[[], None]) -> None:
        self._target = target
        self._manifest = manifest
        self._step = step
        self._links = NameIndex()
        self.complaints: list[str] = []
        self.messages = self.files = self.octets = self.fresh = 0

    def counts(self) -> Counts:
        return Counts(files=self.files, messages=self.messages, octets=self.octets)

    def close(self) -> None:
        self._links.close()

    def message(self, name: str, path: str) -> bool:
        """Add a message or another file that never changes.  False if it is gone."""
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
                self._add_entry(Entry(name, same=first), 0)
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
            except UnreadableFile as error:
                self.complaints.append(f"{path}: {error}")
                return
            digest = octets.finish()
            self.fresh += 1
            if octets.cut:
                self.complaints.append(f"{path}: its end could not be read, and is zeros")
        self._add_entry(Entry(name, size, mtime, digest), size)

    def _add_entry(self, entry: Entry, size: int) -> None:
        self._manifest.add(entry)
        self.files += 1
        self.octets += size
        self.messages += entry.path.startswith("mail/")
        self._step()

    def octets_of(self, name: str, octets: bytes, mtime: int) -> None:
        """Add a small file that was already read."""
        self._target.add(name, len(octets), mtime, io.BytesIO(octets))
        self._add_entry(Entry(name, len(octets), mtime, sha256(octets).hexdigest()), len(octets))
        self.fresh += 1

    def other(self, name: str, path: str) -> None:
        """Add a file that may change; SQLite itself copies a database."""
        try:
            fd, status = open_plain(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self.complaints.append(f"{path}: {error.strerror}")
            return
        try:
            # closing this descriptor would lose SQLite's locks on the file; this process has none
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
        """Add a database as it is at one moment, after ``change`` has changed the copy."""
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
            new.execute("VACUUM")  # so that free pages do not keep what was removed
    for rest in BESIDE:
        with suppress(FileNotFoundError):
            os.unlink(copy + rest)
