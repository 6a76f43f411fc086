"""A message's text on its way to a POP3 client."""

from __future__ import annotations

from postoffice.protocol.downgrade import Downgrader
from postoffice.protocol.wire import DotWriter, TopReader


class SentText:
    """
    The text of message ``number``, piece by piece; LIST promised ``size`` octets to the client.

    It is converted for a client without UTF-8 (RFC 6856 §2.1), cut to its header and
    ``lines`` lines for TOP, and dot-stuffed.  ``left``: so many octets of the stored text are
    not read yet.  ``at_once``: all of them were read at once.  ``ended``: nothing more follows.
    """

    def __init__(self, number: int, stored: int, size: int, lines: int | None = None) -> None:
        self.number = number
        self.size = size
        self.ended = self.at_once = False
        self.left = stored
        self._downgrader = None if size == stored else Downgrader()
        self._dots = DotWriter()
        self.top = None if lines is None else TopReader(lines)

    def convert(self, data: bytes) -> bytes | None:
        """Return the next octets for the client; None if the promised size cannot be kept."""
        self.left -= len(data)
        if self.left < 0 or (self.left and not data):
            return None
        if self._downgrader is not None:
            data = self._downgrader.feed(data) + (b"" if self.left else self._downgrader.end())
            size = self._downgrader.size
            if size > self.size or (size < self.size and not self.left):
                return None
        if self.top is not None:
            data = self.top.feed(data)
        self.ended = not self.left or (self.top is not None and self.top.done)
        data = self._dots.write(data)
        return data + self._dots.end() if self.ended else data
