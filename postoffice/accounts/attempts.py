"""Counts wrong passwords by account and by network.  The functions block."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from postoffice.util.sqlite_file import SQLiteFile

#: Seconds for which failed logins are listed and counted together.
DAY = 86400.0
#: Seconds for which the network of a successful login stays known.
KNOWN = 30 * DAY
#: Known networks of one account at most; the oldest are removed.
NETWORKS = 100
#: Rows that stay at most, and rows that one sweep removes at most.
KEPT = 100_000
SWEPT = 1000

ACCOUNT, NETWORK = "account", "network"


@dataclass(frozen=True)
class Allowance:
    """
    A number of wrong passwords in any period of so many seconds.

    It is a token bucket that holds half of them and gets the other half in that time.  A bucket
    that holds all of them would allow twice as many in some periods.
    """

    count: int
    seconds: float

    @property
    def burst(self) -> float:
        """How many may come at once."""
        return max(1.0, self.count // 2)

    @property
    def rate(self) -> float:
        """How many come back in a second."""
        return max(1.0, self.count - self.burst) / self.seconds


@dataclass(frozen=True)
class AttemptResult:
    """
    Whether a login may be checked.

    If the network is ``known`` for this account, nothing was taken.  Otherwise the waits are the
    seconds until the allowances of the account and of the network permit an attempt; if both
    waits are 0, one attempt was taken from each allowance.
    """

    known: bool = False
    account_wait: float = 0.0
    network_wait: float = 0.0


@dataclass(frozen=True)
class FailureCount:
    """
    Failed logins at one account, or from one network (``kind``), within a day.

    ``last`` and ``until`` are seconds since 1970; ``until`` is the end of the block, None if there
    is no block.
    """

    kind: str
    name: str
    count: int
    last: float
    until: float | None


class Attempts:
    """
    Takes from the allowances of an account and of a network before a password is checked.

    An unknown account is treated like a known one.  The network "" is this machine and
    has no allowance, nor has the account "" (no name given).
    """

    def __init__(self, login_db: SQLiteFile, account: Allowance, network: Allowance) -> None:
        self._login_db = login_db
        self.allow(account, network)

    def allow(self, account: Allowance, network: Allowance) -> None:
        """Use other allowances from now on."""
        self._allowances = {ACCOUNT: account, NETWORK: network}

    def take(self, account: str, network: str, now: float) -> AttemptResult:
        """Take an attempt from both allowances, if both have one.  Raises TemporaryFailure."""
        with self._login_db.turn() as database:
            if _is_known(database, account, network, now):
                return AttemptResult(known=True)
            waits = {ACCOUNT: 0.0, NETWORK: 0.0}
            levels = []
            for kind, name in _keys(account, network):
                level = self._level(database, kind, name, now)
                levels.append((kind, name, level))
                waits[kind] = max(0.0, (1 - level) / self._allowances[kind].rate)
            if not any(waits.values()):
                for kind, name, level in levels:
                    _set(database, kind, name, level - 1, now)
            return AttemptResult(False, waits[ACCOUNT], waits[NETWORK])

    def give_back(self, account: str, network: str, now: float, right: bool) -> None:
        """
        Give back an attempt; if it was ``right``, the network is known from now on.

        Raises TemporaryFailure.
        """
        with self._login_db.turn() as database:
            for kind, name in _keys(account, network):
                level = self._level(database, kind, name, now) + 1
                _set(database, kind, name, min(level, self._allowances[kind].burst), now)
            if right:
                _remember_network(database, account, network, now)

    def wrong(self, account: str, network: str, now: float) -> None:
        """Count a wrong password.  Raises TemporaryFailure."""
        with self._login_db.turn() as database:
            for kind, name in _keys(account, network):
                level = self._level(database, kind, name, now)
                _set(database, kind, name, level, now)
                database.execute(
                    "UPDATE try SET count = 1 + CASE WHEN last > ? THEN count ELSE 0 END, last = ?"
                    " WHERE kind = ? AND name = ?",
                    (now - DAY, now, kind, name),
                )

    def remember_network(self, account: str, network: str, now: float) -> None:
        """
        Record that the owner of an account has logged in from a network.

        Raises TemporaryFailure.
        """
        with self._login_db.turn() as database:
            _remember_network(database, account, network, now)

    def failures(self, now: float) -> list[FailureCount]:
        """Return the failed logins of the last day, the latest first.  Raises TemporaryFailure."""
        with self._login_db.turn() as database:
            rows = database.execute(
                "SELECT kind, name, count, last FROM try WHERE count > 0 AND last > ?"
                " ORDER BY last DESC, kind, name",
                (now - DAY,),
            ).fetchall()
            found = []
            for kind, name, count, last in rows:
                wait = (1 - self._level(database, kind, name, now)) / self._allowances[kind].rate
                found.append(
                    FailureCount(kind, name, count, last, now + wait if wait > 0 else None)
                )
            return found

    def clear(self, names: list[str] | None) -> int:
        """
        Forget the failed logins of these accounts and networks, or of all (None); return how many.

        Raises TemporaryFailure.
        """
        with self._login_db.turn() as database:
            if names is None:
                return database.execute("DELETE FROM try").rowcount
            forget = "DELETE FROM try WHERE name = ?"
            return sum(database.execute(forget, (name,)).rowcount for name in names)

    def sweep(self, now: float) -> bool:
        """
        Remove some rows that are old or too many; return whether there may be more.

        Raises TemporaryFailure.
        """
        gone = 0
        with self._login_db.turn() as database:
            gone += database.execute(
                "DELETE FROM try WHERE (kind, name) IN"
                " (SELECT kind, name FROM try WHERE at < ? LIMIT ?)",
                (now - max(DAY, *(one.seconds for one in self._allowances.values())), SWEPT),
            ).rowcount
            gone += database.execute(
                "DELETE FROM known WHERE (account, network) IN"
                " (SELECT account, network FROM known WHERE last < ? LIMIT ?)",
                (now - KNOWN, SWEPT),
            ).rowcount
            (many,) = database.execute("SELECT count(*) FROM try").fetchone()
            gone += database.execute(
                "DELETE FROM try WHERE (kind, name) IN"
                " (SELECT kind, name FROM try ORDER BY at LIMIT ?)",
                (max(0, min(many - KEPT, SWEPT)),),
            ).rowcount
        return gone >= SWEPT

    def _level(self, database: sqlite3.Connection, kind: str, name: str, now: float) -> float:
        allowance = self._allowances[kind]
        row = database.execute(
            "SELECT level, at FROM try WHERE kind = ? AND name = ?", (kind, name)
        ).fetchone()
        if row is None:
            return allowance.burst
        level, at = row
        if at > now:  # the clock was set back: do not wait until it reaches that time again
            _set(database, kind, name, level, now)
            return float(level)
        return float(min(allowance.burst, level + (now - at) * allowance.rate))


def _keys(account: str, network: str) -> Iterator[tuple[str, str]]:
    if account:
        yield ACCOUNT, account
    if network:
        yield NETWORK, network


def _is_known(database: sqlite3.Connection, account: str, network: str, now: float) -> bool:
    row = database.execute(
        "SELECT last FROM known WHERE account = ? AND network = ?", (account, network)
    ).fetchone()
    return row is not None and row[0] > now - KNOWN


def _remember_network(database: sqlite3.Connection, account: str, network: str, now: float) -> None:
    database.execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?)", (account, network, now))
    database.execute(
        "DELETE FROM known WHERE account = ?1 AND network IN"
        " (SELECT network FROM known WHERE account = ?1 ORDER BY last DESC LIMIT -1 OFFSET ?2)",
        (account, NETWORKS),
    )


def _set(database: sqlite3.Connection, kind: str, name: str, level: float, now: float) -> None:
    database.execute(
        "INSERT INTO try (kind, name, level, at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET level = excluded.level, at = excluded.at",
        (kind, name, level, now),
    )
