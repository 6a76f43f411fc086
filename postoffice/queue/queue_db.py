"""
``queue.db``: when each message is tried next, and what the last attempt gave.

No mail depends on this file: without it, all messages are tried at once.  Only changes by an
administrator (hold, release, pause) are synced.  Plain functions; they block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from postoffice.model.errors import StartupError, TemporaryFailure
from postoffice.model.queued_message import QueuedMessage
from postoffice.util.sqlite_file import SQLiteFile

#: The name of the file, in the state folder.
QUEUE = "queue.db"
#: ``next`` of a row that is being sent, of one whose destination does not answer, and of one whose
#: domain is paused.
ACTIVE, PARKED, PAUSED = 4e15, 8e15, 12e15
#: ``next`` of a row in these states; in all others it is the time of the next attempt.
NEXT_IN_STATE = {"sending": ACTIVE, "unreachable": PARKED, "paused": PAUSED}
#: Names in one SQL statement.
SOME = 500

TABLES = """
CREATE TABLE IF NOT EXISTS waiting (
    name TEXT NOT NULL,
    lane TEXT NOT NULL,
    id TEXT NOT NULL,
    sender TEXT NOT NULL,
    login TEXT NOT NULL,
    recipients TEXT NOT NULL,
    octets INTEGER NOT NULL,
    came REAL NOT NULL,
    next REAL NOT NULL,
    expires REAL NOT NULL,
    warns REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    code INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT '',
    reply TEXT NOT NULL DEFAULT '',
    phase TEXT NOT NULL DEFAULT '',
    via TEXT NOT NULL DEFAULT '',
    last REAL NOT NULL DEFAULT 0,
    held TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (name, lane)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting_next ON waiting (next) WHERE held = '';
CREATE INDEX IF NOT EXISTS waiting_lane ON waiting (lane, came);
CREATE INDEX IF NOT EXISTS waiting_expires ON waiting (expires) WHERE held = '';
CREATE INDEX IF NOT EXISTS waiting_warns ON waiting (warns) WHERE warns IS NOT NULL AND held = '';
CREATE INDEX IF NOT EXISTS waiting_id ON waiting (id);
CREATE TABLE IF NOT EXISTS paused (
    domain TEXT PRIMARY KEY,
    since REAL NOT NULL
) WITHOUT ROWID;
"""

#: Says whether a row is wanted.
Wanted = Callable[["Row"], bool]


class Row(NamedTuple):
    """
    The recipients of one message in one lane.

    A lane is a way and a domain (``direct there.example``).  ``recipients`` are their
    addresses, with spaces between.  ``next``, ``expires``, ``warns`` and ``last`` (attempt) are
    Unix time; ``code`` to ``via`` are of the last attempt.
    """

    name: str
    lane: str
    id: str
    sender: str
    login: str
    recipients: str
    octets: int
    came: float
    next: float
    expires: float
    warns: float | None = None
    attempts: int = 0
    code: int = 0
    status: str = ""
    reply: str = ""
    phase: str = ""
    via: str = ""
    last: float = 0.0
    held: str = ""

    def indexes(self, message: QueuedMessage) -> list[int]:
        """The recipients of this row that are not finished, by their indexes in the message."""
        wanted = set(self.recipients.split())
        return [one for one in message.left if word(message.recipients[one].address) in wanted]


_REMOVED = (
    "; it can be removed: all that waits is then tried at once, also what an administrator held"
)


def like(text: str) -> str:
    """A text as a part of a pattern of LIKE, with ESCAPE."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def in_domain(domain: str) -> tuple[str, tuple[str, str]]:
    """A condition in SQL on the lanes of a domain, and its values (``destinations.lane_key``)."""
    end = f"% {like(domain)}"
    return "(lane LIKE ? ESCAPE '\\' OR lane LIKE ? ESCAPE '\\')", (end, f"{end} forwarded")


def by_name(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each message."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.name, []).append(row)
    return found


def word(address: str) -> str:
    """An address as one word of a row."""
    return address.replace(" ", "\\20")


#: Lanes of one query at most.
LANES = 10_000
_COLUMNS = ", ".join(Row._fields)
_VALUES = ", ".join("?" * len(Row._fields))
_PUT = f"INSERT OR REPLACE INTO waiting ({_COLUMNS}) VALUES ({_VALUES})"  # noqa: S608
_GET = f"SELECT {_COLUMNS} FROM waiting"  # noqa: S608


class QueueDB(SQLiteFile):
    """The file, and its one connection."""

    def __init__(self, path: str) -> None:
        super().__init__(
            path,
            "the schedule of the queue",
            TABLES,
            f"; it must belong to the user that the post office runs as{_REMOVED}",
        )

    def open(self) -> None:
        """Open the file, and check it: with a damaged one, mail could wait for ever."""
        super().open()
        with self._or_stop(), self.turn() as db:
            [what] = db.execute("PRAGMA quick_check(1)").fetchone()
            if what != "ok":
                raise TemporaryFailure(f"{self._called} {self._path} is damaged: {what}")

    @contextmanager
    def _or_stop(self) -> Iterator[None]:
        """In ``with``: if the file fails, close it, and raise StartupError."""
        try:
            yield
        except TemporaryFailure as error:
            self.close()
            raise StartupError(f"{error}{_REMOVED}") from error

    def recover(self, there: Iterable[str]) -> list[str]:
        """
        Drop rows of messages that are not there, and take back what was being sent.

        Returns the names of messages without a row.  Raises StartupError.
        """
        there = set(there)
        with self._or_stop(), self.turn() as db:
            known = {name for (name,) in db.execute("SELECT DISTINCT name FROM waiting")}
            db.executemany("DELETE FROM waiting WHERE name = ?", [(one,) for one in known - there])
            db.execute("UPDATE waiting SET next = last WHERE next >= ?", (ACTIVE,))
        return sorted(there - known)

    def write(
        self, put: Iterable[Row], gone: Iterable[tuple[str, str]] = (), *, durable: bool = False
    ) -> None:
        """
        Remove rows by (name, lane), then put others.

        ``durable``: what an administrator has changed is on stable storage afterwards.
        """
        with self.turn(durable=durable) as db:
            db.executemany("DELETE FROM waiting WHERE name = ? AND lane = ?", gone)
            db.executemany(_PUT, put)

    def claim(self, now: float, most: int, without: Sequence[str] = ()) -> list[Row]:
        """Claim due rows, longest due first, ``without`` some lanes."""
        others = f"AND lane NOT IN ({', '.join('?' * len(without))})" if without else ""
        which = f"next <= ? AND held = '' {others} ORDER BY next LIMIT ?"
        return self._claim(which, (now, *without, most))

    def claim_parked(self, lanes: Sequence[str]) -> list[Row]:
        """Claim the parked row of these lanes whose last attempt is longest ago."""
        marks = ", ".join("?" * len(lanes[:LANES]))
        which = f"lane IN ({marks}) AND next = ? AND held = '' ORDER BY last, came LIMIT 1"
        return self._claim(which, (*lanes[:LANES], PARKED))

    def take(self, which: str, values: Sequence[object], wanted: Wanted) -> list[Row]:
        """Claim rows by a condition in SQL, and of these the ``wanted``."""
        return self._claim(f"({which}) AND next != ?", (*values, ACTIVE), wanted)

    def take_whole(self, names: Iterable[str]) -> tuple[list[Row], set[tuple[str, str]]]:
        """Claim all rows of these messages, except held ones; return also the keys of those."""
        taken: list[Row] = []
        held: set[tuple[str, str]] = set()
        for name in names:
            held |= {(row.name, row.lane) for row in self.find("name = ? AND held != ''", (name,))}
            taken += self._claim("name = ? AND held = '' AND next != ?", (name, ACTIVE))
        return taken, held

    def _claim(
        self, which: str, values: tuple[object, ...], wanted: Wanted = lambda _: True
    ) -> list[Row]:
        with self.turn() as db:
            found = (Row(*row) for row in db.execute(f"{_GET} WHERE {which}", values))
            rows = [row for row in found if wanted(row)]
            db.executemany(
                "UPDATE waiting SET next = ? WHERE name = ? AND lane = ?",
                [(ACTIVE, row.name, row.lane) for row in rows],
            )
        return rows

    def park(self, lanes: Sequence[str], now: float) -> None:
        """Park all rows of these lanes that are due."""
        with self.turn() as db:
            db.executemany(
                "UPDATE waiting SET next = ? WHERE lane = ? AND next <= ? AND held = ''",
                [(PARKED, lane, now) for lane in lanes],
            )

    def release(self, lanes: Sequence[str], now: float) -> None:
        """Make all parked rows of these lanes due at ``now``."""
        with self.turn() as db:
            db.executemany(
                "UPDATE waiting SET next = ? WHERE lane = ? AND next = ?",
                [(now, lane, PARKED) for lane in lanes],
            )

    def by_login(self) -> list[tuple[str, int, int]]:
        """Return how many messages and octets of each user wait."""
        with self.turn() as db:
            return db.execute(
                "SELECT login, count(*), sum(octets) FROM"
                " (SELECT DISTINCT name, login, octets FROM waiting) GROUP BY login"
            ).fetchall()

    def by_lane(self) -> dict[str, int]:
        """How many messages wait in each lane."""
        with self.turn() as db:
            return dict(db.execute("SELECT lane, count(*) FROM waiting GROUP BY lane").fetchall())

    def unpark(self, domain: str, now: float) -> None:
        """Make parked and paused rows for a domain ("*": for all) due at ``now``."""
        which, values = in_domain(domain)
        update = f"UPDATE waiting SET next = ? WHERE next IN (?, ?) AND (? = '*' OR {which})"  # noqa: S608
        with self.turn() as db:
            db.execute(update, (now, PARKED, PAUSED, domain, *values))

    def expired(self, now: float, most: int) -> list[Row]:
        """Claim rows that have expired and are not being sent."""
        return self._claim("expires <= ? AND held = '' AND next != ? LIMIT ?", (now, ACTIVE, most))

    def delayed(self, now: float, most: int) -> list[Row]:
        """Return rows whose senders have to be told of the delay, until ``told`` is called."""
        with self.turn() as db:
            which = "warns <= ? AND held = '' LIMIT ?"
            return [Row(*row) for row in db.execute(f"{_GET} WHERE {which}", (now, most))]

    def told(self, rows: Iterable[Row]) -> None:
        """Note that the senders of these rows were told of the delay."""
        with self.turn() as db:
            db.executemany(
                "UPDATE waiting SET warns = NULL WHERE name = ? AND lane = ?",
                [(row.name, row.lane) for row in rows],
            )

    def find(
        self, which: str = "1", values: Sequence[object] = (), page: int = SOME
    ) -> Iterator[Row]:
        """Rows by a condition in SQL, in order of name and lane; read in pages."""
        after = ("", "")
        while True:
            with self.turn() as db:
                rows = [
                    Row(*row)
                    for row in db.execute(
                        f"{_GET} WHERE ({which}) AND (name, lane) > (?, ?)"
                        " ORDER BY name, lane LIMIT ?",
                        (*values, *after, page),
                    )
                ]
            yield from rows
            if len(rows) < page:
                return
            after = (rows[-1].name, rows[-1].lane)

    def select(self, which: str, values: Sequence[object], most: int | None) -> list[Row]:
        """At most so many rows, in order of name and lane."""
        return list(islice(self.find(which, values), most))

    @contextmanager
    def opened(self) -> Iterator[QueueDB]:
        """Open the file, and close it at the end.  Raises StartupError."""
        self.open()
        try:
            yield self
        finally:
            self.close()

    def count(self, which: str, values: Sequence[object]) -> int:
        """How many messages have rows that fit a condition in SQL."""
        with self.turn() as db:
            query = f"SELECT count(DISTINCT name) FROM waiting WHERE {which}"  # noqa: S608
            return int(db.execute(query, tuple(values)).fetchone()[0])

    def totals(self) -> tuple[float | None, int]:
        """When the oldest message came (Unix time), if one waits; and how many are held."""
        with self.turn() as db:
            query = """SELECT min(came), count(DISTINCT CASE WHEN held != '' THEN name END)
                       FROM waiting"""
            oldest, held = db.execute(query).fetchone()
            return oldest, held

    def states(self) -> dict[str, int]:
        """Return how many messages have rows in each state (``selection.STATES``), in one pass."""
        cases = (f" WHEN next = {at!r} THEN '{state}'" for state, at in NEXT_IN_STATE.items())
        state = f"CASE WHEN held != '' THEN 'held'{''.join(cases)} ELSE 'waiting' END"
        with self.turn() as db:
            query = f"SELECT {state}, count(DISTINCT name) FROM waiting GROUP BY 1"  # noqa: S608
            return dict(db.execute(query))

    def pause(self, domain: str, now: float) -> None:
        """Send nothing to this domain ("*": to any) until ``resume``."""
        with self.turn(durable=True) as db:
            db.execute("INSERT OR IGNORE INTO paused VALUES (?, ?)", (domain, now))

    def resume(self, domain: str) -> bool:
        """Send to this domain again; False if it was not paused."""
        with self.turn(durable=True) as db:
            return bool(db.execute("DELETE FROM paused WHERE domain = ?", (domain,)).rowcount)

    def paused(self) -> dict[str, float]:
        """The domains that are paused, and since when."""
        with self.turn() as db:
            return dict(db.execute("SELECT domain, since FROM paused").fetchall())
