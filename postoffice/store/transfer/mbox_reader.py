"""
The messages in an mbox file: found in one pass over it, without reading it into memory.

A message begins at the beginning of the file, or behind an empty line, with a From_ line that
has a date.  All functions block.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from hashlib import md5
from typing import NamedTuple

from postoffice.store.text import PIECE
from postoffice.store.transfer.mbox import FROM_MAXIMUM, date_of

#: Octets of a header that are looked at for fields.
HEADER_MAXIMUM = 256 << 10
#: Fields in which programs note what they know of a message; they are no part of it.
_NOTES = frozenset(
    b"content-length status x-imap x-imapbase x-keywords x-status x-uid x-uidl".split()
)
_MARK = b"\nFrom "
_LINE = re.compile(rb"[^\n]*\n|[^\n]+\Z")


class Span(NamedTuple):
    """A message in the file: where its From_ line, its text and the text's end are; its date."""

    line: int
    start: int
    end: int
    date: int


class NotAnMbox(ValueError):
    """The file does not begin with a From_ line."""


class Messages:
    """The messages of an open file; afterwards ``odd`` counts From_ lines behind no empty line."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.odd = 0

    def __iter__(self) -> Iterator[Span]:
        """Yield where each message is.  Raises NotAnMbox, OSError."""
        size = os.fstat(self._fd).st_size
        before: tuple[int, int, int] | None = None
        for line, blank in self._marks():
            text = os.pread(self._fd, FROM_MAXIMUM, line)
            end = text.find(b"\n") + 1
            date = date_of(text[:end])
            if date is None:
                continue
            if not blank:
                self.odd += 1
                continue
            if before is not None:
                yield Span(before[0], before[1], self._end(before[1], line), before[2])
            before = (line, line + end, date)
        if before is not None:
            yield Span(before[0], before[1], self._end(before[1], size), before[2])

    def _marks(self) -> Iterator[tuple[int, bool]]:
        """Yield where lines begin with "From ", and whether the line before is empty."""
        if not (beginning := os.pread(self._fd, FROM_MAXIMUM, 0)):
            return
        if date_of(beginning[: beginning.find(b"\n") + 1]) is None:
            raise NotAnMbox
        yield 0, True
        at, rest = 0, b""
        while piece := os.pread(self._fd, PIECE, at):
            data, begin = rest + piece, at - len(rest)
            found = data.find(_MARK)
            while found >= 0:
                line = begin + found + 1
                ahead = os.pread(self._fd, 3, max(line - 3, 0))
                yield line, ahead.endswith((b"\n\n", b"\n\r\n"))
                found = data.find(_MARK, found + 1)
            at += len(piece)
            rest = data[1 - len(_MARK) :]

    def _end(self, start: int, end: int) -> int:
        """The end of a text: the empty line behind it belongs to the format."""
        at = max(end - 3, start)
        behind = os.pread(self._fd, max(end - at, 0), at)
        if behind in (b"\n", b"\r\n"):
            return start
        for empty in (b"\n\r\n", b"\n\n"):
            if behind.endswith(empty):
                return end - len(empty) + 1
        return max(end, start)


class Header:
    """
    The header of a message in an mbox, without what other programs note in it.

    ``end`` is where the rest of the text begins; ``notes`` has the first value of each note.
    """

    def __init__(self, fd: int, span: Span) -> None:
        octets = _header(os.pread(fd, min(4096, span.end - span.start), span.start))
        if octets is None:
            octets = os.pread(fd, min(HEADER_MAXIMUM, span.end - span.start), span.start)
            octets = _header(octets) or octets[: octets.rfind(b"\n") + 1]
        self.end = span.start + len(octets)
        self.notes: dict[bytes, bytes] = {}
        self._kept: list[bytes] = []
        digest, received = md5(usedforsecurity=False), False
        for name, lines in _fields(octets):
            if name in _NOTES:
                self.notes.setdefault(name, lines[0].partition(b":")[2].strip())
                continue
            self._kept += lines
            if name in (b"delivered-to", b"x-delivery-id") or (
                name == b"received" and not received
            ):
                received = received or name == b"received"
                for line in _values(lines):
                    digest.update(line)
        #: What Dovecot calls the message as ``%m``, which is popa3d's way.
        self.md5 = digest.hexdigest()

    @property
    def text(self) -> bytes:
        """Its octets, without the notes."""
        return b"".join(self._kept)


def _header(octets: bytes) -> bytes | None:
    """The header at the beginning of a text, up to the empty line; None if that is not in it."""
    if octets.startswith((b"\n", b"\r\n")):
        return b""
    ends = [at + 1 for empty in (b"\n\n", b"\n\r\n") if (at := octets.find(empty)) >= 0]
    return octets[: min(ends)] if ends else None


def _fields(octets: bytes) -> Iterator[tuple[bytes, Sequence[bytes]]]:
    """The fields with all their lines; the name is b"" if a line is no field.  Notes have one."""
    name, lines = b"", list[bytes]()
    for line in _LINE.findall(octets):
        if lines and line[:1] in (b" ", b"\t") and name not in _NOTES:
            lines.append(line)
            continue
        if lines:
            yield name, lines
        before, colon, _ = line.partition(b":")
        name, lines = before.rstrip().lower() if colon else b"", [line]
    if lines:
        yield name, lines


def _values(lines: Sequence[bytes]) -> Iterator[bytes]:
    """The value of a field, line by line, as Dovecot has it: one space behind the colon is none."""
    first, *rest = lines
    value = first.partition(b":")[2]
    yield (value[1:] if value[:1] in (b" ", b"\t") else value).rstrip(b"\r\n")
    for line in rest:
        yield line.rstrip(b"\r\n")
