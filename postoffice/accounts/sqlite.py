"""Accounts in a SQLite database: what the ``postoffice`` command edits while the daemon reads."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

from zope.interface import implementer

from postoffice.address import Account
from postoffice.errors import NotEmpty, StartupError, TemporaryFailure
from postoffice.interfaces import IAccountRegister, Workers

T = TypeVar("T")

SCHEMA = 1
_TABLES = """
    CREATE TABLE domain (name TEXT PRIMARY KEY) WITHOUT ROWID, STRICT;
    CREATE TABLE account (
        name TEXT PRIMARY KEY,
        domain TEXT NOT NULL REFERENCES domain (name),
        secret TEXT
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX account_domain ON account (domain);
"""
#: Seconds to wait for another process that writes.
PATIENCE = 10.0
#: The files' times must be this old to tell changes apart, in nanoseconds.
SETTLED = 20_000_000
#: Answers that are remembered.
REMEMBERED = 50_000


@implementer(IAccountRegister)
class SQLiteDirectory:
    """
    A database of domains and accounts.

    Its answers are remembered as long as neither its file nor its log has
    changed, which costs two looks at the file system: a change by another
    process is seen at once, and what did not change is not read again.
    """

    def __init__(self, path: str, workers: Workers) -> None:
        self._path = path
        self._workers = workers
        self._stamp: tuple[int, ...] | None = None
        self._accounts: dict[str, Account | None] = {}
        self._serves: dict[str, bool] = {}

    async def start(self) -> None:
        await self._workers.run(_prepare, self._path)

    async def stop(self) -> None:
        self._forget()

    async def find(self, name: str) -> Account | None:
        return await self._remembered(self._accounts, name, _find)

    async def serves(self, domain: str) -> bool:
        return await self._remembered(self._serves, domain, _serves)

    async def domains(self) -> list[str]:
        return await self._read(_domains)

    async def accounts(self, domain: str | None = None) -> list[Account]:
        return await self._read(_accounts, domain)

    async def add_domain(self, domain: str) -> bool:
        return await self._write(_add_domain, domain)

    async def remove_domain(self, domain: str) -> bool:
        return await self._write(_remove_domain, domain)

    async def add(self, name: str, secret: str | None) -> bool:
        return await self._write(_add, name, secret)

    async def set_secret(self, name: str, secret: str | None) -> bool:
        return await self._write(_set_secret, name, secret)

    async def remove(self, name: str) -> bool:
        return await self._write(_remove, name)

    # -- remembering -------------------------------------------------------------

    async def _remembered(self, answers: dict[str, T], name: str, ask: Callable[..., T]) -> T:
        stamp = _look(self._path)
        if stamp is None or stamp != self._stamp:
            self._forget()
            self._stamp = stamp
        elif name in answers:
            return answers[name]
        answer = await self._read(ask, name)
        if stamp is not None and stamp == self._stamp:
            if len(answers) >= REMEMBERED:
                answers.clear()
            answers[name] = answer
        return answer

    def _forget(self) -> None:
        self._stamp = None
        self._accounts.clear()
        self._serves.clear()

    async def _read(self, ask: Callable[..., T], *args: Any) -> T:
        return await self._workers.run(_within, self._path, False, ask, *args)

    async def _write(self, change: Callable[..., T], *args: Any) -> T:
        try:
            return await self._workers.run(_within, self._path, True, change, *args)
        finally:
            self._forget()


# -- on a worker's thread ---------------------------------------------------------------


def _look(path: str) -> tuple[int, ...] | None:
    """How the database's files look; None when they changed just now, or are not there."""
    facts: list[int] = []
    for name in (path, path + "-wal"):
        try:
            status = os.stat(name)
        except FileNotFoundError:
            facts.append(0)
            continue
        except OSError:
            return None
        if time.time_ns() - status.st_mtime_ns < SETTLED:
            return None
        facts += (status.st_ino, status.st_size, status.st_mtime_ns)
    return tuple(facts)


def _connect(path: str) -> sqlite3.Connection:
    # "rw": a database that has gone is an error, not an empty new one.
    uri = f"file:{path.replace('%', '%25').replace('?', '%3f').replace('#', '%23')}?mode=rw"
    database = sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    return database


def _within(path: str, write: bool, ask: Callable[..., T], *args: Any) -> T:
    """Ask or change the database in one transaction.  Raises TemporaryFailure."""
    try:
        with closing(_connect(path)) as database:
            database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            answer = ask(database, *args)
            database.execute("COMMIT")
            return answer
    except sqlite3.Error as error:
        raise TemporaryFailure(f"the accounts in {path}: {error}") from error


def _find(database: sqlite3.Connection, name: str) -> Account | None:
    row = database.execute("SELECT name, secret FROM account WHERE name = ?", (name,)).fetchone()
    return None if row is None else Account(row[0], row[0], row[1])


def _serves(database: sqlite3.Connection, domain: str) -> bool:
    rows = database.execute("SELECT 1 FROM domain WHERE name = ?", (domain,))
    return rows.fetchone() is not None


def _domains(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM domain ORDER BY name")]


def _accounts(database: sqlite3.Connection, domain: str | None) -> list[Account]:
    rows = database.execute(
        "SELECT name, secret FROM account WHERE domain = coalesce(?, domain) ORDER BY name",
        (domain,),
    )
    return [Account(name, name, secret) for name, secret in rows]


def _add_domain(database: sqlite3.Connection, domain: str) -> bool:
    return database.execute("INSERT OR IGNORE INTO domain VALUES (?)", (domain,)).rowcount > 0


def _remove_domain(database: sqlite3.Connection, domain: str) -> bool:
    count = database.execute("SELECT count(*) FROM account WHERE domain = ?", (domain,))
    (accounts,) = count.fetchone()
    if accounts:
        raise NotEmpty(f"{domain} has {accounts} account{'s' * (accounts > 1)}")
    return database.execute("DELETE FROM domain WHERE name = ?", (domain,)).rowcount > 0


def _add(database: sqlite3.Connection, name: str, secret: str | None) -> bool:
    domain = name.rpartition("@")[2]
    if not _serves(database, domain):
        raise LookupError(domain)
    row = (name, domain, secret)
    return database.execute("INSERT OR IGNORE INTO account VALUES (?, ?, ?)", row).rowcount > 0


def _set_secret(database: sqlite3.Connection, name: str, secret: str | None) -> bool:
    changed = database.execute("UPDATE account SET secret = ? WHERE name = ?", (secret, name))
    return changed.rowcount > 0


def _remove(database: sqlite3.Connection, name: str) -> bool:
    return database.execute("DELETE FROM account WHERE name = ?", (name,)).rowcount > 0


def _prepare(path: str) -> None:
    """Make the database where there is none; see that it is ours.  Raises StartupError."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with closing(_connect(path)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("BEGIN IMMEDIATE")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in filter(str.strip, _TABLES.split(";")):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {SCHEMA}")
            database.execute("COMMIT")
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except (OSError, sqlite3.Error) as error:
        raise StartupError(_broken(path, error)) from error
    if version > SCHEMA:
        raise StartupError(f"the accounts in {path} were made by a newer postoffice")
    if found != "ok":
        raise StartupError(_broken(path, found))


def _broken(path: str, why: object) -> str:
    return (
        f"the accounts in {path} cannot be used: {why}; "
        "if the file is damaged, put a backup in its place, or try `sqlite3 FILE .recover`"
    )
