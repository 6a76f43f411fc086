"""Reads the lists of a POP3 server (UIDL, LIST), which may have mistakes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from postoffice.protocol.peer_text import printable

#: A line: a message's number, and its UIDL or its size; some servers add more words.
_LINE = re.compile(rb"[ \t]*([0-9]{1,9})[ \t]+([^ \t]+)")
_STAT = re.compile(r"([0-9]{1,9})[ \t]+([0-9]{1,18})(?![0-9])")
#: The most unreadable lines that are kept, to be shown.
MOST = 10


@dataclass(frozen=True)
class Lines:
    """A list by message numbers; ``wrong`` are lines that cannot be read or have a number twice."""

    values: Mapping[int, str]
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ListedSizes:
    """What LIST said: octets by message numbers, and lines that cannot be read."""

    values: Mapping[int, int]
    wrong: list[str]


def read_lines(text: bytes) -> Lines:
    """Read the lines of a list: their second words, as text of one octet a character."""
    values: dict[int, str] = {}
    wrong: list[str] = []
    for line in text.split(b"\r\n"):
        found = _LINE.match(line)
        number = int(found[1]) if found is not None else 0
        if found is not None and number and number not in values:
            values[number] = found[2].decode("latin-1")
        elif line and len(wrong) < MOST:
            wrong.append(printable(line[:80]))
    return Lines(values, wrong)


def read_sizes(text: bytes) -> ListedSizes:
    """Read the lines of a LIST."""
    lines = read_lines(text)
    sizes: dict[int, int] = {}
    wrong = list(lines.wrong)
    for number, size in lines.values.items():
        if size.isascii() and size.isdigit() and len(size) < 19:
            sizes[number] = int(size)
        elif len(wrong) < MOST:
            wrong.append(f"{number} {size[:80]}")
    return ListedSizes(sizes, wrong)


def read_stat(text: str) -> tuple[int, int] | None:
    """Read the text of a reply to STAT: messages and octets; None if it is none."""
    found = _STAT.match(text)
    return None if found is None else (int(found[1]), int(found[2]))
