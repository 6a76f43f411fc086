"""PostgreSQLConnections to a PostgreSQL server, for any thread.  The functions block."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from typing import Protocol, TypeVar, TypeVarTuple

import psycopg

from postoffice.accounts.circuit_breaker import Unavailable
from postoffice.accounts.sql_connection import Cursor, Values
from postoffice.model.errors import TemporaryFailure
from postoffice.util.connection_pool import ConnectionPool

T = TypeVar("T")
Args = TypeVarTuple("Args")
_PLACEHOLDER = re.compile(r"\?(\d*)")
#: The key of the advisory lock of each change: changes come one after the other ("PoOf").
LOCK = 0x506F4F66


class Column(Protocol):
    """A column of an answer."""

    name: str


class PostgreSQLCursor(Cursor, Protocol):
    """What a statement has returned; ``description`` is None if it returns no rows."""

    @property
    def description(self) -> Sequence[Column] | None: ...
    def executemany(self, sql: str, rows: Iterable[Values], /) -> object: ...


class PostgreSQLConnection(Protocol):
    """The methods of a psycopg connection that we use; psycopg is optional."""

    @property
    def closed(self) -> bool: ...
    def execute(self, sql: str, values: Values = ..., /) -> PostgreSQLCursor: ...
    def cursor(self) -> AbstractContextManager[PostgreSQLCursor]: ...
    def transaction(self) -> AbstractContextManager[object]: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class SharedSQL:
    """A connection that takes the SQL of ``account_queries``: its placeholders, no booleans."""

    def __init__(self, connection: PostgreSQLConnection) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Values = (), /) -> Cursor:
        """Run one statement."""
        return self._connection.execute(translated(sql), _values(values))

    def executemany(self, sql: str, rows: Iterable[Values], /) -> None:
        """Run one statement for each row of values."""
        with self._connection.cursor() as cursor:
            cursor.executemany(translated(sql), [_values(row) for row in rows])


@lru_cache(maxsize=256)
def translated(sql: str) -> str:
    """Translate ``?`` and ``?1`` to PostgreSQL's ``$1``."""
    if sql == "PRAGMA defer_foreign_keys = ON":
        return "SET CONSTRAINTS ALL DEFERRED"
    number = 0

    def placeholder(found: re.Match[str]) -> str:
        nonlocal number
        number += 1
        return f"${found[1] or number}"

    return _PLACEHOLDER.sub(placeholder, sql)


def _values(values: Values) -> list[object]:
    return [int(one) if isinstance(one, bool) else one for one in values]


class PostgreSQLConnections:
    """
    PostgreSQLConnections to one server; each is used by one thread at a time.

    ``conninfo`` is for libpq: ``dbname=mail host=...``.  ``search_path`` is set if it
    is not empty.  A statement that takes longer than ``timeout`` seconds fails.
    """

    def __init__(self, conninfo: str, timeout: float, search_path: str = "") -> None:
        self._conninfo = conninfo
        self._timeout = timeout
        self._search_path = search_path
        self._pool: ConnectionPool[PostgreSQLConnection] = ConnectionPool(lambda one: one.close())
        self.open, self.close = self._pool.open, self._pool.close
        self._lock = threading.Lock()  # guards:
        self._busy: dict[PostgreSQLConnection, float] = {}  # since when
        self._together: PostgreSQLConnection | None = None  # its transaction is open

    def cut(self) -> None:
        """Break the connections of threads that wait longer than the timeout."""
        late = time.monotonic() - self._timeout * 0.9
        with self._lock:
            for connection, since in self._busy.items():
                if since <= late:
                    _break(connection)

    def read(self, ask: Callable[[PostgreSQLConnection, *Args], T], *args: *Args) -> T:
        """
        Call ``ask(connection, *args)``; once more if an idle connection was broken meanwhile.

        Raises Unavailable, and TemporaryFailure for other errors of the server.
        """
        if self._together is not None:
            return self._ask(self._together, ask, *args)
        connection = self._pool.take()
        if connection is not None:
            try:
                return self._use(connection, ask, *args)
            except Unavailable:
                if not connection.closed:  # the server answers, but too late
                    raise
        return self._use(self._connect(), ask, *args)

    def write(self, change: Callable[[PostgreSQLConnection, *Args], T], *args: *Args) -> T:
        """Call ``change(connection, *args)`` in one transaction, after those of others."""

        if self._together is not None:
            return self._ask(self._together, change, *args)

        def whole(connection: PostgreSQLConnection) -> T:
            with _transaction(connection):
                return change(connection, *args)

        return self._use(self._alive(), whole)

    @contextmanager
    def together(self) -> Iterator[None]:
        """
        Make all reads and writes until the end one transaction, after those of others.

        Nobody else may use this object meanwhile.  Raises as ``write``.
        """
        connection = self._alive()
        try:
            with _errors(), _transaction(connection):
                self._together = connection
                try:
                    yield
                finally:
                    self._together = None
        finally:
            self._give_back(connection)

    def _alive(self) -> PostgreSQLConnection:
        """Return a connection that was just used: a transaction must not be tried twice."""
        connection = self._pool.take()
        if connection is not None:
            try:
                self._use(connection, _ping)
            except Unavailable:
                connection = None
            else:
                connection = self._pool.take()
        return connection or self._connect()

    def _connect(self) -> PostgreSQLConnection:
        try:
            connection: PostgreSQLConnection = psycopg.connect(
                self._conninfo,
                autocommit=True,
                cursor_factory=psycopg.RawCursor,
                connect_timeout=max(2, int(self._timeout)),
                fallback_application_name="postoffice",
            )
            milliseconds = str(max(1, int(self._timeout * 1000)))
            connection.execute("SELECT set_config('statement_timeout', $1, false)", [milliseconds])
            if self._search_path:
                connection.execute(
                    "SELECT set_config('search_path', $1, false)", [self._search_path]
                )
        except psycopg.Error as error:
            raise Unavailable(f"connecting to PostgreSQL failed: {_said(error)}") from error
        return connection

    def _use(
        self,
        connection: PostgreSQLConnection,
        ask: Callable[[PostgreSQLConnection, *Args], T],
        *args: *Args,
    ) -> T:
        with self._lock:
            self._busy[connection] = time.monotonic()
        try:
            return self._ask(connection, ask, *args)
        finally:
            with self._lock:
                del self._busy[connection]
            self._give_back(connection)

    def _ask(
        self,
        connection: PostgreSQLConnection,
        ask: Callable[[PostgreSQLConnection, *Args], T],
        *args: *Args,
    ) -> T:
        with _errors():
            return ask(connection, *args)

    def _give_back(self, connection: PostgreSQLConnection) -> None:
        if not connection.closed:
            self._pool.give_back(connection)


@contextmanager
def _errors() -> Iterator[None]:
    """Turn the errors of psycopg into Unavailable and TemporaryFailure."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise Unavailable(f"PostgreSQL failed: {_said(error)}") from error
    except psycopg.Error as error:
        raise TemporaryFailure(f"PostgreSQL refused a query: {_said(error)}") from error


@contextmanager
def _transaction(connection: PostgreSQLConnection) -> Iterator[None]:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock($1)", [LOCK])
        yield


def _ping(connection: PostgreSQLConnection) -> None:
    connection.execute("SELECT 1")


def _break(connection: PostgreSQLConnection) -> None:
    """Let a thread that waits for the server see the end of the connection."""
    with (
        suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as link,
    ):
        link.shutdown(socket.SHUT_RDWR)


def _said(error: Exception) -> str:
    """Return what the server or libpq said, in one line."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
