"""The digests of a message as it is sent: of its header and of the whole.  They prove an import."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Self

from postoffice.protocol.wire import TopReader
from postoffice.store.text import Normalizer


class NormalizedText:
    """
    Takes a text piece by piece, with CRLF or LF; ``_take`` of a subclass gets it with CRLF.

    ``size`` is the octets and ``lines`` the lines of what is sent; valid after ``end``.  ``_top``
    is for the header, which ends with its empty line, as TOP 0 sends it.
    """

    def __init__(self) -> None:
        self._normalizer = Normalizer()
        self._top = TopReader(0)
        self.lines = 0

    @classmethod
    def of(cls, pieces: Iterable[bytes]) -> Self:
        """Take a whole text."""
        text = cls()
        for piece in pieces:
            text.feed(piece)
        text.end()
        return text

    @property
    def size(self) -> int:
        return self._normalizer.size

    def feed(self, data: bytes) -> None:
        """Take the next octets."""
        self._take(self._normalizer.feed(data))

    def end(self) -> None:
        """The text is complete; a last line without its end gets one."""
        self._take(self._normalizer.end())

    def _take(self, sent: bytes) -> None:
        self.lines += sent.count(b"\n")


class TextDigest(NormalizedText):
    """The digests of a text: ``header`` and ``whole`` are SHA-256 in hex, valid after ``end``."""

    def __init__(self) -> None:
        super().__init__()
        self._header = sha256()
        self._whole = sha256()

    def _take(self, sent: bytes) -> None:
        super()._take(sent)
        self._whole.update(sent)
        if not self._top.done:
            self._header.update(self._top.feed(sent))

    @property
    def header(self) -> str:
        return self._header.hexdigest()

    @property
    def whole(self) -> str:
        return self._whole.hexdigest()
