"""Accounts in a PostgreSQL database of another program, by the administrator's own queries."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, replace

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import alsoProvides, implementer

from postoffice.accounts.circuit_breaker import Breaker, StaleAnswers, Unavailable
from postoffice.accounts.password_schemes import fields_elsewhere
from postoffice.accounts.postgresql_connections import PostgreSQLConnection, PostgreSQLConnections
from postoffice.accounts.query_variables import VARIABLE, value, variable
from postoffice.interfaces import (
    Executor,
    IAccountDirectory,
    IAccountListing,
    IAddresses,
    IPasswordUpgrade,
)
from postoffice.model.address import (
    DISABLED,
    ENABLED,
    STATES,
    Account,
    Address,
    NotAnAddress,
    Quota,
    normal_domain,
)
from postoffice.model.alias import SEPARATORS, Alias, Domain, Found
from postoffice.model.app_password import networks_of
from postoffice.model.config_values import read_size
from postoffice.model.errors import SettingError, TemporaryFailure

Row = Mapping[str, object]

#: The columns that a query may return: of an account, of a target of an alias, of a domain.
ACCOUNT = ("password", "maildrop", "quota", "quota_messages", "state", "forward", "keep_copy",
    "allow_nets",
)  # fmt: skip
ALIAS = ("target",)
DOMAIN = ("same_as", "separators", "catch_all")
#: The variables that a query must have, besides those for an address.
EXTRA_VARIABLES = {"rehash": ("old", "new")}
#: The rows of ``iterate`` that are read at once, and the column by which they are sorted.
PAGE = 1000
_KEY = "order of postoffice"

#: A variable, with the quotes that Dovecot's examples have around it; and a per cent sign.
_VARIABLE = re.compile(rf"(?P<quote>')?(?:{VARIABLE})(?(quote)')|%%")


@dataclass(frozen=True)
class Query:
    """SQL with PostgreSQL's placeholders, and which variable each stands for."""

    sql: str
    parts: tuple[str, ...]

    @classmethod
    def read(cls, key: str, text: str) -> Query:
        """
        Read a query with Dovecot's variables: ``%{user}``, ``%{user|domain}``, ``%u``.

        Each becomes a parameter; no name is ever pasted into SQL.  Raises SettingError.
        """
        parts: list[str] = []

        def placeholder(found: re.Match[str]) -> str:
            if found[0] == "%%":
                return "%"
            part = variable(key, found, EXTRA_VARIABLES.get(key, ()))
            if part not in parts:
                parts.append(part)
            return f"${parts.index(part) + 1}"

        sql = _VARIABLE.sub(placeholder, text)
        if any("$" in one for one in re.findall(r"'([^']*)'", sql)):
            raise SettingError(
                key,
                "a variable is inside a quoted text: join the two with ||, as '/mail/' || %{user}",
            )
        for one in EXTRA_VARIABLES.get(key, ()):
            if one not in parts:
                raise SettingError(key, f"it needs %{{{one}}}: the change is made only once")
        return cls(sql.rstrip("; \n"), tuple(parts))

    def rows(self, connection: PostgreSQLConnection, name: str, *more: str) -> list[Row]:
        """Return all rows for a name, each by the names of its columns."""
        values = [value(part, name) for part in self.parts]
        cursor = connection.execute(self.sql, [*values, *more])
        if cursor.description is None:
            raise TemporaryFailure(f"the query returns no rows: {self.sql}")
        columns = [column.name for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]

    def change(self, connection: PostgreSQLConnection, name: str, more: Mapping[str, str]) -> bool:
        """Run it for a name; return whether it changed a row.  ``more`` are further variables."""
        values = [more[one] if one in more else value(one, name) for one in self.parts]
        return connection.execute(self.sql, values).rowcount > 0

    def page(self, connection: PostgreSQLConnection, after: str) -> list[Row]:
        """Return the next rows, sorted by the column ``user``; the column _KEY has the sort key."""
        key, mark = 'lower("user"::text) COLLATE "C"', f"${len(self.parts) + 1}"
        asked = f'SELECT *, {key} AS "{_KEY}" FROM ({self.sql}\n) AS listed'  # noqa: S608 (the administrator's)
        sql = f"{asked} WHERE {key} > {mark} ORDER BY {key} LIMIT {PAGE}"
        return replace(self, sql=sql).rows(connection, "", after)


@implementer(IAccountDirectory, IAddresses)
class QueryDirectory:
    """
    Accounts, aliases and domains that queries find, in any tables; it changes nothing.

    ``find`` returns one row, or none; ``alias`` a row for each target; ``domain`` one row
    for a local domain.  ``iterate`` returns all accounts; without it they cannot be listed.
    ``rehash`` replaces a hash, and is the only one that changes anything.
    """

    log = Logger()

    def __init__(
        self,
        conninfo: str,
        executor: Executor,
        clock: IReactorTime,
        queries: Mapping[str, Query],
        *,
        timeout: float,
        stale: float,
    ) -> None:
        self._connections = PostgreSQLConnections(conninfo, timeout)
        self._threads = executor
        self._breaker = Breaker(executor, clock, "PostgreSQL", timeout, self._connections.cut)
        self._queries = queries
        self._stale = StaleAnswers(stale, clock)
        if "iterate" in queries:
            alsoProvides(self, IAccountListing)
        if "rehash" in queries:
            alsoProvides(self, IPasswordUpgrade)

    async def start(self) -> None:
        self._connections.open()
        try:
            await self._ask("@")
        except Unavailable as error:
            self.log.warn("{why}; mail must wait until the server answers", why=error)

    async def stop(self) -> None:
        await self._threads.run(self._connections.close)

    def look_up(self, name: str) -> Awaitable[Found]:
        return self._stale.ask(name, lambda: self._ask(name))

    async def find(self, name: str) -> Account | None:
        found = await self.look_up(name)
        return found.entry if isinstance(found.entry, Account) else None

    async def serves(self, domain: str) -> bool:
        return (await self.look_up(f"@{domain}")).domain is not None

    async def upgrade_password(self, name: str, secret: str, new: str) -> bool:
        """See ``IPasswordUpgrade``; only with ``rehash``."""
        return await self._breaker.run(self._connections.write, self._upgrade, name, secret, new)

    def _upgrade(self, connection: PostgreSQLConnection, name: str, secret: str, new: str) -> bool:
        rows = self._queries["find"].rows(connection, name)
        if len(rows) != 1 or _account(name, rows[0]).secret != secret:
            return False
        hashes = {"old": _text(rows[0], "password"), "new": f"{{ARGON2ID}}{new}"}
        return self._queries["rehash"].change(connection, name, hashes)

    async def domains(self) -> list[str]:
        """Return the domains of all accounts, sorted; only with the query ``iterate``."""
        return sorted({one.address.rpartition("@")[2] async for one in self.each_account()})

    async def each_account(self, domain: str | None = None) -> AsyncIterator[Account]:
        """Yield all accounts, or those of one domain, in the order of ``user``; see ``iterate``."""
        after = ""
        while rows := await self._breaker.run(self._connections.read, self._page, after):
            for row in rows:
                one = _listed(row)
                if domain in (None, one.address.rpartition("@")[2]):
                    yield one
            after = str(rows[-1][_KEY])

    def _page(self, connection: PostgreSQLConnection, after: str) -> list[Row]:
        return self._queries["iterate"].page(connection, after)

    async def _ask(self, name: str) -> Found:
        if "\0" in name or not name.isprintable():  # PostgreSQL has no NUL, and UTF-8 only
            return Found(None)
        return await self._breaker.run(self._connections.read, self._found, name)

    def _found(self, connection: PostgreSQLConnection, name: str) -> Found:
        rows = self._queries["domain"].rows(connection, name)
        if not rows:
            return Found(None)
        domain = _domain(name.rpartition("@")[2], rows[0])
        if name.startswith("@"):
            return Found(domain)
        rows = self._queries["find"].rows(connection, name)
        if len(rows) > 1:
            raise TemporaryFailure(f"the query find returns {len(rows)} rows for {name}")
        if rows:
            return Found(domain, _account(name, rows[0]))
        if "alias" in self._queries:
            rows = self._queries["alias"].rows(connection, name)
            targets = tuple(one for row in rows for one in _addresses("alias", row, "target"))
            if targets:
                return Found(domain, Alias(name, targets))
        return Found(domain)


def _listed(row: Row) -> Account:
    """Return the account in a row of the query ``iterate``, whose column ``user`` names it."""
    try:
        name = Address.parse(_text(row, "user")).normal
    except NotAnAddress as error:
        raise TemporaryFailure(f"the query iterate, user: {error}") from error
    rest = {key: one for key, one in row.items() if key not in ("user", _KEY)}
    return _account(name, rest, "iterate")


def _account(name: str, row: Row, query: str = "find") -> Account:
    unknown = set(row) - set(ACCOUNT)
    if unknown:
        raise TemporaryFailure(
            f"the query {query} returns a column {min(unknown)}: known are {', '.join(ACCOUNT)}"
        )
    if "password" not in row:
        raise TemporaryFailure(f"the query {query} returns no column password")
    return Account(
        name,
        _text(row, "maildrop") or name,
        **fields_elsewhere(_text(row, "password"), "CRYPT"),
        networks=_networks(row),
        quota=Quota(_octets(row), _messages(row)),
        state=_state(row),
        forward=_addresses("find", row, "forward"),
        keep_copy=_flag(row, "keep_copy"),
    )


def _domain(name: str, row: Row) -> Domain:
    same_as = _text(row, "same_as")
    try:
        same_as = normal_domain(same_as) if same_as else ""
    except NotAnAddress as error:
        raise TemporaryFailure(f"the query domain: {error}") from error
    separators = _text(row, "separators") or SEPARATORS
    return Domain(name, same_as, separators, _addresses("domain", row, "catch_all"))


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value)


def _networks(row: Row) -> tuple[str, ...]:
    text = _text(row, "allow_nets")
    try:
        return networks_of(text) if text else ()
    except ValueError as error:
        raise TemporaryFailure(f"the query find, allow_nets: {error}") from error


def _octets(row: Row) -> int | None:
    """Return a quota in octets, which may be written as 10M or 1 GiB; 0 is no limit."""
    text = re.sub(r"([KMGT])\Z", r"\1iB", _text(row, "quota").strip())
    try:
        return read_size(text) if text else None
    except ValueError as error:
        raise TemporaryFailure(f"the query find: {text!r} is no quota") from error


def _messages(row: Row) -> int | None:
    text = _text(row, "quota_messages")
    if text and not text.isdecimal():
        raise TemporaryFailure(f"the query find: {text!r} is no number of messages")
    return int(text) if text else None


def _state(row: Row) -> str:
    """Return a state from its name, or from a flag for active accounts, as other programs have."""
    value = row.get("state")
    if value is None or value in (True, 1, "1", "t", "Y", "y"):
        return ENABLED
    if value in (False, 0, "0", "f", "N", "n"):
        return DISABLED
    if value in STATES:
        return str(value)
    raise TemporaryFailure(f"the query find: {value!r} is no state of an account")


def _flag(row: Row, column: str) -> bool:
    value = row.get(column)
    return value is None or value in (True, 1, "1", "t", "Y", "y")


def _addresses(query: str, row: Row, column: str) -> tuple[Address, ...]:
    """Return the addresses in a column: an array, or a text with commas between them."""
    value = row.get(column)
    if value is None:
        return ()
    words = value if isinstance(value, list) else str(value).split(",")
    try:
        return tuple(Address.parse(str(word).strip()) for word in words if str(word).strip())
    except NotAnAddress as error:
        raise TemporaryFailure(f"the query {query}, {column}: {error}") from error
