"""How accounts and their devices have logged in, and when last.  Plain functions; they block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass

from postoffice.accounts.attempts import DAY
from postoffice.accounts.login_db import LoginDB

#: Seconds that a way in is remembered that was used no more.
REMEMBERED = 400 * DAY
#: Rows that go at once.
SWEPT = 1000


@dataclass(frozen=True)
class LoginMethod:
    """
    One way in: who, to what, by which mechanism, with which TLS, from where.

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
    """The ways in that were used, each with when that was last: seconds since 1970."""

    def __init__(self, login_db: LoginDB) -> None:
        self._login_db = login_db

    def write(self, used: Mapping[LoginMethod, float]) -> None:
        """These were used.  Raises TemporaryFailure."""
        with self._login_db.turn() as database:
            database.executemany(
                "INSERT INTO login VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
                [(*astuple(login_method), last) for login_method, last in used.items()],
            )

    def used(self, since: float, account: str | None = None) -> list[tuple[LoginMethod, float]]:
        """Those that were used since, of one account or of all, the latest first.  As above."""
        with self._login_db.turn() as database:
            rows = database.execute(
                "SELECT * FROM login WHERE last >= ?1 AND (account = ?2 OR ?2 IS NULL)"
                " ORDER BY last DESC, account, device",
                (since, account),
            ).fetchall()
        return [(LoginMethod(*row[:6]), row[6]) for row in rows]

    def latest(self) -> dict[str, tuple[LoginMethod, float]]:
        """The last way in of each account, by its own password or a device's.  As above."""
        with self._login_db.turn() as database:
            # SQLite takes the other columns from the row that has the maximum.
            rows = database.execute(
                "SELECT account, device, service, mechanism, tls, network, max(last)"
                " FROM login GROUP BY account"
            ).fetchall()
        return {row[0]: (LoginMethod(*row[:6]), row[6]) for row in rows}

    def forget(self, account: str, device: str | None = None) -> None:
        """An account is gone, with all that is known of it; or a device of it.  As above."""
        with self._login_db.turn() as database:
            database.execute(
                "DELETE FROM login WHERE account = ?1 AND (device = ?2 OR ?2 IS NULL)",
                (account, device),
            )
            if device is None:
                database.execute("DELETE FROM known WHERE account = ?", (account,))

    def rename(self, account: str, new: str) -> None:
        """An account has another name now; what was known of that name is forgotten.  As above."""
        with self._login_db.turn() as database:
            for table in ("login", "known"):
                forget = f"DELETE FROM {table} WHERE account = ?"  # noqa: S608 (our own words)
                database.execute(forget, (new,))
                change = f"UPDATE {table} SET account = ? WHERE account = ?"  # noqa: S608
                database.execute(change, (new, account))

    def sweep(self, now: float) -> bool:
        """Forget some that were not used for long; whether there may be more.  As above."""
        with self._login_db.turn() as database:
            gone = database.execute(
                "DELETE FROM login WHERE (account, device, service, mechanism, tls, network) IN"
                " (SELECT account, device, service, mechanism, tls, network FROM login"
                " WHERE last < ? LIMIT ?)",
                (now - REMEMBERED, SWEPT),
            ).rowcount
        return gone == SWEPT
