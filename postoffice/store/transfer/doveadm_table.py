"""
What ``doveadm -f tab fetch`` says of a mailbox: UIDs, UIDLs, the order, dates and sizes.  Pure.

The first line has the names of the columns; tabs, line ends and NUL in values are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

#: The columns that are read; uid is needed.
COLUMNS = ("uid", "guid", "pop3.uidl", "pop3.order", "date.received.unixtime", "size.virtual")
_ESCAPED = re.compile(r"\x01([01tnr])")
_MEANS = {"0": "\0", "1": "\x01", "t": "\t", "n": "\n", "r": "\r"}


class Row(NamedTuple):
    """A message; values are "" or None if the table does not have them."""

    uid: int
    guid: str = ""
    uidl: str = ""
    place: int | None = None
    received: int | None = None
    size: int | None = None


class Table(NamedTuple):
    """The rows by their UIDs, and how many lines were damaged."""

    rows: Mapping[int, Row]
    damaged: int = 0


def parse(text: str) -> Table:
    """Read a table.  Raises ValueError."""
    header, *lines = text.removesuffix("\n").split("\n")
    names = header.split("\t")
    if "uid" not in names or len(set(names)) < len(names):
        raise ValueError(
            f"its first line is not that of a doveadm table with a column uid: {header[:80]!r}"
        )
    columns = [names.index(name) if name in names else -1 for name in COLUMNS]
    rows: dict[int, Row] = {}
    damaged = 0
    for line in lines:
        values = line.split("\t")
        if len(values) != len(names) or not is_number(values[columns[0]]):
            damaged += 1
            continue
        uid, guid, uidl, *rest = (_plain(values[at]) if at >= 0 else "" for at in columns)
        place, received, size = (int(one) if is_number(one) else None for one in rest)
        rows[int(uid)] = Row(int(uid), guid, uidl, place, received, size)
    return Table(rows, damaged)


def _plain(value: str) -> str:
    return _ESCAPED.sub(lambda found: _MEANS[found[1]], value)


def is_number(text: str) -> bool:
    """Whether a text has decimal digits only, and not too many."""
    return text.isascii() and text.isdecimal() and len(text) <= 15
