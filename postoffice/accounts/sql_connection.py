"""The part of DB-API 2.0 that the queries use, in the form that ``sqlite3`` has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

#: The values for the placeholders: in order for ``?``, by number for ``?1``.
Values = Sequence[object]
#: The columns of a row; only the query says what types they have.
Row = tuple[Any, ...]


class Cursor(Protocol):
    """What a statement has returned."""

    @property
    def rowcount(self) -> int:
        """How many rows a change has changed."""

    def fetchone(self) -> Row | None:
        """Return the next row, or None."""

    def fetchall(self) -> list[Row]:
        """Return all rows that are left."""

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows that are left."""


class Connection(Protocol):
    """One connection, in a transaction; SQL is of the kind that SQLite and PostgreSQL share."""

    def execute(self, sql: str, values: Values = ..., /) -> Cursor:
        """Run one statement."""

    def executemany(self, sql: str, rows: Iterable[Values], /) -> object:
        """Run one statement for each row of values."""
