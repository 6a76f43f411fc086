"""A message's octets as they are sent: every line ends in CRLF, the last one too."""

from __future__ import annotations

import os
from collections.abc import Iterator

from postoffice.protocol.downgrade import HEADER_MAXIMUM, growth_of
from postoffice.store.names import Measured

#: Octets that are read at once.
PIECE = 256 << 10


class Normalizer:
    """Turns LF into CRLF, piece by piece, and leaves CRLF as it is."""

    def __init__(self) -> None:
        self._last = b""  # the last octet that was seen
        self.size = 0  # octets given out

    def feed(self, data: bytes) -> bytes:
        """Convert the next octets."""
        if not data:
            return data
        if not _bare_lfs(data):  # as most
            self._last = data[-1:]
            self.size += len(data)
            return data
        whole = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if self._last == b"\r" and data.startswith(b"\n"):
            whole = whole[1:]  # its CR has been sent already
        self._last = data[-1:]
        self.size += len(whole)
        return whole

    def end(self) -> bytes:
        """The CRLF that the last line lacks, or nothing."""
        missing = b"" if self._last in (b"", b"\n") else b"\r\n"
        self.size += len(missing)
        return missing


def normal(octets: bytes) -> bytes:
    """Convert a whole text to CRLF line ends; most have them already."""
    if not octets or (octets.endswith(b"\r\n") and not _bare_lfs(octets)):
        return octets
    normalizer = Normalizer()
    return normalizer.feed(octets) + normalizer.end()


def _bare_lfs(octets: bytes) -> int:
    """How many LFs have no CR before them."""
    rest = octets.replace(b"\r\n", b"")  # four times as fast as counting both
    return rest.count(b"\n") if b"\n" in rest else 0


def pieces(fd: int, *, as_it_is: bool) -> Iterator[bytes]:
    """Yield the octets of an open file as they are sent; ``as_it_is``: without conversion."""
    if as_it_is:
        while data := os.read(fd, PIECE):
            yield data
        return
    normalizer = Normalizer()
    while data := os.read(fd, PIECE):
        yield normalizer.feed(data)
    if last := normalizer.end():
        yield last


def measure(fd: int) -> Measured:
    """Measure both forms of an open file, and leave its position at the beginning."""
    size = 0
    last = b""
    for data in pieces(fd, as_it_is=True):
        size += len(data) + _bare_lfs(data)
        if last == b"\r" and data.startswith(b"\n"):
            size -= 1
        last = data[-1:]
    os.lseek(fd, 0, os.SEEK_SET)
    size = size if last in (b"", b"\n") else size + 2
    more = growth(fd)
    return Measured(size, size + more if more else None)


def growth(fd: int, text: bytes | None = None) -> int:
    """How many octets longer the downgraded form is; ``text``: the file's text, if in memory."""
    top = os.pread(fd, HEADER_MAXIMUM + 1, 0) if text is None else text[: HEADER_MAXIMUM + 1]
    if top.isascii():
        return 0
    normalizer = Normalizer()
    sent = normalizer.feed(top)
    return growth_of(sent if len(top) > HEADER_MAXIMUM else sent + normalizer.end())
