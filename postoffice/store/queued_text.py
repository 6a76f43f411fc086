"""The text of a message in the queue, as it is read from its file."""

from __future__ import annotations

import os
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from postoffice.interfaces import Executor, IText
from postoffice.model.errors import MessageGone
from postoffice.util.shield import shield, start_work

#: Octets of a text that are read at once.
PIECE = 256 << 10


def read_piece(fd: int, left: Sequence[tuple[int, int]]) -> tuple[bytes, list[tuple[int, int]]]:
    """Read the next octets of these ranges; return them, and what is left then."""
    (start, end), *rest = left
    octets = os.pread(fd, min(PIECE, end - start), start)
    start += len(octets)
    if start < end:
        if not octets:
            raise MessageGone("a message became shorter while it was read")
        return octets, [(start, end), *rest]
    return octets, list(rest)


@implementer(IText)
class QueuedText:
    """The text of a message as it is sent: ``first``, then the octets ``left`` of a file."""

    def __init__(
        self, executor: Executor, fd: int, first: bytes, left: list[tuple[int, int]]
    ) -> None:
        self._executor = executor
        self._fd = fd
        self._first = first
        self._left = left
        self._reading: Deferred[tuple[bytes, list[tuple[int, int]]]] | None = None

    async def read(self) -> bytes:
        octets, self._first = self._first, b""
        while not octets and self._left and self._fd >= 0:
            self._reading = start_work(self._executor.run(read_piece, self._fd, self._left))
            octets, self._left = await shield(self._reading)
        return octets

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        self._first = b""
        if fd >= 0:
            if self._reading is None:
                os.close(fd)
            else:
                self._reading.addBoth(lambda _: os.close(fd))  # not while a thread reads from it
