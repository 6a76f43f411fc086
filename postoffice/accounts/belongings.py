"""
The devices of accounts in the database: asked about, added and taken away.

Blocking: each function runs in a transaction, on a worker's thread.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from postoffice.device import Device


def devices(database: sqlite3.Connection, account: str) -> tuple[Device, ...]:
    """Those of one account, by their names."""
    rows = database.execute(
        "SELECT networks, name, id, secret, scram, added, expires, protocol FROM device"
        " WHERE account = ? ORDER BY name",
        (account,),
    )
    return tuple(_device(*row) for row in rows)


def _device(networks: str, *rest: Any) -> Device:
    return Device(*rest, tuple(networks.split()))


def add(database: sqlite3.Connection, account: str, device: Device) -> bool:
    """False if there is one of that name.  Raises LookupError if there is no such account."""
    if not database.execute("SELECT 1 FROM account WHERE address = ?", (account,)).fetchone():
        raise LookupError(f"there is no account {account}")
    row = (
        account,
        device.name,
        device.id,
        device.secret,
        device.scram,
        device.added,
        device.expires,
        device.protocol,
        " ".join(device.networks),
    )
    change = "INSERT OR IGNORE INTO device VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    return database.execute(change, row).rowcount > 0


def remove(database: sqlite3.Connection, account: str, name: str) -> bool:
    """False if there is none of that name."""
    change = "DELETE FROM device WHERE account = ? AND name = ?"
    return database.execute(change, (account, name)).rowcount > 0
