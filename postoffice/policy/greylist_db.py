"""The greylist's database of triplets (client network, sender, recipient).  It blocks."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from postoffice.util.sqlite_file import SQLiteFile

TABLES = """
CREATE TABLE IF NOT EXISTS triplet (
    network TEXT NOT NULL,
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    first REAL NOT NULL,
    passed INTEGER NOT NULL,
    last REAL NOT NULL,
    PRIMARY KEY (network, sender, recipient)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS triplet_last ON triplet (last);
CREATE TABLE IF NOT EXISTS known (
    network TEXT PRIMARY KEY,
    passed INTEGER NOT NULL,
    last REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS known_last ON known (last);
"""
#: Rows that are deleted at once: other statements wait meanwhile.
SWEPT = 1000
#: For each table: how to count its rows, and how to delete the oldest ones.
_BOUNDS = (
    (
        "SELECT count(*) FROM triplet",
        "DELETE FROM triplet WHERE (network, sender, recipient) IN"
        " (SELECT network, sender, recipient FROM triplet ORDER BY last LIMIT ?)",
    ),
    (
        "SELECT count(*) FROM known",
        "DELETE FROM known WHERE network IN (SELECT network FROM known ORDER BY last LIMIT ?)",
    ),
)
#: The most rows of each table; beyond it, the oldest are deleted.
KEPT = 500_000


@dataclass(frozen=True)
class GreylistTimes:
    """
    Times in seconds.

    An unknown triplet must wait for ``delay`` and retry within ``window``; then it is
    remembered for ``lifetime``.  A network with ``known_after`` such retries does not wait.
    """

    delay: float
    window: float
    lifetime: float
    known_after: int


class Triplets(SQLiteFile):
    """The database.  Rows lost in a power cut cost a client one more retry."""

    def __init__(self, path: str, times: GreylistTimes) -> None:
        super().__init__(path, "the greylist", TABLES)
        self._times = times
        self._added = 0

    def wait(self, network: str, sender: str, recipient: str, now: float) -> float:
        """Seconds that a triplet must still wait; 0: accepted.  Raises TemporaryFailure."""
        with self.turn() as database:
            return self._left(database, network, sender, recipient, now)

    def sweep(self, now: float) -> bool:
        """Delete some old rows; return whether there may be more."""
        with self.turn() as database:
            old = database.execute(
                "DELETE FROM triplet WHERE (network, sender, recipient) IN (SELECT network,"
                " sender, recipient FROM triplet WHERE last < ? - CASE WHEN passed THEN ?"
                " ELSE ? END LIMIT ?)",
                (now, self._times.lifetime, self._times.window, SWEPT),
            ).rowcount
            database.execute(
                "DELETE FROM known WHERE network IN (SELECT network FROM known"
                " WHERE last < ? LIMIT ?)",
                (now - self._times.lifetime, SWEPT),
            )
        return old == SWEPT

    @staticmethod
    def _bound(database: sqlite3.Connection) -> None:
        """Delete the oldest rows of a table that is too large, faster than rows are added."""
        for count, forget in _BOUNDS:
            (many,) = database.execute(count).fetchone()
            if many > KEPT:
                database.execute(forget, (min(many - KEPT, 2 * SWEPT),))

    def _left(
        self, database: sqlite3.Connection, network: str, sender: str, recipient: str, now: float
    ) -> float:
        times = self._times
        if self._is_known(database, network, now):
            return 0
        who = (network, sender, recipient)
        row = database.execute(
            "SELECT first, passed, last FROM triplet"
            " WHERE network = ? AND sender = ? AND recipient = ?",
            who,
        ).fetchone()
        if row is None or row[2] < now - (times.lifetime if row[1] else times.window):
            self._add(database, who, now)
            return times.delay
        first, passed, _ = row
        left: float = 0 if passed else first + times.delay - now
        if left > 0:
            return left
        database.execute(
            "UPDATE triplet SET passed = passed + 1, last = ?"
            " WHERE network = ? AND sender = ? AND recipient = ?",
            (now, *who),
        )
        if not passed:
            database.execute(
                "INSERT INTO known VALUES (?, 1, ?)"
                " ON CONFLICT DO UPDATE SET passed = passed + 1, last = excluded.last",
                (network, now),
            )
        return 0

    def _is_known(self, database: sqlite3.Connection, network: str, now: float) -> bool:
        """Whether a network has retried so often that it need not wait."""
        row = database.execute(
            "SELECT passed, last FROM known WHERE network = ?", (network,)
        ).fetchone()
        known = (
            row is not None
            and row[0] >= self._times.known_after
            and row[1] > now - self._times.lifetime
        )
        if known:
            database.execute("UPDATE known SET last = ? WHERE network = ?", (now, network))
        return known

    def _add(self, database: sqlite3.Connection, who: tuple[str, str, str], now: float) -> None:
        """Add a triplet that is new, or begins anew."""
        database.execute(
            "INSERT OR REPLACE INTO triplet VALUES (?, ?, ?, ?, 0, ?)", (*who, now, now)
        )
        self._added += 1
        if self._added >= SWEPT:
            self._added = 0
            self._bound(database)
