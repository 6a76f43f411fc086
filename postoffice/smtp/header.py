"""
The header of a message: its Message-ID is read, for the log.

No text goes on with the fields before it.  In one that our own user sends, what is
missing is added (RFC 6409 §8).
"""

from __future__ import annotations

import re

from postoffice.errors import PermanentFailure
from postoffice.reply import HEADER_TOO_LARGE

#: Octets of a header that is looked through.
HEADER_MAXIMUM = 256 << 10
_BLIND = (b"bcc", b"resent-bcc")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")


_MBOX = re.compile(rb">?From ")
_MBOX_DATED = re.compile(rb">?From [^\r\n]*[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] ")
#: Octets of a line that is looked at; a longer one is as good as its beginning.
_LINE_MAXIMUM = 1000
#: Separators that are dropped; a text of nothing else costs no more.
_SEPARATORS_MAXIMUM = 20


class Opening:
    """
    Sees to it that a text does not go on with the fields that we put in front of it.

    The separator line of an mbox (``From ``, ``>From ``) is dropped.  Where no field
    follows then, an empty line stands before the text.
    """

    def __init__(self) -> None:
        self._held = b""
        self._done = False
        self._left = _SEPARATORS_MAXIMUM

    def feed(self, data: bytes) -> bytes:
        """Read on: what can be passed on."""
        if self._done:
            return data
        self._held += data
        while not self._done:
            line, end, rest = self._held.partition(b"\r\n")
            if not _MBOX.match(line):
                if not end and len(line) < _LINE_MAXIMUM:
                    return b""
                return self._pass_on()
            after, more, _ = rest.partition(b"\r\n")
            if not end and len(line) < _LINE_MAXIMUM:
                return b""
            if end and not more and len(after) < _LINE_MAXIMUM:
                return b""
            if not self._drops(line, after):
                return self._pass_on()
            self._held = rest
        raise AssertionError("unreachable")

    def end(self) -> bytes:
        """The text is over: what is left of it."""
        if self._done or not self._held:
            return b""
        line, _, rest = self._held.partition(b"\r\n")
        while _MBOX.match(line) and self._drops(line, rest):
            self._held = rest
            line, _, rest = self._held.partition(b"\r\n")
        return self._pass_on() if self._held else b""

    def _drops(self, line: bytes, after: bytes) -> bool:
        """Whether this is a separator, and not the first sentence of a letter."""
        self._left -= 1
        if self._left < 0:
            return False
        if _MBOX_DATED.match(line[:_LINE_MAXIMUM]):
            return True
        return bool(_FIELD.match(after[:_LINE_MAXIMUM]) or _MBOX.match(after))

    def _pass_on(self) -> bytes:
        self._done = True
        held, self._held = self._held, b""
        if held.startswith(b"\r\n") or _FIELD.match(held[:_LINE_MAXIMUM]):
            return held
        return b"\r\n" + held


class Completion:
    """
    Completes the header of a text that is read piece by piece.

    ``date`` and ``message_id`` are whole fields, with CRLF, that stand for
    missing ones.  Bcc and Resent-Bcc go: who had a blind copy is nobody's
    business (RFC 5322 §3.6.3, §3.6.6).  What is no header at all gets one.
    """

    def __init__(self, date: bytes, message_id: bytes) -> None:
        self._opening = Opening()
        self._missing = {b"date": date, b"message-id": message_id}
        self._held = bytearray()
        self._done = False

    def feed(self, data: bytes) -> bytes:
        """Read on: what can be passed on.  Raises PermanentFailure for a header without end."""
        return self._complete(self._opening.feed(data))

    def _complete(self, data: bytes) -> bytes:
        if self._done or not data:
            return data
        # the beginning of the empty line may be at the end of what was held
        start = max(len(self._held) - 3, 0)
        self._held.extend(data)
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
        octets = self._complete(self._opening.end())
        return octets if self._done else octets + self._pass_on(len(self._held))

    def _pass_on(self, end: int) -> bytes:
        self._done = True
        header, rest = bytes(self._held[:end]), bytes(self._held[end:])
        self._held.clear()
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


#: Octets of a header in which its Message-ID is looked for.
SEARCHED = 64 << 10


class MessageIDReader:
    """Reads the Message-ID of a text that comes piece by piece; ``size`` is octets so far."""

    __slots__ = ("_head", "_over", "size")

    def __init__(self) -> None:
        self.size = 0
        self._head = bytearray()
        self._over = False

    def feed(self, data: bytes) -> None:
        """Read on."""
        self.size += len(data)
        if not self._over:
            start = max(len(self._head) - 3, 0)
            self._head += data[: SEARCHED - len(self._head)]
            end = self._head.find(b"\r\n\r\n", start)
            if end >= 0:
                del self._head[end:]
            self._over = end >= 0 or len(self._head) >= SEARCHED

    def found(self) -> str:
        """The Message-ID, or empty where the header has none."""
        head = bytes(self._head)
        lower = b"\n" + head.lower()
        at = lower.find(b"\nmessage-id")
        while at >= 0:
            name, colon, value = head[at : at + 1000].partition(b":")
            if colon and not name[10:].strip(b" \t"):
                return _unfolded(value)
            at = lower.find(b"\nmessage-id", at + 1)
        return ""


def _unfolded(value: bytes) -> str:
    """The value of a field, with its continued lines."""
    lines = value.split(b"\r\n")
    more = [line for line in lines[1:2] if line[:1] in (b" ", b"\t")]
    words = b"".join([lines[0], *more]).split()
    return words[0].decode("utf-8", "backslashreplace") if words else ""
