"""When and how accounts and their devices logged in; a recorder writes many logins at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.accounts.attempts import DAY
from postoffice.interfaces import Executor
from postoffice.model.address import Account
from postoffice.model.envelope import SessionInfo
from postoffice.model.errors import TemporaryFailure
from postoffice.util.networks import network_of
from postoffice.util.periodic import Periodic
from postoffice.util.sqlite_file import SQLiteFile

#: Seconds for which a login method stays in the history after its last use.
REMEMBERED = 400 * DAY
#: Rows that one sweep removes at most.
SWEPT = 1000
#: Seconds between a login and writing it.
BATCH = 5.0
#: Login methods that may wait to be written; more are not recorded.
WAITING = 20_000
#: Seconds between two sweeps.
SWEEPING = 86400.0


@dataclass(frozen=True)
class LoginMethod:
    """
    How an account logs in: to which service, by which mechanism, with which TLS, from where.

    ``device`` is empty for the account's own password; ``service`` is a word
    of the configuration; ``mechanism`` that of SASL, USER or APOP; ``tls`` a
    version, or empty; ``network`` an IPv4 address or an IPv6 /64, or empty for
    this machine.
    """

    account: str
    device: str
    service: str
    mechanism: str
    tls: str
    network: str


class LoginHistory:
    """All login methods that were used, and when each was last used (seconds since 1970)."""

    def __init__(self, login_db: SQLiteFile) -> None:
        self._login_db = login_db

    def write(self, used: Mapping[LoginMethod, float]) -> None:
        """Record that these were used.  Raises TemporaryFailure."""
        with self._login_db.turn() as database:
            database.executemany(
                "INSERT INTO login VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
                [(*astuple(login_method), last) for login_method, last in used.items()],
            )

    def used(self, since: float, account: str | None = None) -> list[tuple[LoginMethod, float]]:
        """
        Return the login methods used since then, of one account or of all, the latest first.

        Raises TemporaryFailure.
        """
        with self._login_db.turn() as database:
            rows = database.execute(
                "SELECT * FROM login WHERE last >= ?1 AND (account = ?2 OR ?2 IS NULL)"
                " ORDER BY last DESC, account, device",
                (since, account),
            ).fetchall()
        return [(LoginMethod(*row[:6]), row[6]) for row in rows]

    def latest(self, accounts: Sequence[str]) -> dict[str, tuple[LoginMethod, float]]:
        """
        Return the last login of each of these accounts, or of its devices; 1000 at most.

        Raises TemporaryFailure.
        """
        marks = ", ".join("?" for _ in accounts)
        with self._login_db.turn() as database:
            # SQLite takes the other columns from the row that has the maximum.
            rows = database.execute(
                "SELECT account, device, service, mechanism, tls, network, max(last)"  # noqa: S608 (marks)
                f" FROM login WHERE account IN ({marks}) GROUP BY account",
                accounts,
            ).fetchall()
        return {row[0]: (LoginMethod(*row[:6]), row[6]) for row in rows}

    def forget(self, account: str, device: str | None = None) -> None:
        """Forget a removed account and its networks, or one device.  Raises TemporaryFailure."""
        with self._login_db.turn() as database:
            database.execute(
                "DELETE FROM login WHERE account = ?1 AND (device = ?2 OR ?2 IS NULL)",
                (account, device),
            )
            if device is None:
                database.execute("DELETE FROM known WHERE account = ?", (account,))

    def rename(self, account: str, new: str) -> None:
        """
        Rename an account; forget what was recorded under the new name before.

        Raises TemporaryFailure.
        """
        with self._login_db.turn() as database:
            for table in ("login", "known"):
                forget = f"DELETE FROM {table} WHERE account = ?"  # noqa: S608 (our own words)
                database.execute(forget, (new,))
                change = f"UPDATE {table} SET account = ? WHERE account = ?"  # noqa: S608
                database.execute(change, (new, account))

    def sweep(self, now: float) -> bool:
        """
        Remove some methods that were not used for REMEMBERED; return whether there may be more.

        Raises TemporaryFailure.
        """
        with self._login_db.turn() as database:
            gone = database.execute(
                "DELETE FROM login WHERE (account, device, service, mechanism, tls, network) IN"
                " (SELECT account, device, service, mechanism, tls, network FROM login"
                " WHERE last < ? LIMIT ?)",
                (now - REMEMBERED, SWEPT),
            ).rowcount
        return gone == SWEPT


class LoginRecorder:
    """
    Collects logins in memory and writes them to the history, many at a time.

    ``now`` returns the time of day.
    """

    log = Logger()

    def __init__(
        self,
        login_history: LoginHistory,
        executor: Executor,
        clock: IReactorTime,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._login_history = login_history
        self._executor = executor
        self._clock = clock
        self._now = now
        self._used: dict[LoginMethod, float] = {}
        self._turn = DeferredLock()
        self._timer: IDelayedCall | None = None
        self._sweeping = Periodic(clock, SWEEPING, self._sweep, self._log_failure)
        self._open = False
        self._complained = False

    def start(self) -> None:
        """Begin to write; the file is open."""
        self._open = True
        self._sweeping.start()
        self._write_later()

    async def stop(self) -> None:
        """Write the rest; no logins come after this."""
        self._open = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        await self._sweeping.stop()
        await self._write()

    def note(self, account: Account, session_info: SessionInfo) -> None:
        """Record a login that has just succeeded."""
        client = session_info.client
        login_method = LoginMethod(
            account.address,
            account.device,
            session_info.service,
            session_info.mechanism,
            session_info.tls.partition(" ")[0],
            "" if client.local else network_of(client.address),
        )
        if login_method in self._used or len(self._used) < WAITING:
            self._used[login_method] = self._now()
            self._write_later()

    def unwritten(self, account: str) -> list[tuple[LoginMethod, float]]:
        """Return the logins of an account that are not in the history yet, the latest first."""
        found = [(method, last) for method, last in self._used.items() if method.account == account]
        return sorted(found, key=lambda one: -one[1])

    def _write_later(self) -> None:
        if self._open and self._used and self._timer is None:
            self._timer = self._clock.callLater(BATCH, self._begin_writing)

    def _begin_writing(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._write()).addErrback(self._log_failure)

    async def _write(self) -> None:
        await self._turn.acquire()
        used, self._used = self._used, {}
        try:
            if used:
                await self._executor.run(self._login_history.write, used)
                self._complained = False
        except TemporaryFailure as failure:
            self._used = {**used, **self._used}
            if not self._complained:
                self._complained = True
                self.log.warn("writing logins failed; retrying: {why}", why=str(failure))
        finally:
            self._turn.release()
        self._write_later()

    async def _sweep(self) -> bool:
        await self._turn.acquire()
        try:
            return await self._executor.run(self._login_history.sweep, self._now())
        finally:
            self._turn.release()

    def _log_failure(self, why: Failure) -> None:
        self.log.failure("writing logins failed", failure=why)
