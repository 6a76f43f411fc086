"""
The database of the web page (``web.db``): administrators, their second factors, one-time links.

The daemon and the command share the file.  Plain functions; they block.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from postoffice.accounts.sealed_secrets import Seal
from postoffice.util.sqlite_file import SQLiteFile

#: The names of the file and of the key of the second factors, in the state folder.
WEB_DB, SEAL = "web.db", "web.key"
#: Seconds for which a one-time link can be used.
LINK = 3600.0
#: Links of one purpose that wait at most; the oldest goes.
LINKS = 1000

TABLES = """
CREATE TABLE IF NOT EXISTS administrator (
    account TEXT NOT NULL PRIMARY KEY,
    added REAL NOT NULL,
    totp TEXT NOT NULL DEFAULT '',
    step INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS link (
    digest TEXT NOT NULL PRIMARY KEY,
    purpose TEXT NOT NULL,
    account TEXT NOT NULL,
    value TEXT NOT NULL DEFAULT '',
    expires REAL NOT NULL
) WITHOUT ROWID;
"""
#: What a link is for: to log in, or to confirm the target of a forward (in its ``value``).
LOGIN, FORWARD = "login", "forward"


@dataclass(frozen=True)
class Administrator:
    """
    An account that may administer.

    ``totp`` is the secret of the second factor in base 32, "" until it is set up; ``step`` is the
    period of the last code that was used; ``added`` is in seconds since 1970.
    """

    account: str
    added: float
    totp: str = field(default="", repr=False)
    step: int = 0


@dataclass(frozen=True)
class Link:
    """What a one-time link is for: ``purpose``, whose it is, and a value."""

    purpose: str
    account: str
    value: str = ""


class WebDB:
    """
    The file, in the folder ``state``; ``now`` returns seconds since 1970.

    ``open`` raises StartupError, everything else TemporaryFailure.
    """

    def __init__(self, state: str, now: Callable[[], float]) -> None:
        self._file = SQLiteFile(
            os.path.join(state, WEB_DB),
            "the database of the web page",
            TABLES,
            "; it must belong to the user that the post office runs as",
        )
        self._seal = Seal(os.path.join(state, SEAL))
        self._now = now
        self.open = self._file.open
        self.close = self._file.close

    # -- administrators --------------------------------------------------------------------

    def administrators(self) -> list[Administrator]:
        """Return all administrators, sorted; without their secrets."""
        with self._file.turn() as database:
            rows = database.execute(
                "SELECT account, added, totp != '' FROM administrator ORDER BY account"
            ).fetchall()
        return [
            Administrator(account, added, "set" if totp else "") for account, added, totp in rows
        ]

    def administrator(self, account: str) -> Administrator | None:
        """Return an administrator, or None."""
        with self._file.turn() as database:
            row = database.execute(
                "SELECT account, added, totp, step FROM administrator WHERE account = ?", (account,)
            ).fetchone()
        if row is None:
            return None
        name, added, sealed, step = row
        return Administrator(name, added, self._seal.unseal(sealed) if sealed else "", step)

    def add_administrator(self, account: str) -> bool:
        """Let an account administer; False if it may already."""
        with self._file.turn(durable=True) as database:
            return bool(
                database.execute(
                    "INSERT OR IGNORE INTO administrator (account, added) VALUES (?, ?)",
                    (account, self._now()),
                ).rowcount
            )

    def remove_administrator(self, account: str) -> bool:
        """Let an account administer no more, and forget its second factor; False if it did not."""
        with self._file.turn(durable=True) as database:
            return bool(
                database.execute("DELETE FROM administrator WHERE account = ?", (account,)).rowcount
            )

    def rename(self, account: str, new: str = "") -> None:
        """
        Give what belongs to an account to another name, or forget it.

        What belonged to the new name before is forgotten.
        """
        with self._file.turn(durable=True) as database:
            for table in ("administrator", "link"):
                delete = f"DELETE FROM {table} WHERE account = ?"  # noqa: S608 (our own words)
                database.execute(delete, (new or account,))
                if new:
                    update = f"UPDATE {table} SET account = ? WHERE account = ?"  # noqa: S608
                    database.execute(update, (new, account))

    def set_totp(self, account: str, secret: str) -> bool:
        """Set the second factor of an administrator, or remove it (""); False if there is none."""
        sealed = self._seal.seal(secret) if secret else ""
        with self._file.turn(durable=True) as database:
            return bool(
                database.execute(
                    "UPDATE administrator SET totp = ?, step = 0 WHERE account = ?",
                    (sealed, account),
                ).rowcount
            )

    def use_code(self, account: str, step: int) -> bool:
        """Note that the code of a period was used; False if it or a later one was used before."""
        with self._file.turn(durable=True) as database:
            return bool(
                database.execute(
                    "UPDATE administrator SET step = ?1 WHERE account = ?2 AND step < ?1",
                    (step, account),
                ).rowcount
            )

    # -- links -----------------------------------------------------------------------------

    def make_link(self, purpose: str, account: str, value: str = "", lasts: float = LINK) -> str:
        """Make a one-time link; return its token, of which only the hash is kept."""
        token = secrets.token_urlsafe(32)
        with self._file.turn(durable=True) as database:
            database.execute("DELETE FROM link WHERE expires <= ?", (self._now(),))
            database.execute(
                "DELETE FROM link WHERE digest IN"
                " (SELECT digest FROM link WHERE purpose = ? ORDER BY expires DESC"
                " LIMIT -1 OFFSET ?)",
                (purpose, LINKS - 1),
            )
            database.execute(
                "INSERT INTO link VALUES (?, ?, ?, ?, ?)",
                (_digest(token), purpose, account, value, self._now() + lasts),
            )
        return token

    def look_at_link(self, purpose: str, token: str) -> Link | None:
        """Return what a link is for, without using it; None if it is unknown, used or expired."""
        with self._file.turn() as database:
            row = database.execute(
                "SELECT purpose, account, value FROM link"
                " WHERE digest = ? AND purpose = ? AND expires > ?",
                (_digest(token), purpose, self._now()),
            ).fetchone()
        return None if row is None else Link(*row)

    def use_link(self, purpose: str, token: str) -> Link | None:
        """Use a link: it works this once.  None if it is unknown, used or expired."""
        with self._file.turn(durable=True) as database:
            row = database.execute(
                "DELETE FROM link WHERE digest = ? AND purpose = ? AND expires > ?"
                " RETURNING purpose, account, value",
                (_digest(token), purpose, self._now()),
            ).fetchone()
        return None if row is None else Link(*row)

    def links_of(self, purpose: str, account: str) -> list[str]:
        """Return the values of an account's links that can still be used, sorted."""
        with self._file.turn() as database:
            rows = database.execute(
                "SELECT DISTINCT value FROM link"
                " WHERE purpose = ? AND account = ? AND expires > ? ORDER BY value",
                (purpose, account, self._now()),
            ).fetchall()
        return [value for (value,) in rows]

    def forget_links(self, account: str, purpose: str = "", value: str | None = None) -> int:
        """Forget links of an account: all, of a purpose, or with a value; return how many."""
        with self._file.turn(durable=True) as database:
            return database.execute(
                "DELETE FROM link WHERE account = ?1 AND (?2 = '' OR purpose = ?2)"
                " AND (?3 IS NULL OR value = ?3)",
                (account, purpose, value),
            ).rowcount


def link_to(page: str, token: str) -> str:
    """Return the one-time link with a token, on a page of this address."""
    return f"{page}/link?token={token}"


def _digest(token: str) -> str:
    return sha256(b"a link: " + token.encode("utf-8", "replace")).hexdigest()
