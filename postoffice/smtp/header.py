"""
The header of a message: its Message-ID is read, for the log.

No text goes on with the fields before it.  In one that our own user sends, what is
missing is added (RFC 6409 §8).
"""

from __future__ import annotations

import re

from postoffice.model.errors import PermanentFailure
from postoffice.model.reply import HEADER_TOO_LARGE

#: Octets of a header that is looked through.
HEADER_MAXIMUM = 256 << 10
_BLIND = re.compile(rb"(?:resent-)?bcc[ \t]*:", re.IGNORECASE)
#: Some editors put it in front of a text in UTF-8.
_MARK = b"\xef\xbb\xbf"
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
    follows then, an empty line stands before the text, if it shall be ``closed`` here.
    """

    def __init__(self, *, closed: bool = True) -> None:
        self._closed = closed
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
            if not _separates(line):
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
        while _separates(line) and self._drops(line, rest):
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
        closed = held.startswith(b"\r\n") or _FIELD.match(held[:_LINE_MAXIMUM])
        if closed or not self._closed:
            return held
        return b"\r\n" + held


def _separates(line: bytes) -> bool:
    """Whether this may be the separator of an mbox; ``From : somebody`` is a field."""
    return _MBOX.match(line) is not None and _FIELD.match(line[:_LINE_MAXIMUM]) is None


class Completion:
    """
    Completes the header of a text that is read piece by piece.

    ``date`` and ``message_id`` are whole fields, with CRLF, that stand for
    missing ones.  Bcc and Resent-Bcc go: who had a blind copy is nobody's
    business (RFC 5322 §3.6.3, §3.6.6).  What is no header at all gets one.

    A header that breaks off, at a line that is no field, is closed there, and the lines
    behind it are body.  Bcc goes there, too, up to the first empty line; as it does
    where the text begins with an empty line.
    """

    def __init__(self, date: bytes, message_id: bytes) -> None:
        self._opening = Opening(closed=False)
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
        end = self._held.find(b"\r\n\r\n", start) + 2
        if end < 2:
            return self._hold_on()
        return self._pass_on(end)

    def _hold_on(self) -> bytes:
        """The empty line is not there yet: a header may be so large, a body any size."""
        if len(self._held) <= HEADER_MAXIMUM:
            return b""
        end = self._held.rfind(b"\r\n") + 2
        if end > 2 and self._look_through(bytes(self._held[:end]))[1]:
            return self._pass_on(end)
        raise PermanentFailure("a header without end", HEADER_TOO_LARGE)

    def end(self) -> bytes:
        """The text is over: what is left of it."""
        octets = self._complete(self._opening.end())
        return octets if self._done else octets + self._pass_on(len(self._held))

    def _pass_on(self, end: int) -> bytes:
        self._done = True
        header, rest = bytes(self._held[:end]), bytes(self._held[end:])
        self._held.clear()
        kept, body = self._look_through(header)
        rest = body + rest
        empty = b"" if rest.startswith(b"\r\n") else b"\r\n"  # where the header ends
        return b"".join([*kept, *self._missing.values(), empty, rest])

    def _look_through(self, header: bytes) -> tuple[list[bytes], bytes]:
        """Its lines that stay, and those behind the first line that is none of a header's."""
        kept: list[bytes] = []
        body: list[bytes] = []
        drop = broken = False
        if _FIELD.match(header.removeprefix(_MARK)):
            header = header.removeprefix(_MARK)
        for number, line in enumerate(re.findall(rb".*?\r\n|.+\Z", header, re.DOTALL)):
            field = _FIELD.match(line)
            continued = line.startswith((b" ", b"\t")) and number > 0
            broken = broken or (field is None and not continued)
            drop = (drop and continued) or _BLIND.match(line) is not None
            if field is not None and not broken:
                self._missing.pop(field[1].lower(), None)
            if not drop:
                (body if broken else kept).append(line)
        return kept, b"".join(body)


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
