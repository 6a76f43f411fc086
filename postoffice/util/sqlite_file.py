"""
A small SQLite file that all processes share: one connection, one transaction at a time.

Only for data that no mail depends on: a power failure may lose the last changes, unless they were
``durable``.  Plain functions; they block.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from postoffice.model.errors import StartupError, TemporaryFailure

#: Seconds to wait while another process writes; writes are short.
WAITS = 5.0


class SQLiteFile:
    """
    The file, and its one connection; each turn is a transaction, on any thread.

    ``called`` is the file's name in error texts; ``advice`` is added if the file
    cannot be opened.  ``tables`` is SQL that creates missing tables.
    """

    def __init__(self, path: str, called: str, tables: str, advice: str = "") -> None:
        self._path = path
        self._called = called
        self._tables = tables
        self._advice = advice
        self._turn = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file; create it (mode 600) and its tables if missing.  Raises StartupError."""
        try:
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            database = sqlite3.connect(
                self._path, timeout=WAITS, isolation_level=None, check_same_thread=False
            )
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(self._tables)
        except (OSError, sqlite3.Error) as error:
            why = f"{self._called} {self._path} cannot be used: {error}{self._advice}"
            raise StartupError(why) from error
        self._database = database

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    @contextmanager
    def turn(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction; ``durable``: on stable storage at its end.  Raises TemporaryFailure."""
        with self._turn:
            if self._database is None:
                raise TemporaryFailure(f"{self._called} {self._path} is closed")
            try:
                if durable:
                    self._database.execute("PRAGMA synchronous = FULL")
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield self._database
                    self._database.execute("COMMIT")
                except BaseException:
                    self._database.execute("ROLLBACK")
                    raise
                finally:
                    if durable:
                        self._database.execute("PRAGMA synchronous = NORMAL")
            except sqlite3.Error as error:
                raise TemporaryFailure(f"{self._called} {self._path}: {error}") from error
