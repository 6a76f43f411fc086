"""
The queries to the accounts' database, for SQLite and PostgreSQL.

They block; each runs in one transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import astuple, fields, replace
from itertools import count

from postoffice.accounts import address_queries
from postoffice.accounts.address_resolution import catch_all_name
from postoffice.accounts.sealed_secrets import Seal
from postoffice.accounts.sql_connection import Connection, Row
from postoffice.model.address import NO_NOTE, Account, Address, Quota, StateNote
from postoffice.model.alias import Found
from postoffice.model.app_password import AppPassword
from postoffice.model.errors import NotEmpty, TemporaryFailure
from postoffice.model.mail_policy import MailPolicy

# -- accounts and domains --------------------------------------------------------------

#: The tables with settings, and the key column of each.
KEY_COLUMNS = {"account": "address", "domain": "name"}
#: The columns of a quota and of a mail policy, in the order of their values.
QUOTA_COLUMNS = ("quota_octets", "quota_messages", "quota_over")
POLICY_COLUMNS = tuple(field.name for field in fields(MailPolicy))
#: For a SELECT: the settings of an account; where it has none, those of its domain.
SETTINGS = ", ".join(
    f"coalesce(account.{one}, domain.{one})" for one in (*QUOTA_COLUMNS, *POLICY_COLUMNS)
)
FROM_ACCOUNTS = "FROM account LEFT JOIN domain ON domain.name = account.domain"
_OWN = "address, maildrop, secret, scram, shared, state, state_by, state_at, state_why, keep_copy"
_OWN_COUNT = len(_OWN.split(","))
_FORWARDS = "EXISTS (SELECT 1 FROM target WHERE target.name = account.address)"
_ACCOUNT = f"SELECT {_OWN}, {_FORWARDS}, {SETTINGS} {FROM_ACCOUNTS}"


def find(database: Connection, name: str) -> Account | None:
    """Return an account; its shared secret is still sealed."""
    if not storable(name):
        return None
    row = database.execute(f"{_ACCOUNT} WHERE address = ?", (name,)).fetchone()
    return None if row is None else _with_forwards(database, [row])[0]


def look_up(database: Connection, name: str) -> Found:
    """Return a domain and what has exactly this name; see ``IAddresses.look_up``."""
    if not storable(name):
        return Found(None)
    domain = address_queries.domain(database, name.rpartition("@")[2])
    return Found(domain, find(database, name) or address_queries.alias(database, name))


def accounts(database: Connection, domain: str | None, after: str, most: int) -> list[Account]:
    """Return accounts with names after ``after``; their shared secrets are still sealed."""
    which, values = _in_domain(domain)
    ask = f"{_ACCOUNT} WHERE {which} AND address > ? ORDER BY address LIMIT ?"
    return _with_forwards(database, database.execute(ask, (*values, after, most)).fetchall())


def accounts_like(database: Connection, after: str, most: int, match: str) -> list[Account]:
    """Return accounts as ``accounts`` does: those with ``match`` in their addresses."""
    if not match or not storable(match):
        return accounts(database, None, after, most) if not match else []
    which = "address > ? AND address LIKE ? ESCAPE '\\'"
    ask = f"{_ACCOUNT} WHERE {which} ORDER BY address LIMIT ?"
    rows = database.execute(ask, (after, address_queries.pattern_of(match), most)).fetchall()
    return _with_forwards(database, rows)


def accounts_of(database: Connection, names: Iterable[str]) -> list[Account]:
    """Return those of these names that are accounts; their shared secrets are still sealed."""
    ask = f"{_ACCOUNT} WHERE address"
    return _with_forwards(database, list(address_queries.rows_for(database, ask, names)))


def _in_domain(domain: str | None) -> tuple[str, tuple[str, ...]]:
    """Return a condition and its value; one condition with OR would read all accounts."""
    return ("true", ()) if domain is None else ("account.domain = ?", (domain,))


def _with_forwards(database: Connection, rows: list[Row]) -> list[Account]:
    forwarding = [row[0] for row in rows if row[_OWN_COUNT]]
    targets = address_queries.targets_of(database, forwarding)
    return [_account(row, targets.get(row[0], ())) for row in rows]


def _account(row: Row, forward: tuple[Address, ...]) -> Account:
    address, maildrop, secret, scram, shared, state, by, when, why, keep_copy = row[:_OWN_COUNT]
    return Account(
        address,
        maildrop,
        secret,
        scram,
        shared,
        *settings_of(row[_OWN_COUNT + 1 :]),
        state=state,
        state_note=StateNote(by, when, why) if by or when or why else NO_NOTE,
        forward=forward,
        keep_copy=bool(keep_copy),
    )


def storable(name: str) -> bool:
    """
    Whether a database can hold this name.

    A name may have surrogates for octets that are not UTF-8, and PostgreSQL has no NUL.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def add(
    database: Connection, name: str, secret: str | None, scram: str | None, maildrop: str | None
) -> bool:
    domain = _domain_of(database, name)
    if _taken(database, name):
        return False
    maildrop = maildrop or maildrop_for(database, name)
    row = (name, domain, maildrop, secret, scram)
    change = "INSERT INTO account (address, domain, maildrop, secret, scram) VALUES (?, ?, ?, ?, ?)"
    database.execute(change, row)
    return True


def remove(database: Connection, name: str) -> bool:
    found = database.execute("DELETE FROM account WHERE address = ?", (name,)).rowcount > 0
    if found:
        address_queries.set_targets(database, name, ())
    return found


def rename(database: Connection, name: str, new: str) -> bool:
    """Rename an account and its devices; the maildrop keeps its name."""
    domain = _domain_of(database, new)
    if _taken(database, new):
        return False
    database.execute("PRAGMA defer_foreign_keys = ON")  # until COMMIT
    change = "UPDATE account SET address = ?, domain = ? WHERE address = ?"
    found = database.execute(change, (new, domain, name)).rowcount > 0
    database.execute("UPDATE device SET account = ? WHERE account = ?", (new, name))
    if found:
        address_queries.rename_targets(database, name, new)
    return found


def _taken(database: Connection, name: str) -> bool:
    ask = "SELECT 1 FROM account WHERE address = ?1 UNION SELECT 1 FROM alias WHERE address = ?1"
    return database.execute(ask, (name,)).fetchone() is not None


def serves(database: Connection, domain: str) -> bool:
    if not storable(domain):
        return False
    return database.execute("SELECT 1 FROM domain WHERE name = ?", (domain,)).fetchone() is not None


def _domain_of(database: Connection, name: str) -> str:
    """Return the domain of a new account.  Raises LookupError if it is not local."""
    domain = name.rpartition("@")[2]
    if not serves(database, domain):
        raise LookupError(f"{domain} is not a domain of ours")
    return domain


def domains(database: Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM domain ORDER BY name")]


def add_domain(database: Connection, domain: str) -> bool:
    change = "INSERT INTO domain (name) VALUES (?) ON CONFLICT DO NOTHING"
    return database.execute(change, (domain,)).rowcount > 0


def remove_domain(database: Connection, domain: str) -> bool:
    if not serves(database, domain):
        return False
    check_empty(domain, **address_queries.counts(database, domain))
    address_queries.set_targets(database, catch_all_name(domain), ())
    return database.execute("DELETE FROM domain WHERE name = ?", (domain,)).rowcount > 0


def check_empty(domain: str, **counts: int) -> None:
    """Raise NotEmpty if a domain that is to be removed still has any of these."""
    remaining = ", ".join(f"{what}: {many}" for what, many in counts.items() if many)
    if remaining:
        raise NotEmpty(f"{domain} still has {remaining}")


# -- secrets and states ------------------------------------------------------------------


def set_secret(database: Connection, name: str, secret: str | None, scram: str | None) -> bool:
    change = "UPDATE account SET secret = ?, scram = ? WHERE address = ?"
    return database.execute(change, (secret, scram, name)).rowcount > 0


def keep_scram(database: Connection, name: str, secret: str, scram: str, new: str | None) -> bool:
    change = "UPDATE account SET scram = ?, secret = ? WHERE address = ? AND secret = ?"
    return database.execute(change, (scram, new or secret, name, secret)).rowcount > 0


def set_shared(database: Connection, name: str, sealed: str | None) -> bool:
    change = "UPDATE account SET shared = ? WHERE address = ?"
    return database.execute(change, (sealed, name)).rowcount > 0


def set_state(database: Connection, name: str, state: str, note: StateNote) -> bool:
    change = (
        "UPDATE account SET state = ?, state_by = ?, state_at = ?, state_why = ? WHERE address = ?"
    )
    row = (state, note.by, note.when, note.why, name)
    return database.execute(change, row).rowcount > 0


# -- quotas and mail policies --------------------------------------------------------------


def settings_of(row: Row) -> tuple[Quota, MailPolicy]:
    """Return the values of the columns SETTINGS."""
    return Quota(*row[: len(QUOTA_COLUMNS)]), _policy_of(row[len(QUOTA_COLUMNS) :])


def _policy_of(row: Row) -> MailPolicy:
    found = MailPolicy(*row)
    deletes = found.delete_on_collect  # the tables have no booleans
    return found if deletes is None else replace(found, delete_on_collect=bool(deletes))


def all_settings(database: Connection, _: str) -> frozenset[tuple[Quota, MailPolicy]]:
    """Return the settings of all accounts, each pair once."""
    return frozenset(
        map(settings_of, database.execute(f"SELECT DISTINCT {SETTINGS} {FROM_ACCOUNTS}"))
    )


def set_quota(database: Connection, table: str, name: str, quota: Quota) -> bool:
    """Replace the quota of an account or a domain; False if it does not exist."""
    return _set(database, table, name, QUOTA_COLUMNS, astuple(quota))


def quota(database: Connection, table: str, name: str) -> Quota | None:
    """Return the quota of an account or a domain; None if it does not exist."""
    row = _get(database, table, name, QUOTA_COLUMNS)
    return None if row is None else Quota(*row)


def set_mail_policy(database: Connection, table: str, name: str, mail_policy: MailPolicy) -> bool:
    """Replace the mail policy of an account or a domain; False if it does not exist."""
    return _set(database, table, name, POLICY_COLUMNS, astuple(mail_policy))


def mail_policy(database: Connection, table: str, name: str) -> MailPolicy | None:
    """Return the mail policy of an account or a domain; None if it does not exist."""
    row = _get(database, table, name, POLICY_COLUMNS)
    return None if row is None else _policy_of(row)


def _set(
    database: Connection,
    table: str,
    name: str,
    columns: tuple[str, ...],
    values: tuple[object, ...],
) -> bool:
    changes = ", ".join(f"{column} = ?" for column in columns)
    change = f"UPDATE {table} SET {changes} WHERE {KEY_COLUMNS[table]} = ?"  # noqa: S608 (our own words)
    return database.execute(change, (*values, name)).rowcount > 0


def _get(database: Connection, table: str, name: str, columns: tuple[str, ...]) -> Row | None:
    ask = f"SELECT {', '.join(columns)} FROM {table} WHERE {KEY_COLUMNS[table]} = ?"  # noqa: S608 (our own words)
    return database.execute(ask, (name,)).fetchone()


# -- devices and maildrops -------------------------------------------------------------------

ADD_DEVICE = "INSERT INTO device VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"


def devices(database: Connection, account: str) -> tuple[AppPassword, ...]:
    """Return the devices of an account, sorted by name."""
    rows = database.execute("SELECT * FROM device WHERE account = ? ORDER BY name", (account,))
    return tuple(map(device_of, rows))


def device_of(row: Row) -> AppPassword:
    return replace(AppPassword(*row[1:]), networks=tuple(row[-1].split()))


def add_app_password(database: Connection, account: str, device: AppPassword) -> bool:
    if not database.execute("SELECT 1 FROM account WHERE address = ?", (account,)).fetchone():
        raise LookupError(f"there is no account {account}")
    return database.execute(ADD_DEVICE, device_row(account, device)).rowcount > 0


def device_row(account: str, device: AppPassword) -> list[object]:
    """Return the values for ADD_DEVICE."""
    *row, networks = astuple(device)
    return [account, *row, " ".join(networks)]


def remove_app_password(database: Connection, account: str, name: str) -> bool:
    change = "DELETE FROM device WHERE account = ? AND name = ?"
    return database.execute(change, (account, name)).rowcount > 0


def maildrop_names(name: str) -> Iterator[str]:
    """Yield names for the maildrop of an account of this name, the best first, without end."""
    local, _, domain = name.rpartition("@")
    yield name
    for number in count(2):
        yield f"{local}-{number}@{domain}"


def maildrop_for(database: Connection, name: str) -> str:
    """Return the first of ``maildrop_names`` that no account uses for its maildrop."""
    used = "SELECT 1 FROM account WHERE maildrop = ?"
    names = maildrop_names(name)
    return next(one for one in names if not database.execute(used, (one,)).fetchone())


# -- a part of the database ------------------------------------------------------------------


def keep_only(
    database: Connection, addresses: Collection[str], domains: Collection[str], old: Seal, new: Seal
) -> list[str]:
    """
    Remove all but these accounts and domains, and seal the shared secrets with the ``new`` key.

    Returns the addresses whose shared secret could not be unsealed; it is removed.
    """
    database.execute("CREATE TEMP TABLE kept (name TEXT PRIMARY KEY)")
    database.executemany("INSERT OR IGNORE INTO kept VALUES (?)", [(one,) for one in addresses])
    database.execute("DELETE FROM device WHERE account NOT IN (SELECT name FROM kept)")
    database.execute("DELETE FROM account WHERE address NOT IN (SELECT name FROM kept)")
    database.executemany("INSERT OR IGNORE INTO kept VALUES (?)", [(one,) for one in domains])
    database.execute("DELETE FROM alias WHERE domain NOT IN (SELECT name FROM kept)")
    database.execute("DELETE FROM domain WHERE name NOT IN (SELECT name FROM kept)")
    address_queries.drop_strays(database)
    lost = []
    sealed = "SELECT address, shared FROM account WHERE shared IS NOT NULL"
    for address, shared in database.execute(sealed).fetchall():
        try:
            anew = new.seal(old.unseal(shared))
        except TemporaryFailure:
            anew = None
            lost.append(address)
        set_shared(database, address, anew)
    return lost
