"""What the command prints: lines, JSON, tables, and numbers and times for people."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate, zip_longest
from unicodedata import combining, east_asian_width

import click

#: So many problems of one maildrop are shown; --json has all.
PROBLEMS = 10


def say(line: str, *, err: bool = False) -> None:
    """Print a line; escape what could control the terminal, such as names in a foreign backup."""
    shown = (one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in line)
    click.echo(line if line.isprintable() else "".join(shown), err=err)


def say_marked(mark: str, colour: str, line: str) -> None:
    """Print our own word in a colour, on a terminal only, and a line after it."""
    click.secho(mark, fg=colour, nl=False)
    say(line)


def say_object(data: Mapping[str, object]) -> None:
    """Print the answer as JSON."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    # an octet of a file's name that is not UTF-8 is a lone surrogate, which JSON can only escape
    click.echo(text.encode("utf-8", "backslashreplace").decode())


def reason(error: Exception) -> str:
    """Return what an exception says; the name of its class if it says nothing."""
    return str(error) or type(error).__name__


def problem_lines(
    name: str, kind: str, whys: Sequence[str], what: str, most: int = PROBLEMS
) -> Iterator[str]:
    """Yield the first ``most`` problems of a maildrop, and how many more messages have one."""
    yield from (f"{name}: {kind}: {why}" for why in whys[:most])
    if len(whys) > most:
        yield f"{name}: and {len(whys) - most} more that {what}"


def counted(number: int, what: str) -> str:
    """``1 message``, ``2 messages``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def sized(octets: int) -> str:
    """Format octets for people: ``34 octets``, ``1.5 GiB``."""
    if octets < 1 << 10:
        return counted(octets, "octet")
    power = min((octets.bit_length() - 1) // 10, 4)
    number = f"{octets / (1 << 10 * power):.1f}".removesuffix(".0")
    return f"{number} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


def lasting(seconds: float) -> str:
    """Format a duration for people: ``30 days``, ``1.5 hours``, ``none``."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            number = f"{seconds / unit:.1f}".removesuffix(".0")
            return f"{number} {name}{'' if number == '1' else 's'}"
    return counted(int(seconds), "second") if seconds else "none"


def moment(seconds: float) -> str:
    """Format a time for people, in the local time zone."""
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"


def iso(seconds: float | None) -> str | None:
    """Format a time for programs."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def table(rows: Sequence[Sequence[str]], least: Sequence[int] = ()) -> list[str]:
    """
    Align rows in columns; escape cells that could control the terminal (EHLO names, …).

    The columns are at least as wide as ``least``.
    On a terminal that is too narrow, the last columns go to a second, indented line.
    """
    rows = [[cell if cell.isprintable() else repr(cell) for cell in row] for row in rows]
    widths = widths_of(rows, least)
    fits = _how_many_fit(widths)
    lines = []
    for row in rows:
        cells = [
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        ]
        lines.append("  ".join(cells[:fits]).rstrip())
        if rest := "  ".join(cells[fits:]).rstrip():
            lines.append(f"    {rest}")
    return lines


def widths_of(rows: Sequence[Sequence[str]], least: Sequence[int] = ()) -> list[int]:
    """Return the widths of the columns of a table, which are at least ``least``."""
    found = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return [max(pair) for pair in zip_longest(found, least, fillvalue=0)]


def _how_many_fit(widths: Sequence[int]) -> int:
    """Return how many columns of a table fit on the terminal; all of them in a file."""
    if not sys.stdout.isatty():
        return len(widths)
    columns = shutil.get_terminal_size().columns
    ends = accumulate(width + 2 for width in widths)
    return max(1, sum(end - 2 <= columns for end in ends))


def _width(text: str) -> int:
    """Return the width in terminal columns: East Asian letters take two, accents none."""
    if text.isascii():
        return len(text)
    wide = sum(east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(combining, text)))
