"""
What belongs to accounts in the database: their devices, and the names of their maildrops.

Blocking: each function runs in a transaction, on a worker's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import astuple, fields
from itertools import count
from typing import Any

from postoffice.model.app_password import AppPassword

#: The columns of a device behind its account's name, in the order of its fields.
COLUMNS = tuple(field.name for field in fields(AppPassword))


def devices(database: sqlite3.Connection, account: str) -> tuple[AppPassword, ...]:
    """Those of one account, by their names."""
    rows = database.execute("SELECT * FROM device WHERE account = ? ORDER BY name", (account,))
    return tuple(_device(dict(zip(COLUMNS, row[1:], strict=True))) for row in rows)


def _device(said: dict[str, Any]) -> AppPassword:
    return AppPassword(**{**said, "networks": tuple(said["networks"].split())})


def add(database: sqlite3.Connection, account: str, device: AppPassword) -> bool:
    """False if there is one of that name.  Raises LookupError if there is no such account."""
    if not database.execute("SELECT 1 FROM account WHERE address = ?", (account,)).fetchone():
        raise LookupError(f"there is no account {account}")
    *row, networks = astuple(device)
    change = "INSERT OR IGNORE INTO device VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    row = [account, *row, " ".join(networks)]
    return database.execute(change, row).rowcount > 0


def remove(database: sqlite3.Connection, account: str, name: str) -> bool:
    """False if there is none of that name."""
    change = "DELETE FROM device WHERE account = ? AND name = ?"
    return database.execute(change, (account, name)).rowcount > 0


def maildrops(name: str) -> Iterator[str]:
    """Names of maildrops for an account of this name, the best first; so many that one is free."""
    local, _, domain = name.rpartition("@")
    yield name
    for number in count(2):
        yield f"{local}-{number}@{domain}"


def maildrop_for(database: sqlite3.Connection, name: str) -> str:
    """The first of them that no account has."""
    taken = "SELECT 1 FROM account WHERE maildrop = ?"
    return next(one for one in maildrops(name) if not database.execute(taken, (one,)).fetchone())


def rename(database: sqlite3.Connection, name: str, new: str) -> bool:
    """Account and devices get the new name, the maildrop keeps its own; False if there is none."""
    database.execute("PRAGMA defer_foreign_keys = ON")  # until COMMIT
    change = "UPDATE account SET address = ?, domain = ? WHERE address = ?"
    found = database.execute(change, (new, new.rpartition("@")[2], name)).rowcount > 0
    database.execute("UPDATE device SET account = ? WHERE account = ?", (new, name))
    return found
