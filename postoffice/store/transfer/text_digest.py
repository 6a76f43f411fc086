"""The digests of a message as it is sent: of its header and of the whole.  They prove an import."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from postoffice.protocol.wire import TopReader
from postoffice.store.text import Normalizer


class TextDigest:
    """
    Takes a text piece by piece, with CRLF or LF, and digests it with CRLF.

    ``header`` and ``whole`` are SHA-256 in hex, ``size`` the octets and ``lines`` the lines of what
    is sent; valid after ``end``.  The header ends with its empty line, as TOP 0 sends it.
    """

    def __init__(self) -> None:
        self._normalizer = Normalizer()
        self._top = TopReader(0)
        self._header = sha256()
        self._whole = sha256()
        self.lines = 0

    @classmethod
    def of(cls, pieces: Iterable[bytes]) -> TextDigest:
        """The digest of a whole text."""
        digest = cls()
        for piece in pieces:
            digest.feed(piece)
        digest.end()
        return digest

    def feed(self, data: bytes) -> None:
        """Take the next octets."""
        self._take(self._normalizer.feed(data))

    def end(self) -> None:
        """The text is complete; a last line without its end gets one."""
        self._take(self._normalizer.end())

    def _take(self, sent: bytes) -> None:
        self._whole.update(sent)
        self.lines += sent.count(b"\n")
        if not self._top.done:
            self._header.update(self._top.feed(sent))

    @property
    def size(self) -> int:
        return self._normalizer.size

    @property
    def header(self) -> str:
        return self._header.hexdigest()

    @property
    def whole(self) -> str:
        return self._whole.hexdigest()
