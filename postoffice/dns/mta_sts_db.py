"""The database of MTA-STS policies.  It blocks."""

from __future__ import annotations

from dataclasses import dataclass

from postoffice.outbound.mta_sts import Policy
from postoffice.util.sqlite_file import SQLiteFile

TABLES = """
CREATE TABLE IF NOT EXISTS policy (
    domain TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    mode TEXT NOT NULL,
    mx TEXT NOT NULL,
    max_age INTEGER NOT NULL,
    fetched REAL NOT NULL,
    checked REAL NOT NULL,
    used REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS policy_checked ON policy (checked);
"""
DAY = 86400
#: Policies that were not used for so many seconds are deleted, and the oldest beyond so many.
UNUSED, KEPT = 180 * DAY, 100_000


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy, and the Unix time at which it was fetched."""

    policy: Policy
    fetched: float

    def holds(self, now: float) -> bool:
        """Whether it is still in force."""
        return now < self.fetched + self.policy.max_age


class PolicyDB(SQLiteFile):
    """The policies by domain."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "the MTA-STS policies in", TABLES)

    def use(self, domain: str, now: float) -> StoredPolicy | None:
        """The policy of a domain, to which mail is sent now.  Raises TemporaryFailure."""
        with self.turn() as database:
            row = database.execute(
                "SELECT mode, mx, max_age, id, fetched, used FROM policy WHERE domain = ?",
                (domain,),
            ).fetchone()
            if row is None:
                return None
            mode, mx, max_age, id_, fetched, used = row
            if now - used >= DAY:
                database.execute("UPDATE policy SET used = ? WHERE domain = ?", (now, domain))
        return StoredPolicy(Policy(mode, tuple(mx.split()), max_age, id_), fetched)

    def keep(self, domain: str, policy: Policy, now: float, *, used: bool) -> None:
        """Store a policy that was fetched now; ``used``: for a message, not only to refresh it."""
        written = domain, policy.id, policy.mode, " ".join(policy.mx), policy.max_age
        with self.turn() as database:
            database.execute(
                "INSERT INTO policy VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " id = excluded.id, mode = excluded.mode, mx = excluded.mx,"
                " max_age = excluded.max_age, fetched = excluded.fetched,"
                " checked = excluded.checked, used = CASE WHEN ? THEN excluded.used ELSE used END",
                (*written, now, now, now, used),
            )

    def due(self, now: float, most: int) -> list[tuple[str, str]]:
        """
        Take the domains whose policy is to be refreshed, with its id: a day after the last time.

        They are not given again for a day, whether or not that succeeds.
        """
        with self.turn() as database:
            found: list[tuple[str, str]] = database.execute(
                "SELECT domain, id FROM policy WHERE checked <= ? ORDER BY checked LIMIT ?",
                (now - DAY, most),
            ).fetchall()
            database.executemany(
                "UPDATE policy SET checked = ? WHERE domain = ?",
                [(now, domain) for domain, _ in found],
            )
        return found

    def forget(self, now: float) -> None:
        """Delete policies that nobody uses, and those beyond what is kept."""
        with self.turn() as database:
            database.execute("DELETE FROM policy WHERE used < ?", (now - UNUSED,))
            database.execute(
                "DELETE FROM policy WHERE domain IN"
                " (SELECT domain FROM policy ORDER BY used DESC LIMIT -1 OFFSET ?)",
                (KEPT,),
            )
