"""
What an account or a domain says for itself: its quota, and how its mail is served.

Blocking: each function runs in a transaction, on a worker's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Any

from postoffice.model.address import Quota
from postoffice.model.mail_policy import MailPolicy

#: The tables with settings, and the key column of each.
NAMES = {"account": "address", "domain": "name"}
#: The columns of a quota, and of a serving, in the order of their values.
QUOTA = ("quota_octets", "quota_messages", "quota_over")
SERVING = tuple(field.name for field in fields(MailPolicy))


def merged(columns: tuple[str, ...]) -> str:
    """Return SELECT columns: the account's value, or if it is NULL the domain's."""
    return ", ".join(f"ifnull(account.{column}, domain.{column})" for column in columns)


#: For a SELECT: both, and from where.
OF_ACCOUNT = f"{merged(QUOTA)}, {merged(SERVING)}"
FROM_ACCOUNTS = "FROM account LEFT JOIN domain ON domain.name = account.domain"


def both_of(row: Sequence[Any]) -> tuple[Quota, MailPolicy]:
    """Return the quota and the policy from the values of ``OF_ACCOUNT``."""
    return Quota(*row[: len(QUOTA)]), serving_of(row[len(QUOTA) :])


def all_of_accounts(database: sqlite3.Connection, _: str) -> frozenset[tuple[Quota, MailPolicy]]:
    """Return the settings of all accounts, each pair once."""
    ask = f"SELECT DISTINCT {OF_ACCOUNT} {FROM_ACCOUNTS}"
    return frozenset(map(both_of, database.execute(ask)))


def serving_of(row: Sequence[Any]) -> MailPolicy:
    """Return the policy from the values of its columns; SQLite has no booleans."""
    said = dict(zip(SERVING, row, strict=True))
    deletes = said["delete_on_collect"]
    return MailPolicy(**{**said, "delete_on_collect": None if deletes is None else bool(deletes)})


def set_quota(database: sqlite3.Connection, table: str, name: str, quota: Quota) -> bool:
    """Replace the quota; False if there is no such row."""
    return _set(database, table, name, QUOTA, astuple(quota))


def quota(database: sqlite3.Connection, table: str, name: str) -> Quota | None:
    """Return the quota; None if there is no such row."""
    row = _said(database, table, name, QUOTA)
    return None if row is None else Quota(*row)


def quotas(database: sqlite3.Connection, domain: str | None) -> dict[str, Quota]:
    """Return the quotas of accounts that have their own, of all or of one domain."""
    ask = (
        f"SELECT address, {', '.join(QUOTA)} FROM account"  # noqa: S608 (our own words)
        f" WHERE coalesce({', '.join(QUOTA)}) IS NOT NULL AND (domain = ?1 OR ?1 IS NULL)"
    )
    return {address: Quota(*said) for address, *said in database.execute(ask, (domain,))}


def set_serving(database: sqlite3.Connection, table: str, name: str, serving: MailPolicy) -> bool:
    """As ``set_quota``."""
    return _set(database, table, name, SERVING, astuple(serving))


def serving(database: sqlite3.Connection, table: str, name: str) -> MailPolicy | None:
    """As ``quota``."""
    row = _said(database, table, name, SERVING)
    return None if row is None else serving_of(row)


def _set(
    database: sqlite3.Connection,
    table: str,
    name: str,
    columns: tuple[str, ...],
    values: tuple[Any, ...],
) -> bool:
    changes = ", ".join(f"{column} = ?" for column in columns)
    change = f"UPDATE {table} SET {changes} WHERE {NAMES[table]} = ?"  # noqa: S608 (our own words)
    return database.execute(change, (*values, name)).rowcount > 0


def _said(
    database: sqlite3.Connection, table: str, name: str, columns: tuple[str, ...]
) -> tuple[Any, ...] | None:
    ask = f"SELECT {', '.join(columns)} FROM {table} WHERE {NAMES[table]} = ?"  # noqa: S608 (our own words)
    row: tuple[Any, ...] | None = database.execute(ask, (name,)).fetchone()
    return row
