"""Reads the replies of a server (RFC 5321 §4.2), tolerantly, and within bounds."""

from __future__ import annotations

import re
from functools import lru_cache

from postoffice.model.hop import AUTH, PeerReply
from postoffice.protocol.peer_text import printable

#: Lines of one reply, and its octets; a server that sends more is not heard further.
LINES_MAXIMUM = 100
REPLY_MAXIMUM = 8 << 10
_LINE = re.compile(rb"([2-5][0-9][0-9])(?![0-9])(-?)[ \t]?(.*)\Z", re.DOTALL)
#: A whole reply of one line, as almost all are.
_USUAL = re.compile(rb"([2-5][0-9][0-9])(?![0-9-])[ \t]?([^\r\n]{0,1000})\r?\n")
_STATUS = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|\Z)")

#: Why a server cannot be used: it lacks what we need (RFC 3463 §3.8).
NO_TLS = PeerReply(0, "4.7.4", "The server does not offer TLS (STARTTLS)", "tls")
NO_LOGIN = PeerReply(0, "4.7.9", "The server offers no login (AUTH)", AUTH)
#: The status if TLS fails or is not as it must be; and if a login fails.
TLS_BROKEN, LOGIN_BROKEN = "4.7.5", "4.7.8"
#: The codes with which a server demands a login, or another one (RFC 4954 §6).
LOGIN_WANTED = (530, 534, 535, 538)


class NotAReply(ValueError):
    """The server sent something that is no reply; the message says what."""


class ReplyReader:
    """
    Splits a server's octets into replies.

    A line ends with LF, with or without CR.  The code ends at anything but a digit; only a
    hyphen after it continues the reply.  A line without a code is part of the reply that it
    interrupts.
    """

    def __init__(self) -> None:
        self._octets = b""
        self._lines: list[bytes] = []
        self._kept = 0  # octets of those lines

    @property
    def unread(self) -> int:
        """Octets that have arrived and are not part of a whole reply."""
        return len(self._octets) + self._kept

    def receive(self, data: bytes) -> None:
        """Octets have arrived."""
        self._octets = self._octets + data if self._octets else data

    def clear(self) -> None:
        """Forget what has arrived."""
        self._octets, self._lines, self._kept = b"", [], 0

    def next(self) -> tuple[int, tuple[bytes, ...]] | None:
        """Return the next reply, its code and the text of its lines.  Raises NotAReply."""
        if not self._octets:
            return None
        if not self._lines and (usual := _USUAL.match(self._octets)) is not None:
            self._octets = self._octets[usual.end() :]
            return int(usual[1]), (usual[2],)
        start = 0
        while (end := self._octets.find(b"\n", start)) >= 0:
            line = self._octets[start:end].removesuffix(b"\r")
            start = end + 1
            found = _LINE.match(line)
            if found is None and not self._lines:
                raise NotAReply(f"it sent {printable(line[:80])!r}, which is no reply")
            self._lines.append(line if found is None else found[3])
            self._kept += len(line) + 2
            if self._kept > REPLY_MAXIMUM or len(self._lines) > LINES_MAXIMUM:
                raise NotAReply("its reply is too long")
            if found is not None and not found[2]:
                lines, self._lines, self._kept = self._lines, [], 0
                self._octets = self._octets[start:]
                return int(found[1]), tuple(lines)
        self._octets = self._octets[start:]
        if self.unread > REPLY_MAXIMUM:
            raise NotAReply("its reply is too long")
        return None


@lru_cache(maxsize=256)  # most replies are the same for every message
def peer_reply(code: int, lines: tuple[bytes, ...], phase: str) -> PeerReply:
    """Make the reply's value: its enhanced status code, and one printable line of text."""
    status = ""
    texts = []
    for line in lines:
        found = _STATUS.match(line)
        if found is not None and line[0] == code // 100 + ord("0"):
            status, line = status or found[1].decode(), line[found.end() :]
        texts.append(line)
    return PeerReply(code, status, printable(b" ".join(texts)), phase)
