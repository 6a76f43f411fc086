"""
Files of accounts and aliases: CSV with a line of column names, or JSON lines.

Files are read line by line, and no line is longer than LINE, however large the file is.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, TextIO

from postoffice.model.address import Address

#: The formats of files.
CSV, JSONL = FORMATS = ("csv", "jsonl")
#: The most octets of a line.
LINE = 1 << 20
#: A text between separators: words, and quoted local parts.
_WORD = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s,"])+')
_TRUTHS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Record:
    """The values of one line, by column; a column without a value is left out."""

    line: int
    values: Mapping[str, str]


class BadRecord(ValueError):
    """A line cannot be used; the text says why."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


class Unreadable(BadRecord):
    """Nothing after this line can be read either."""


def read(
    file: BinaryIO, form: str, columns: Sequence[str], step: Callable[[int], None]
) -> Iterator[Record | BadRecord]:
    """
    Yield the record of each line, or why the line cannot be used.

    ``columns`` are all known ones; a file must have the first.  ``step`` is called with the number
    of octets that were read.  Raises Unreadable.
    """
    lines = _Lines(file, step)
    yield from (_read_csv if form == CSV else _read_json)(lines, columns)


class _Lines:
    """The lines of a file, as text; octets that are not UTF-8 become surrogates."""

    def __init__(self, file: BinaryIO, step: Callable[[int], None]) -> None:
        self._file = file
        self._step = step
        self._read = 0
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(LINE):
            self.number += 1
            self._read += len(line)
            self._step(self._read)
            if len(line) == LINE and not line.endswith(b"\n"):
                raise Unreadable(self.number, f"the line has over {LINE} octets")
            text = line.decode("utf-8", "surrogateescape")
            yield text.removeprefix("\ufeff") if self.number == 1 else text


def _read_csv(lines: _Lines, columns: Sequence[str]) -> Iterator[Record | BadRecord]:
    rows = csv.reader(iter(lines), strict=True)
    names = _csv_row(rows, lines)
    if names is None:
        raise Unreadable(1, "the file is empty; its first line has the names of the columns")
    _check_names(names, columns)
    while (row := _csv_row(rows, lines)) is not None:
        line = lines.number
        if not row:
            continue
        if len(row) != len(names):
            yield BadRecord(line, f"it has {len(row)} values, and there are {len(names)} columns")
            continue
        yield _record(line, {name: value.strip() for name, value in zip(names, row, strict=True)})


def _csv_row(rows: Iterator[list[str]], lines: _Lines) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error as error:
        raise Unreadable(lines.number, f"this is not CSV: {error}") from error


def _check_names(names: Sequence[str], columns: Sequence[str]) -> None:
    known = f"the columns are {', '.join(columns)}, separated by commas"
    for name in names:
        if name not in columns:
            raise Unreadable(1, f"there is no column {name!r}; {known}")
        if names.count(name) > 1:
            raise Unreadable(1, f"the column {name!r} is there twice")
    if columns[0] not in names:
        raise Unreadable(1, f"the column {columns[0]!r} is missing; {known}")


def _read_json(lines: _Lines, columns: Sequence[str]) -> Iterator[Record | BadRecord]:
    for text in lines:
        if not text.strip():
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield BadRecord(lines.number, f"this is not JSON: {error}")
            continue
        if not isinstance(found, dict):
            yield BadRecord(lines.number, "this is not a JSON object")
            continue
        unknown = [name for name in found if name not in columns]
        if unknown:
            known = ", ".join(columns)
            yield BadRecord(lines.number, f"there is no {unknown[0]!r}; the names are {known}")
            continue
        yield _record(lines.number, {name: _text(value) for name, value in found.items()})


#: Columns whose values no error shows.
SECRET = frozenset(("password", "hash", "scram"))


def _record(line: int, values: Mapping[str, str]) -> Record | BadRecord:
    for name, value in values.items():
        if not value.isprintable():
            why = "is not UTF-8" if _has_surrogates(value) else "has control characters"
            shown = "" if name in SECRET else f": {value[:80]!r}"
            return BadRecord(line, f"{name} {why}{shown}")
    return Record(line, {name: value for name, value in values.items() if value})


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= one <= "\udfff" for one in text)


def _text(value: object) -> str:
    """Return a JSON value as a cell of CSV has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


# -- values ----------------------------------------------------------------------------


def truth(text: str) -> bool:
    """Parse yes or no.  Raises ValueError."""
    if text.lower() not in _TRUTHS:
        raise ValueError(f"{text!r} is neither yes nor no")
    return _TRUTHS[text.lower()]


def words_of(text: str) -> list[str]:
    """Split a text at commas and spaces, except in quotes.  Raises ValueError."""
    if _WORD.sub("", text).strip(" ,\t"):
        raise ValueError(f"{text!r} has a quote without its end")
    return _WORD.findall(text)


def address_list(text: str) -> tuple[Address, ...]:
    """Parse addresses with commas or spaces between them.  Raises ValueError."""
    found: dict[str, Address] = {}
    for word in words_of(text):
        address = Address.parse(word)
        found.setdefault(address.normal, address)
    return tuple(found.values())


def one_of(*words: str) -> Callable[[str], str]:
    """Return a function that accepts these words only."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return parse


def parsed(record: Record, parsers: Mapping[str, Callable[[str], object]]) -> dict[str, object]:
    """Return the parsed values of a record.  Raises BadRecord."""
    found = {}
    for name, text in record.values.items():
        try:
            found[name] = parsers[name](text)
        except ValueError as error:
            raise BadRecord(record.line, f"{name}: {error}") from error
    return found


# -- writing ---------------------------------------------------------------------------


def writer(
    file: TextIO, form: str, columns: Sequence[str]
) -> Callable[[Mapping[str, object]], object]:
    """Return a function that writes a record; None is an empty cell."""
    if form == JSONL:

        def write(record: Mapping[str, object]) -> object:
            values = {name: record[name] for name in columns if record[name] is not None}
            return file.write(json.dumps(values, ensure_ascii=False) + "\n")

        return write
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(columns)
    return lambda record: rows.writerow([_text(record[name]) for name in columns])


def written_address(name: str) -> str:
    """Return an address in normal form as a file has it: with quotes, if it needs them."""
    local, _, domain = name.rpartition("@")
    return str(Address(local, domain))


def text_of(octets: BinaryIO) -> io.TextIOWrapper:
    """Return a text file in UTF-8 over a binary one."""
    return io.TextIOWrapper(octets, encoding="utf-8", newline="")
