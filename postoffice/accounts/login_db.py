"""
The ledger of logins: one SQLite file that all processes share.  Plain functions; they block.

Nobody's mail depends on it.  What is lost with the power costs a guesser
some tries more, and an account the time of its last login.
"""

from __future__ import annotations

from postoffice.util.sqlite_file import SQLiteFile

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


class LoginDB(SQLiteFile):
    """The file, and its one connection."""

    def __init__(self, path: str) -> None:
        super().__init__(
            path,
            "the ledger of logins",
            TABLES,
            "; it must belong to the user that the post office runs as; it can be removed: "
            "a new one is made",
        )
