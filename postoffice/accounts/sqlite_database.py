"""The database file of the accounts: reads and writes.  The functions block."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, TypeVarTuple

from postoffice.accounts import schema
from postoffice.model.errors import TemporaryFailure
from postoffice.util.file_times import is_settled

T = TypeVar("T")
Args = TypeVarTuple("Args")
#: Inode, size and time of the database file and of its write-ahead log.
Stamp = tuple[int, int, int, int, int, int]

#: Seconds that a write waits for another write, and that a read waits.  An administrator at a
#: terminal writes; a client's session reads, and a read that waits delays other clients.
WRITER_WAITS = 10.0
READER_WAITS = 2.0


class SQLiteDatabase:
    """One database file; each read or write is one transaction, on any thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._log_path = path + "-wal"
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._file: tuple[int, int] | None = None  # which it is, while it is open
        self._together: sqlite3.Connection | None = None

    def open(self) -> str:
        """
        Create the file if it is missing, and check it.  Raises StartupError.

        Returns what was migrated, for the log, or "".
        """
        try:
            if not os.path.lexists(self._path):
                schema.make(self._path)
            schema.check_mode(self._path)
            self._file = self._identity()
            with self._connected(WRITER_WAITS) as database:
                return schema.check_and_migrate(self._path, database)
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise schema.unusable(self._path, error) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file = None
            idle, self._idle = self._idle, []
        for database in idle:
            database.close()

    def stamp(self) -> Stamp | None:
        """
        Return the stamp of the files, None if they are missing.  It takes two system calls.
        """
        try:
            file = os.stat(self._path)
            try:
                log = os.stat(self._log_path)
            except FileNotFoundError:
                return file.st_ino, file.st_size, file.st_mtime_ns, 0, 0, 0
        except OSError:
            return None
        return (
            file.st_ino, file.st_size, file.st_mtime_ns,
            log.st_ino, log.st_size, log.st_mtime_ns,
        )  # fmt: skip

    def observe(
        self, ask: Callable[[sqlite3.Connection, str], T], name: str
    ) -> tuple[T, Stamp | None]:
        """
        Return an answer, and the stamp of the files for which the answer is valid.

        The stamp is None if a later write could leave the same stamp.  It is read while nobody
        can write: a write changes the log before its commit, so an answer from before the commit
        could get a stamp from after the write.
        """
        with self._asked(READER_WAITS) as database:
            if database is self._together:
                return ask(database, name), None
            stamp = self.stamp()
            if stamp is None or not settled(stamp) or not _lock_writers(database):
                return ask(database, name), None
            stamp = self.stamp()
            answer = ask(database, name)
            database.execute("ROLLBACK")
            return answer, stamp if stamp is not None and settled(stamp) else None

    def read(self, ask: Callable[[sqlite3.Connection, *Args], T], *args: *Args) -> T:
        """Read.  Raises TemporaryFailure."""
        with self._asked(READER_WAITS) as database:
            return ask(database, *args)

    def write(self, change: Callable[[sqlite3.Connection, *Args], T], *args: *Args) -> T:
        """Write, durably, or not at all.  Raises TemporaryFailure."""
        if self._together is not None:
            with self._asked(WRITER_WAITS) as database:
                return change(database, *args)
        with self._asked(WRITER_WAITS) as database:
            database.execute("BEGIN IMMEDIATE")
            answer = change(database, *args)
            database.execute("COMMIT")
            return answer

    @contextmanager
    def together(self) -> Iterator[None]:
        """
        Make all reads and writes until the end one transaction; undo all if there is an error.

        Nobody else may use this object meanwhile.  Raises TemporaryFailure.
        """
        with self._asked(WRITER_WAITS) as database:
            database.execute("BEGIN IMMEDIATE")
            self._together = database
            try:
                yield
            finally:
                self._together = None
            database.execute("COMMIT")

    @contextmanager
    def _asked(self, waits: float) -> Iterator[sqlite3.Connection]:
        try:
            with self._connected(waits) as database:
                yield database
        except (OSError, sqlite3.Error) as error:
            raise TemporaryFailure(f"the accounts in {self._path}: {error}") from error

    @contextmanager
    def _connected(self, waits: float) -> Iterator[sqlite3.Connection]:
        """Provide a connection for exclusive use; any error closes it."""
        if self._together is not None:
            yield self._together
            return
        database = self._take() or schema.connect(self._path, waits)
        try:
            database.execute(f"PRAGMA busy_timeout = {int(waits * 1000)}")
            yield database
        except BaseException:
            database.close()
            raise
        with self._lock:
            if self._file is not None:
                self._idle.append(database)
                return
        database.close()

    def _take(self) -> sqlite3.Connection | None:
        """
        Return an idle connection, if there is one.

        Raises if another file has replaced ours: SQLite would apply the old file's log to
        it.
        """
        with self._lock:
            if self._file is None:
                raise sqlite3.OperationalError("the database is not open")
            if self._identity() != self._file:
                raise sqlite3.OperationalError(
                    "another file was put in its place while it is in use; stop the post office, "
                    f"remove {self._path}-wal and {self._path}-shm, and start it again"
                )
            return self._idle.pop() if self._idle else None

    def _identity(self) -> tuple[int, int]:
        status = os.stat(self._path)
        return status.st_dev, status.st_ino


def settled(stamp: Stamp) -> bool:
    """Whether any later write will have a different stamp."""
    return is_settled(max(stamp[2], stamp[5]))


def _lock_writers(database: sqlite3.Connection) -> bool:
    """Take the writers' lock without waiting; False if another process has it."""
    try:
        database.execute("PRAGMA busy_timeout = 0")
        database.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        database.execute(f"PRAGMA busy_timeout = {int(READER_WAITS * 1000)}")
        return False
    return True
