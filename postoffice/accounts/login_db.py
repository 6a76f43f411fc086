"""
The ledger of logins: one SQLite file that all processes share.  Plain functions; they block.

Nobody's mail depends on it.  What is lost with the power costs a guesser
some tries more, and an account the time of its last login.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from postoffice.model.errors import StartupError, TemporaryFailure

TABLES = """
CREATE TABLE IF NOT EXISTS try (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    level REAL NOT NULL,
    at REAL NOT NULL,
    count INTEGER NOT NULL DEFAULT 0,
    last REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS try_at ON try (at);
CREATE TABLE IF NOT EXISTS known (
    account TEXT NOT NULL,
    network TEXT NOT NULL,
    last REAL NOT NULL,
    PRIMARY KEY (account, network)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS known_last ON known (last);
CREATE TABLE IF NOT EXISTS login (
    account TEXT NOT NULL,
    device TEXT NOT NULL,
    service TEXT NOT NULL,
    mechanism TEXT NOT NULL,
    tls TEXT NOT NULL,
    network TEXT NOT NULL,
    last REAL NOT NULL,
    PRIMARY KEY (account, device, service, mechanism, tls, network)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS login_last ON login (last);
"""
#: Seconds to wait for another process that writes: it does not write for long.
WAITS = 5.0


class LoginDB:
    """The file, and its one connection; each turn is a transaction, on any thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """Make the tables where they are missing.  Raises StartupError."""
        try:
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            database = sqlite3.connect(
                self._path, timeout=WAITS, isolation_level=None, check_same_thread=False
            )
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(TABLES)
        except (OSError, sqlite3.Error) as error:
            raise StartupError(
                f"the ledger of logins {self._path} cannot be used: {error}; it must belong to the "
                "user that the post office runs as; it can be removed: a new one is made"
            ) from error
        self._database = database

    def close(self) -> None:
        """Let go of the file."""
        with self._turn:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    @contextmanager
    def turn(self) -> Iterator[sqlite3.Connection]:
        """One transaction.  Raises TemporaryFailure."""
        with self._turn:
            if self._database is None:
                raise TemporaryFailure(f"the ledger of logins {self._path} is closed")
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield self._database
                    self._database.execute("COMMIT")
                except BaseException:
                    self._database.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise TemporaryFailure(f"the ledger of logins {self._path}: {error}") from error
