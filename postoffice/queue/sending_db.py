"""
The database of how much accounts send (``sending.db``), which all processes share.

No mail depends on this file: if a power failure loses its last changes, an account may send to a
few more recipients.  Only holding and releasing an account is synced.  Plain functions; they block.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from postoffice.outbound.schedule import DAY, HOUR
from postoffice.outbound.sending_rate import Rates, SendingRate, suspect
from postoffice.util.sqlite_file import SQLiteFile

#: The name of the file, in the state folder.
SENDING = "sending.db"
#: Rows that one sweep removes at most.
SWEPT = 1000
#: Seconds between two notices of the same kind to one account.
NOTICES = DAY

TABLES = """
CREATE TABLE IF NOT EXISTS sent (
    account TEXT NOT NULL,
    device TEXT NOT NULL,
    seconds REAL NOT NULL,
    slot INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (account, seconds, slot, device)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sent_until ON sent (until);
CREATE TABLE IF NOT EXISTS tried (
    account TEXT NOT NULL,
    slot INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (account, slot)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tried_until ON tried (until);
CREATE TABLE IF NOT EXISTS held (
    account TEXT PRIMARY KEY,
    since REAL NOT NULL,
    why TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told (
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (account, kind)
) WITHOUT ROWID;
"""
#: The hour in which refused recipients are counted.
_HOUR = SendingRate(0, HOUR)


class CountResult(NamedTuple):
    """
    The result of counting a message at a time.

    ``rate`` is the limit that the message exceeds, and ``wait`` the seconds until it would not;
    None: it always will.  ``held`` says why the account is held, or is "".
    """

    at: float
    rate: SendingRate | None = None
    wait: float | None = 0.0
    held: str = ""


class CountRequest(NamedTuple):
    """A message to be counted: so many recipients, at a time."""

    account: str
    device: str
    recipients: int
    rates: Rates
    now: float


class SendingState(NamedTuple):
    """
    How an account sends: since when and why it is held (None if it is not), and how much it sends.

    ``used`` is how many recipients count for each of its limits; ``tried`` and ``refused`` are
    recipients of the last hour, of all and of those that other servers refused.
    """

    held: tuple[float, str] | None
    used: Sequence[tuple[SendingRate, int]]
    tried: int
    refused: int


class SendingDB(SQLiteFile):
    """The file, and its one connection."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "the database of what is sent", TABLES)

    def take(self, messages: Iterable[CountRequest]) -> list[CountResult]:
        """
        Count the recipients of messages, except of messages that exceed a limit and are refused.

        Raises TemporaryFailure.
        """
        with self.turn() as database:
            return [_take(database, *one) for one in messages]

    def give_back(self, account: str, device: str, fewer: int, rates: Rates, at: float) -> None:
        """Undo what ``take`` counted at that time: the message was not accepted after all."""
        with self.turn() as database:
            _count(database, account, device, -fewer, rates, at)

    def tried(self, tries: Sequence[tuple[str, int, int]], now: float) -> list[str]:
        """
        Count recipients that other servers took and refused: account, and how many of both.

        Returns for each why its account is held now, "" if it is not, or was held already.
        Raises TemporaryFailure.
        """
        slot = _HOUR.slot(now)
        all_: dict[str, tuple[int, int]] = {}
        for account, sent, refused in tries:
            others, bad = all_.get(account, (0, 0))
            all_[account] = others + sent + refused, bad + refused
        with self.turn() as database:
            database.executemany(
                "INSERT INTO tried VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " recipients = recipients + excluded.recipients,"
                " refused = refused + excluded.refused",
                [(account, slot, *both, _HOUR.until(slot)) for account, both in all_.items()],
            )
        why = {account: self._why(account, now) for account, (_, bad) in all_.items() if bad}
        return [why.pop(account, "") for account, _, _ in tries]

    def _why(self, account: str, now: float) -> str:
        """Hold an account if too much was refused; return why, "" if it is not or was held."""
        with self.turn() as database:
            all_, bad = database.execute(
                "SELECT sum(recipients), sum(refused) FROM tried WHERE account = ? AND slot >= ?",
                (account, _HOUR.oldest(now)),
            ).fetchone()
        if not suspect(all_, bad):
            return ""
        why = f"{bad} of {all_} recipients in an hour were refused"
        with self.turn(durable=True) as database:
            new = database.execute(
                "INSERT OR IGNORE INTO held VALUES (?, ?, ?)", (account, now, why)
            ).rowcount
        return why if new else ""

    def held(self, account: str) -> tuple[float, str] | None:
        """Since when an account is held, and why; None if it is not.  Raises TemporaryFailure."""
        with self.turn() as database:
            found: tuple[float, str] | None = database.execute(
                "SELECT since, why FROM held WHERE account = ?", (account,)
            ).fetchone()
        return found

    def state(self, account: str, rates: Rates, now: float) -> SendingState:
        """Return how an account sends, by the limits ``rates``.  Raises TemporaryFailure."""
        held = self.held(account)
        with self.turn() as database:
            tried, refused = database.execute(
                "SELECT sum(recipients), sum(refused) FROM tried WHERE account = ? AND slot >= ?",
                (account, _HOUR.oldest(now)),
            ).fetchone()
            used = [
                (
                    rate,
                    database.execute(
                        "SELECT sum(recipients) FROM sent"
                        " WHERE account = ? AND seconds = ? AND slot >= ?",
                        (account, rate.seconds, rate.oldest(now)),
                    ).fetchone()[0]
                    or 0,
                )
                for rate in rates.account
            ]
        return SendingState(held, used, tried or 0, refused or 0)

    def release(self, account: str) -> bool:
        """
        Let an account send again, and forget its refused recipients.  Return whether it was held.

        Raises TemporaryFailure.
        """
        with self.turn(durable=True) as database:
            database.execute("DELETE FROM tried WHERE account = ?", (account,))
            database.execute("DELETE FROM told WHERE account = ?", (account,))
            gone = database.execute("DELETE FROM held WHERE account = ?", (account,)).rowcount
        return bool(gone)

    def rename(self, account: str, new: str = "") -> None:
        """
        Rename an account, or forget it; what was counted under the new name is forgotten.

        Raises TemporaryFailure.
        """
        with self.turn(durable=True) as database:
            for table in ("sent", "tried", "held", "told"):
                delete = f"DELETE FROM {table} WHERE account = ?"  # noqa: S608 (our own words)
                database.execute(delete, (new or account,))
                if new:
                    update = f"UPDATE {table} SET account = ? WHERE account = ?"  # noqa: S608
                    database.execute(update, (new, account))

    def tells(self, account: str, kind: str, now: float) -> bool:
        """Return whether to send a notice of this kind now; if so, the next is due after a day."""
        with self.turn() as database:
            row = database.execute(
                "SELECT at FROM told WHERE account = ? AND kind = ?", (account, kind)
            ).fetchone()
            if row and 0 <= now - row[0] < NOTICES:
                return False
            database.execute("INSERT OR REPLACE INTO told VALUES (?, ?, ?)", (account, kind, now))
        return True

    def sweep(self, now: float) -> bool:
        """Remove some rows that count no longer; return whether there may be more."""
        with self.turn() as database:
            sent = database.execute(
                "DELETE FROM sent WHERE (account, seconds, slot, device) IN (SELECT account,"
                " seconds, slot, device FROM sent WHERE until < ? LIMIT ?)",
                (now, SWEPT),
            ).rowcount
            tried = database.execute(
                "DELETE FROM tried WHERE (account, slot) IN"
                " (SELECT account, slot FROM tried WHERE until < ? LIMIT ?)",
                (now, SWEPT),
            ).rowcount
            database.execute("DELETE FROM told WHERE at < ?", (now - NOTICES,))
        return SWEPT in (sent, tried)


def _take(
    database: sqlite3.Connection, account: str, device: str, more: int, rates: Rates, now: float
) -> CountResult:
    row = database.execute("SELECT why FROM held WHERE account = ?", (account,)).fetchone()
    taken = (
        CountResult(now, held=row[0]) if row else _over(database, account, device, more, rates, now)
    )
    if taken.rate is None or rates.hold:
        _count(database, account, device, more, rates, now)
    return taken


def _over(
    database: sqlite3.Connection, account: str, device: str, more: int, rates: Rates, now: float
) -> CountResult:
    """Return the limit that is exceeded for the longest time, if one is."""
    over: list[CountResult] = []
    for name, limits in ((None, rates.account), (device, rates.device)):
        for rate in limits:
            counts = dict(
                database.execute(
                    "SELECT slot, sum(recipients) FROM sent WHERE account = ?1 AND seconds = ?2"
                    " AND slot >= ?3 AND (device = ?4 OR ?4 IS NULL) GROUP BY slot",
                    (account, rate.seconds, rate.oldest(now), name),
                ).fetchall()
            )
            wait = rate.wait(counts, now, more)
            if wait != 0:
                over.append(CountResult(now, rate, wait))
    return max(over, key=_lasting, default=CountResult(now))


def _lasting(taken: CountResult) -> float:
    return float("inf") if taken.wait is None else taken.wait


def _count(
    database: sqlite3.Connection, account: str, device: str, more: int, rates: Rates, now: float
) -> None:
    """Add recipients to the slots of a time."""
    rows: Sequence[SendingRate] = [*rates.account, *rates.device]
    for seconds in dict.fromkeys(rate.seconds for rate in rows):
        rate = SendingRate(0, seconds)
        slot = rate.slot(now)
        database.execute(
            "INSERT INTO sent VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " recipients = max(recipients + excluded.recipients, 0)",
            (account, device, seconds, slot, more, rate.until(slot)),
        )
