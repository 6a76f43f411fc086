"""The header of a message that our own user sends: what is missing is added (RFC 6409 §8)."""

from __future__ import annotations

import re

from postoffice.errors import PermanentFailure
from postoffice.reply import HEADER_TOO_LARGE

#: Octets of a header that is looked through.
HEADER_MAXIMUM = 256 << 10
_BLIND = (b"bcc", b"resent-bcc")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")


class Completion:
    """
    Completes the header of a text that is read piece by piece.

    ``date`` and ``message_id`` are whole fields, with CRLF, that stand for
    missing ones.  Bcc and Resent-Bcc go: who had a blind copy is nobody's
    business (RFC 5322 §3.6.3, §3.6.6).  What is no header at all gets one.
    """

    def __init__(self, date: bytes, message_id: bytes) -> None:
        self._missing = {b"date": date, b"message-id": message_id}
        self._held = b""
        self._done = False

    def feed(self, data: bytes) -> bytes:
        """Read on: what can be passed on.  Raises PermanentFailure for a header without end."""
        if self._done:
            return data
        # the beginning of the empty line may be at the end of what was held
        start = max(len(self._held) - 3, 0)
        self._held += data
        if self._held.startswith(b"\r\n"):
            end = 0
        else:
            end = self._held.find(b"\r\n\r\n", start) + 2
            if end < 2:
                if len(self._held) > HEADER_MAXIMUM:
                    raise PermanentFailure("a header without end", HEADER_TOO_LARGE)
                return b""
        return self._pass_on(end)

    def end(self) -> bytes:
        """The text is over: what is left of it."""
        return b"" if self._done else self._pass_on(len(self._held))

    def _pass_on(self, end: int) -> bytes:
        self._done = True
        header, rest = self._held[:end], self._held[end:]
        self._held = b""
        kept, body = self._look_through(header)
        if body or not rest:  # no empty line where the header ends
            rest = b"\r\n" + body + rest
        return b"".join([*kept, *self._missing.values(), rest])

    def _look_through(self, header: bytes) -> tuple[list[bytes], bytes]:
        """Its lines that stay, and what follows the first line that is none of a header's."""
        kept: list[bytes] = []
        drop = False
        at = 0
        for line in re.findall(rb".*?\r\n|.+\Z", header, re.DOTALL):
            field = _FIELD.match(line)
            if field is not None:
                name = field[1].lower()
                drop = name in _BLIND
                self._missing.pop(name, None)
            elif not line.startswith((b" ", b"\t")) or not at:
                return kept, header[at:]
            at += len(line)
            if not drop:
                kept.append(line)
        return kept, b""
