"""Accounts in a PostgreSQL database with our own tables, which the ``postoffice`` command edits."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar, TypeVarTuple

from twisted.internet.interfaces import IReactorTime

from postoffice.accounts import schema
from postoffice.accounts.circuit_breaker import Breaker, StaleAnswers, Unavailable
from postoffice.accounts.postgresql_connections import (
    PostgreSQLConnection,
    PostgreSQLConnections,
    SharedSQL,
)
from postoffice.accounts.sealed_secrets import Seal
from postoffice.accounts.sql_connection import Connection
from postoffice.accounts.sql_directory import SQLDirectory
from postoffice.interfaces import Executor
from postoffice.model.address import Account, Quota
from postoffice.model.alias import Found
from postoffice.model.errors import StartupError, TemporaryFailure
from postoffice.model.mail_policy import MailPolicy
from postoffice.util.cache import Cache

T = TypeVar("T")
Args = TypeVarTuple("Args")

#: The schema that has our tables.
NAME = "postoffice"
#: Seconds for which the settings of all accounts are cached: reading them, which each CAPA needs,
#: reads all accounts.
SETTINGS_AGE = 60.0
#: PostgreSQL's types for those of SQLite.  Names are compared and sorted by their octets.
_TYPES = {"TEXT": 'text COLLATE "C"', "INTEGER": "bigint", "REAL": "double precision"}


def statements() -> Iterator[str]:
    """Yield the SQL that makes the schema."""
    yield f"CREATE SCHEMA {NAME}"
    yield f"SET LOCAL search_path = {NAME}"
    for table in schema.TABLES:
        lines = (line.removeprefix("    ") for line in table.strip().splitlines())
        text = "\n".join(lines).removesuffix(" WITHOUT ROWID")
        text = re.sub(r"\b(TEXT|INTEGER|REAL)\b", lambda found: _TYPES[found[1]], text)
        yield re.sub(r"(REFERENCES \w+ \(\w+\)(?: ON DELETE CASCADE)?)", r"\1 DEFERRABLE", text)
    yield "CREATE TABLE version (number bigint NOT NULL)"
    yield f"INSERT INTO version VALUES ({schema.SCHEMA})"  # noqa: S608 (a number of ours)


def script() -> str:
    """Return the statements for psql, in one transaction."""
    return "".join(f"{one};\n" for one in ("BEGIN", *statements(), "COMMIT"))


class PostgreSQLDatabase:
    """The tables of the accounts in a PostgreSQL database; see ``SQLDatabase``."""

    def __init__(self, connections: PostgreSQLConnections) -> None:
        self._connections = connections

    def open(self) -> str:
        """Check the tables.  Raises StartupError if they are missing; Unavailable."""
        self._connections.open()
        try:
            version = self._connections.read(_version)
        except Unavailable:
            raise
        except TemporaryFailure as error:
            raise StartupError(str(error)) from error
        if version is None:
            raise StartupError(
                "the PostgreSQL database has no tables of ours: "
                "run `postoffice directory create-schema`"
            )
        if version != schema.SCHEMA:
            raise StartupError(
                f"the tables in the PostgreSQL database have version {version}, this "
                f"postoffice knows {schema.SCHEMA}"
            )
        return ""

    def close(self) -> None:
        self._connections.close()

    def stamp(self) -> None:
        """Return None: changes cannot be noticed, so answers are not cached."""

    def observe(self, ask: Callable[[Connection, str], T], name: str) -> tuple[T, None]:
        return self.read(ask, name), None

    def read(self, ask: Callable[[Connection, *Args], T], *args: *Args) -> T:
        return self._connections.read(_asking(ask), *args)

    def write(self, change: Callable[[Connection, *Args], T], *args: *Args) -> T:
        return self._connections.write(_asking(change), *args)

    def together(self) -> AbstractContextManager[None]:
        return self._connections.together()


def _asking(ask: Callable[[Connection, *Args], T]) -> Callable[[PostgreSQLConnection, *Args], T]:
    def asking(connection: PostgreSQLConnection, *args: *Args) -> T:
        return ask(SharedSQL(connection), *args)

    return asking


def _version(connection: PostgreSQLConnection) -> int | None:
    ask = "SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'version'"
    if connection.execute(ask, [NAME]).fetchone() is None:
        return None
    ((number,),) = connection.execute("SELECT number FROM version").fetchall()
    return int(number)


def _make(connection: PostgreSQLConnection) -> None:
    for statement in statements():
        connection.execute(statement)


class PostgreSQLDirectory(SQLDirectory):
    """
    A database of domains and accounts on a PostgreSQL server, in the schema ``postoffice``.

    Each stamp-up asks the server, so that a change counts at once.  While the server is
    down, what was found lately is served.
    """

    def __init__(
        self,
        conninfo: str,
        executor: Executor,
        clock: IReactorTime,
        *,
        seal: Seal,
        timeout: float,
        stale: float,
    ) -> None:
        connections = PostgreSQLConnections(conninfo, timeout, NAME)
        breaker = Breaker(executor, clock, "PostgreSQL", timeout, connections.cut)
        super().__init__(PostgreSQLDatabase(connections), breaker, seal)
        self._threads = executor
        self._connections = connections
        self._stale = StaleAnswers(stale, clock)
        self._settings: Cache[str, frozenset[tuple[Quota, MailPolicy]]] = Cache(1, clock.seconds)

    async def start(self) -> None:
        try:
            await super().start()
        except Unavailable as error:
            self.log.warn("{why}; mail must wait until the server answers", why=error)

    async def stop(self) -> None:
        await self._threads.run(self._database.close)

    async def create_schema(self) -> None:
        """Make the tables.  Raises TemporaryFailure."""
        await self._threads.run(self._connections.write, _make)

    def look_up(self, name: str) -> Awaitable[Found]:
        return self._stale.ask(name, lambda: self._answer(self._found, name, self._look_up))

    async def find(self, name: str) -> Account | None:
        found = await self.look_up(name)
        return found.entry if isinstance(found.entry, Account) else None

    async def serves(self, domain: str) -> bool:
        return (await self.look_up(f"@{domain}")).domain is not None

    async def account_settings(self) -> frozenset[tuple[Quota, MailPolicy]]:
        """Return the settings of all accounts; changes by others are seen a minute later."""
        known = self._settings.get("")
        if known is None:
            known = await super().account_settings()
            self._settings.set("", known, SETTINGS_AGE)
        return known

    async def _write(self, change: Callable[[Connection, *Args], T], *what: *Args) -> T:
        self._settings.clear()
        return await super()._write(change, *what)
