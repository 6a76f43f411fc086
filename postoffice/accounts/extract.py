"""Of a copy of the accounts' database only some accounts.  Plain functions; they block."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from postoffice.accounts.sealed_secrets import Seal
from postoffice.model.errors import TemporaryFailure


def keep_only(
    database: sqlite3.Connection,
    addresses: Collection[str],
    domains: Collection[str],
    old: Seal,
    new: Seal,
) -> list[str]:
    """
    Remove all but these accounts and domains; seal their shared secrets with the ``new`` key.

    The addresses of those whose shared secret could not be read: they have none.
    """
    database.execute("CREATE TEMP TABLE kept (name TEXT PRIMARY KEY)")
    database.executemany("INSERT OR IGNORE INTO kept VALUES (?)", [(one,) for one in addresses])
    database.execute("DELETE FROM device WHERE account NOT IN (SELECT name FROM kept)")
    database.execute("DELETE FROM account WHERE address NOT IN (SELECT name FROM kept)")
    database.executemany("INSERT OR IGNORE INTO kept VALUES (?)", [(one,) for one in domains])
    database.execute("DELETE FROM domain WHERE name NOT IN (SELECT name FROM kept)")
    lost = []
    sealed = "SELECT address, shared FROM account WHERE shared IS NOT NULL"
    for address, shared in database.execute(sealed).fetchall():
        try:
            anew = new.seal(old.unseal(shared))
        except TemporaryFailure:
            anew = None
            lost.append(address)
        database.execute("UPDATE account SET shared = ? WHERE address = ?", (anew, address))
    return lost
