"""
Correct, complete or search a message's header while its text passes in pieces.

Opening separates a text from the trace fields before it, Completion adds missing fields to
a user's message (RFC 6409 §8), MessageIDReader finds the Message-ID for the log, and LoopReader
finds mail loops.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from postoffice.model.address import Address, NotAnAddress
from postoffice.model.errors import PermanentFailure
from postoffice.model.reply import FORWARDED_IN_A_LOOP, HEADER_TOO_LARGE, TOO_MANY_HOPS, Reply

#: Octets of the longest header that is completed.
HEADER_MAXIMUM = 256 << 10
_BLIND = re.compile(rb"(?:resent-)?bcc[ \t]*:", re.IGNORECASE)
#: The byte order mark that some editors put before a UTF-8 text.
_MARK = b"\xef\xbb\xbf"
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")


_MBOX = re.compile(rb">?From ")
_MBOX_DATED = re.compile(rb">?From [^\r\n]*[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] ")
#: Octets of a line that are examined; the rest of a longer line is ignored.
_LINE_MAXIMUM = 1000
#: Separator lines that are dropped at most, to bound the work.
_SEPARATORS_MAXIMUM = 20


class Opening:
    """
    Makes sure that the text does not continue the last field that we wrote before it.

    Separator lines of an mbox (``From ``, ``>From ``) at the beginning are dropped.  If
    the text does not begin with a field, an empty line is put before it, unless
    ``closed`` is False.
    """

    def __init__(self, *, closed: bool = True) -> None:
        self._closed = closed
        self._held = b""
        self._done = False
        self._left = _SEPARATORS_MAXIMUM

    def feed(self, data: bytes) -> bytes:
        """Take more of the text; return what can be passed on."""
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
        """The text is complete; return the rest."""
        if self._done or not self._held:
            return b""
        line, _, rest = self._held.partition(b"\r\n")
        while _separates(line) and self._drops(line, rest):
            self._held = rest
            line, _, rest = self._held.partition(b"\r\n")
        return self._pass_on() if self._held else b""

    def _drops(self, line: bytes, after: bytes) -> bool:
        """Whether this line is an mbox separator, and not the first line of a body."""
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
    """Whether this line may be an mbox separator; ``From : somebody`` is a field."""
    return _MBOX.match(line) is not None and _FIELD.match(line[:_LINE_MAXIMUM]) is None


class Completion:
    """
    Completes the header of a text that is read piece by piece.

    ``date`` and ``message_id`` are whole fields, with CRLF, that are added if the
    header lacks them.  Bcc and Resent-Bcc are removed, so that no recipient learns of
    blind copies (RFC 5322 §3.6.3, §3.6.6).  A text without a header gets one.

    A line that is no field ends the header; it and the lines after it become body.
    Bcc is also removed from these lines, up to the first empty line.  The same holds
    for a text that begins with an empty line.
    """

    def __init__(self, date: bytes, message_id: bytes) -> None:
        self._opening = Opening(closed=False)
        self._missing = {b"date": date, b"message-id": message_id}
        self._held = bytearray()
        self._done = False

    def feed(self, data: bytes) -> bytes:
        """Take more; return what can be passed on.  Raises PermanentFailure for a large header."""
        return self._complete(self._opening.feed(data))

    def _complete(self, data: bytes) -> bytes:
        if self._done or not data:
            return data
        # the empty line may have begun at the end of what was held
        start = max(len(self._held) - 3, 0)
        self._held.extend(data)
        end = self._held.find(b"\r\n\r\n", start) + 2
        if end < 2:
            return self._hold_on()
        return self._pass_on(end)

    def _hold_on(self) -> bytes:
        """No empty line yet: wait for it, unless the header would be too large."""
        if len(self._held) <= HEADER_MAXIMUM:
            return b""
        end = self._held.rfind(b"\r\n") + 2
        if end > 2 and self._look_through(bytes(self._held[:end]))[1]:
            return self._pass_on(end)
        raise PermanentFailure("a header without end", HEADER_TOO_LARGE)

    def end(self) -> bytes:
        """The text is complete; return the rest."""
        octets = self._complete(self._opening.end())
        return octets if self._done else octets + self._pass_on(len(self._held))

    def _pass_on(self, end: int) -> bytes:
        self._done = True
        header, rest = bytes(self._held[:end]), bytes(self._held[end:])
        self._held.clear()
        kept, body = self._look_through(header)
        rest = body + rest
        empty = b"" if rest.startswith(b"\r\n") else b"\r\n"  # the line that ends the header
        return b"".join([*kept, *self._missing.values(), empty, rest])

    def _look_through(self, header: bytes) -> tuple[list[bytes], bytes]:
        """The header's lines that stay, and the lines from the first one that is no field."""
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


#: Octets of a header that are searched for the Message-ID, and for a loop.
SEARCHED = 64 << 10


class HeaderReader:
    """
    Keeps the header of a text that arrives in pieces, at most ``most`` octets of it.

    ``size`` is octets of the text so far.
    """

    __slots__ = ("_head", "_most", "_over", "size")

    def __init__(self, most: int = SEARCHED) -> None:
        self.size = 0
        self._most = most
        self._head = bytearray()
        self._over = False

    def feed(self, data: bytes) -> None:
        """Take more of the text."""
        self.size += len(data)
        if not self._over:
            start = max(len(self._head) - 3, 0)
            self._head += data[: self._most - len(self._head)]
            empty = self._head.startswith(b"\r\n")
            end = 0 if empty else self._head.find(b"\r\n\r\n", start)
            if end >= 0:
                del self._head[end:]
            self._over = end >= 0 or len(self._head) >= self._most


class MessageIDReader(HeaderReader):
    """Finds the Message-ID of a text that arrives in pieces."""

    __slots__ = ()

    def found(self) -> str:
        """The Message-ID; empty if the header has none."""
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
    """Return the first word of a field's value; it may be on the next, folded line."""
    lines = value.split(b"\r\n")
    more = [line for line in lines[1:2] if line[:1] in (b" ", b"\t")]
    words = b"".join([lines[0], *more]).split()
    return words[0].decode("utf-8", "backslashreplace") if words else ""


#: A message with more Received fields goes to no other server (RFC 5321 §6.3).
HOPS = 50
_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_DELIVERED_TO = re.compile(
    rb"^delivered-to[ \t]*:[ \t]*<?([^\r\n>]+)", re.IGNORECASE | re.MULTILINE
)


class LoopReader(HeaderReader):
    """
    Finds out whether a text that goes to other servers has come round in a loop.

    It has if it passed many servers, or if it says that it was delivered already to one of the
    ``targets``, the addresses to which it is forwarded (in normal form).
    """

    __slots__ = ("_targets",)

    def __init__(self, targets: Collection[str]) -> None:
        super().__init__()
        self._targets = frozenset(targets)

    def objection(self) -> Reply | None:
        """The refusal of the text, which is complete, if it is in a loop."""
        head = bytes(self._head)
        if len(_RECEIVED.findall(head)) > HOPS:
            return TOO_MANY_HOPS
        if self._targets and not self._targets.isdisjoint(
            _normal(one) for one in _DELIVERED_TO.findall(head)
        ):
            return FORWARDED_IN_A_LOOP
        return None


def _normal(octets: bytes) -> str:
    try:
        return Address.parse(octets.decode("utf-8", "replace").strip()).normal
    except NotAnAddress:
        return ""
