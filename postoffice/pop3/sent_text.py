"""A message's text on its way to a POP3 client."""

from __future__ import annotations

from postoffice.model.listing import Entry
from postoffice.protocol.downgrade import Downgrader
from postoffice.protocol.wire import DotWriter, TopReader


class SentText:
    """
    The text of message ``number``, piece by piece; LIST promised ``size`` octets to the client.

    It is converted for a client without UTF-8 (RFC 6856 §2.1), cut to its header and
    ``lines`` lines for TOP, and dot-stuffed.  ``ended``: nothing more follows.  ``at_once``:
    all of the stored text was read at once.
    """

    def __init__(self, number: int, entry: Entry, size: int, lines: int | None = None) -> None:
        self.number = number
        self.entry = entry
        self.size = size
        self.ended = self.at_once = False
        self._left = entry.size  # octets of the stored text that are not read yet
        self._downgrader = None if size == entry.size else Downgrader()
        self._dots = DotWriter()
        self.top = None if lines is None else TopReader(lines)

    def convert(self, data: bytes) -> bytes | None:
        """Return the next octets for the client; None if the promised size cannot be kept."""
        self._left -= len(data)
        if self._left < 0 or (self._left and not data):
            return None
        if self._downgrader is not None:
            data = self._downgrader.feed(data) + (b"" if self._left else self._downgrader.end())
            size = self._downgrader.size
            if size > self.size or (size < self.size and not self._left):
                return None
        if self.top is not None:
            data = self.top.feed(data)
        self.ended = not self._left or (self.top is not None and self.top.done)
        data = self._dots.write(data)
        return data + self._dots.end() if self.ended else data
