"""The queries of an import: about many accounts and aliases at once.  They block."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple

from postoffice.accounts import account_queries, address_queries
from postoffice.accounts.sql_connection import Connection, Row
from postoffice.model.address import Account, Quota
from postoffice.model.alias import Alias, Found
from postoffice.model.app_password import AppPassword
from postoffice.model.mail_policy import MailPolicy

#: An account to add, and its devices.
NewAccount = tuple[Account, Sequence[AppPassword]]

_COLUMNS = (
    *("address", "domain", "maildrop", "secret", "scram", "shared"),
    *account_queries.QUOTA_COLUMNS,
    *account_queries.POLICY_COLUMNS,
    *("state", "state_by", "state_at", "state_why", "keep_copy"),
)


def look_ups(database: Connection, names: Collection[str]) -> dict[str, Found]:
    """Return for each name what ``account_queries.look_up`` returns."""
    storable = {name for name in names if account_queries.storable(name)}
    domains = address_queries.domains(database, {name.rpartition("@")[2] for name in storable})
    entries: dict[str, Account | Alias] = {**address_queries.aliases_of(database, storable)}
    entries |= {one.address: one for one in account_queries.accounts_of(database, storable)}
    return {
        name: Found(domains.get(name.rpartition("@")[2]), entries.get(name))
        if name in storable
        else Found(None)
        for name in names
    }


def maildrops(database: Connection, names: Iterable[str]) -> frozenset[str]:
    """Return those of these names that accounts use for their maildrops."""
    ask = "SELECT maildrop FROM account WHERE maildrop"
    return frozenset(row[0] for row in address_queries.rows_for(database, ask, names))


def pointed_to(database: Connection, names: Iterable[str]) -> frozenset[str]:
    """Return those of these addresses that are targets."""
    ask = "SELECT normal FROM target WHERE normal"
    return frozenset(row[0] for row in address_queries.rows_for(database, ask, names))


def own_settings(database: Connection, names: Iterable[str]) -> dict[str, tuple[Quota, MailPolicy]]:
    """Return for each of these accounts what it sets itself."""
    columns = ", ".join((*account_queries.QUOTA_COLUMNS, *account_queries.POLICY_COLUMNS))
    ask = f"SELECT address, {columns} FROM account WHERE address"  # noqa: S608 (our own words)
    rows = address_queries.rows_for(database, ask, names)
    return {row[0]: account_queries.settings_of(row[1:]) for row in rows}


def app_passwords(database: Connection, names: Iterable[str]) -> dict[str, tuple[AppPassword, ...]]:
    """Return the devices of each of these accounts that has any, sorted by name."""
    found: dict[str, list[AppPassword]] = {}
    for row in address_queries.rows_for(database, "SELECT * FROM device WHERE account", names):
        found.setdefault(row[0], []).append(account_queries.device_of(row))
    return {name: tuple(sorted(ones, key=lambda one: one.name)) for name, ones in found.items()}


def add_accounts(database: Connection, new: Sequence[NewAccount]) -> None:
    """Add accounts with all that they have; their names and maildrops must be free."""
    marks = ", ".join("?" for _ in _COLUMNS)
    change = f"INSERT INTO account ({', '.join(_COLUMNS)}) VALUES ({marks})"  # noqa: S608 (ours)
    database.executemany(change, [_row(account) for account, _ in new])
    forwards = [(account.address, account.forward) for account, _ in new]
    address_queries.add_targets(database, forwards)
    rows = [
        account_queries.device_row(account.address, one)
        for account, devices in new
        for one in devices
    ]
    if rows:
        database.executemany(account_queries.ADD_DEVICE, rows)


def _row(account: Account) -> Row:
    note = account.state_note
    return (
        account.address,
        account.address.rpartition("@")[2],
        *(account.maildrop, account.secret, account.scram, account.shared),
        *astuple(account.quota),
        *astuple(account.mail_policy),
        *(account.state, note.by, note.when, note.why, account.keep_copy),
    )


def put_aliases(database: Connection, aliases: Sequence[Alias]) -> None:
    """Add or replace aliases; each has a name of its own, which no account has."""
    change = (
        f"{address_queries.ADD_ALIAS} ON CONFLICT (address) DO UPDATE"
        " SET kind = excluded.kind, words = excluded.words, send = excluded.send"
    )
    database.executemany(change, [address_queries.alias_row(one) for one in aliases])
    gone = "DELETE FROM target WHERE name = ?"
    database.executemany(gone, [(one.address,) for one in aliases])
    address_queries.add_targets(database, [(one.address, one.targets) for one in aliases])
