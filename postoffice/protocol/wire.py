"""
What SMTP and POP3 share on the wire: command lines, dot-stuffing, and bare CR or LF.

Text is never split into lines: it is searched in bulk, and the readers keep only
a few octets between two calls.
"""

from __future__ import annotations

import re

CRLF = b"\r\n"
#: The only end of a text after DATA (RFC 5321 §4.1.1.4).
END_OF_TEXT = b"\r\n.\r\n"
#: The beginning of an HTTP request, or of a TLS handshake (RFC 8446 §5.1); its first octets.
_FOREIGN_FIRST = frozenset(b" \tGPHCODTgphcodt\x16")
_FOREIGN = re.compile(
    rb"[ \t]*(?:(?:GET|POST|PUT|HEAD|CONNECT|OPTIONS|DELETE|PATCH|TRACE|PRI)[ \t]|\x16\x03)", re.I
)
#: An HTTP request line with any method; or a Host field, if the request line was refused.
_REQUEST = re.compile(
    rb"[^ \t]+[ \t].*[ \t](?:HTTP|RTSP|SIP)/[0-9](?:\.[0-9])?[ \t]*\Z|Host:[ \t]*[^ \t]+\Z",
    re.I | re.S,
)
#: Octets of output after which a session yields.
OUTPUT_QUANTUM = 64 << 10
#: Commands that a session answers by itself before it yields, however short its output.
STEPS = 16


def is_request(line: bytes) -> bool:
    """Whether an unknown command line is part of an HTTP request, or of a similar protocol."""
    return _REQUEST.match(line) is not None


class LineTooLong(ValueError):
    """A command line had more octets than its limit; the whole line was discarded."""


class BareLineEnd(ValueError):
    """A command line had a bare CR or LF; the whole line was discarded."""


class LineReader:
    """
    Splits input into command lines; ``take`` returns input that is not lines.

    A line ends with CRLF.  A line with a CR or LF elsewhere counts as one wrong
    command: it is answered once, and nothing of it is obeyed, up to its CRLF.
    With ``lf``, a bare LF ends a line, too; that is safe in POP3, where no message
    text follows a command.  ``maximum`` is how many octets a line may have with
    its CRLF; it may be changed between two lines.  A longer line is discarded as
    it arrives.
    """

    def __init__(self, maximum: int, *, lf: bool = False) -> None:
        self.maximum = maximum
        self._lf = lf
        self._octets = b""
        self._start = 0
        self._overlong = False
        self._discarded_cr = False  # the last discarded octet of an overlong line was a CR
        self._skipping = False  # the rest of a line that was refused already

    @property
    def unread(self) -> int:
        """Octets of input that were not returned yet."""
        return len(self._octets) - self._start

    @property
    def foreign(self) -> bool:
        """Whether the input begins like HTTP or TLS, as far as it has arrived."""
        octets, start = self._octets, self._start
        return (
            start < len(octets)
            and octets[start] in _FOREIGN_FIRST  # most lines end here
            and not (self._overlong or self._skipping)
            and _FOREIGN.match(octets, start) is not None
        )

    def receive(self, data: bytes) -> None:
        """Octets have arrived."""
        self._octets = self._octets[self._start :] + data if self.unread else data
        self._start = 0

    def take(self, most: int | None = None) -> bytes:
        """Return all unread octets, or at most ``most`` of them."""
        if most is not None and most < self.unread:
            self._start += most
            return self._octets[self._start - most : self._start]
        octets = self._octets[self._start :] if self._start else self._octets
        self._octets, self._start = b"", 0
        return octets

    def next(self) -> bytes | None:
        """
        The next line without its CRLF, or None if there is no whole one yet.

        Raises LineTooLong or BareLineEnd, once for each such line.
        """
        if self._skipping and not self._skip_line():
            return None
        start = self._start
        end = self._octets.find(b"\n", start)
        if end < 0:
            self._discard_overlong()
            return None
        line = self._octets[start : end + 1]
        self._start = end + 1
        if (  # the usual line: its only CR is in its CRLF
            line.find(b"\r") == end - start - 1 >= 0
            and not self._overlong
            and end - start < self.maximum
        ):
            self._discarded_cr = False
            return line[:-2]
        whole = line.endswith(CRLF) or (line == b"\n" and self._discarded_cr)
        self._skipping = not (whole or self._lf)
        overlong, self._overlong, self._discarded_cr = self._overlong, False, False
        if overlong or len(line) > self.maximum:
            raise LineTooLong
        line = line[:-2] if whole else line[:-1]
        if self._skipping or b"\r" in line:
            raise BareLineEnd
        return line

    def _discard_overlong(self) -> None:
        """Discard what has arrived of a line that is too long."""
        if self.unread and (self._overlong or self.unread > self.maximum):
            self._overlong = True
            self._discarded_cr = self.take().endswith(b"\r")

    def _skip_line(self) -> bool:
        """Skip the rest of a refused line; return whether its end has arrived."""
        end = self._octets.find(CRLF, self._start)
        if end < 0:
            self._octets, self._start = b"\r" if self._octets.endswith(b"\r") else b"", 0
            return False
        self._start, self._skipping = end + 2, False
        return True


class TextChecks:
    """
    Checks a message's text, for DATA and BDAT alike.

    ``size`` is octets so far, dot-stuffing undone; ``bare`` whether there was a
    bare CR or LF; ``overlong`` whether a line had more than ``maximum_line`` octets
    without its CRLF; ``received`` how many Received fields the header has.
    """

    def __init__(self, maximum_line: int) -> None:
        self.size = 0
        self.bare = False
        self.overlong = False
        self._maximum_line = maximum_line
        self._line = 0  # octets so far of the last line
        self._hops = FieldCounter(b"received")

    @property
    def received(self) -> int:
        return self._hops.count

    def _keep(self, text: bytes) -> bytes:
        """Count octets of the text, and return them."""
        self.size += len(text)
        self._hops.feed(text)
        return text

    def _check(self, octets: bytes) -> None:
        """Check octets as they arrived; no CRLF may be split between two calls."""
        rest = octets.replace(CRLF, b"")  # several times as fast as counting CR, LF and CRLF
        bare_lf = b"\n" in rest
        self.bare |= bare_lf or b"\r" in rest
        if len(rest) == len(octets) and not bare_lf:
            self._line += len(octets)
            self.overlong |= self._line > self._maximum_line
            return
        limit = self._maximum_line + len(CRLF)
        room = limit - self._line
        if len(octets) >= room:  # otherwise no line can be too long
            start = 0
            while start < len(octets):
                end = octets.rfind(b"\n", start, start + room)
                if end < 0:
                    self.overlong |= len(octets) - start >= room
                    break
                start, room = end + 1, limit
        self._line = len(octets) - (octets.rfind(b"\n") + 1)
        self.overlong |= self._line > self._maximum_line


class TextReader(TextChecks):
    """
    Reads the text after DATA (RFC 5321 §4.5.2): undoes dot-stuffing, finds the end, and checks.

    Only CRLF . CRLF ends the text.
    """

    def __init__(self, maximum_line: int) -> None:
        super().__init__(maximum_line)
        self.ended = False
        self._held = CRLF  # octets that may begin CRLF . CRLF; at first, the CRLF after DATA
        self._skip = len(CRLF)  # held octets that are not part of the text

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take more input; return more of the text and, once ``ended``, the input after it."""
        if self._held:
            data = self._held + data
        dot = data.find(b"\r\n.")  # in most texts the only one is that of its end
        end = data.find(END_OF_TEXT, dot) if dot >= 0 else -1
        self.ended = end >= 0
        stop = end + len(CRLF) if self.ended else len(data) - _beginning_of_an_end(data)
        rest = data[stop + 3 :] if self.ended else b""
        self._held = data[stop:]
        skip, self._skip = self._skip, max(self._skip - stop, 0)
        text = data[skip:stop]
        self._check(text)
        if 0 <= dot < stop - len(CRLF):
            # split() is faster than replace(), which looks for each twice
            text = CRLF.join(data[:stop].split(b"\r\n."))[skip:]
        return self._keep(text), rest


class UncheckedReader(TextReader):
    """A TextReader without checks: for the texts that a POP3 server sends."""

    def __init__(self) -> None:
        super().__init__(0)

    def _check(self, octets: bytes) -> None:
        """Accept everything."""


class ChunkReader(TextChecks):
    """
    Reads the text of BDAT (RFC 3030): octets as they are, with the same checks as DATA.

    A chunk may end anywhere, also within a CRLF.
    """

    def __init__(self, maximum_line: int) -> None:
        super().__init__(maximum_line)
        self._cr = b""  # a CR at the end of the input: perhaps half of a CRLF
        self._tail = CRLF

    def feed(self, data: bytes) -> bytes:
        """Take more input; return more of the text."""
        data = self._cr + data
        self._cr = b"\r" if data.endswith(b"\r") else b""
        if self._cr:
            data = data[:-1]
        self._check(data)
        self._tail = (self._tail + data[-2:])[-2:]
        return self._keep(data)

    def end(self) -> bytes:
        """The text is complete; return the CRLF that its last line lacks, if it does."""
        self.bare |= bool(self._cr)
        return b"" if self._tail == CRLF else self._keep(CRLF)


def _beginning_of_an_end(data: bytes) -> int:
    """How many octets at the end of ``data`` may be the beginning of END_OF_TEXT."""
    if not data.endswith((b"\r", b"\n", b".")):
        return 0
    for length in range(len(END_OF_TEXT) - 1, 0, -1):
        if data.endswith(END_OF_TEXT[:length]):
            return length
    return 0


class FieldCounter:
    """Counts the fields of one name in a message's header, in bulk."""

    def __init__(self, name: bytes) -> None:
        self.count = 0
        self._field = CRLF + name.lower() + b":"
        self._tail = CRLF
        self._in_header = True

    def feed(self, data: bytes) -> None:
        """Take more of a message; everything after the first empty line is ignored."""
        if not self._in_header:
            return
        data = self._tail + data
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            self._in_header = False
            self.count += data[: end + 2].lower().count(self._field)
            return
        self.count += data.lower().count(self._field)
        self._tail = data[1 - len(self._field) :]


class DotWriter:
    """Dot-stuffs a text (RFC 1939 §3, RFC 5321 §4.5.2), piece by piece."""

    def __init__(self) -> None:
        self._tail = CRLF

    def write(self, data: bytes) -> bytes:
        """Return the next octets, dot-stuffed."""
        if not data:
            return data
        parts = data.split(b"\r\n.")  # faster than replace(), which looks for each twice
        stuffed = b"\r\n..".join(parts) if len(parts) > 1 else data
        if self._tail == CRLF and data.startswith(b"."):
            stuffed = b"." + stuffed
        elif self._tail.endswith(b"\r") and data.startswith(b"\n."):
            stuffed = b"\n." + stuffed[1:]
        self._tail = (self._tail + data[-2:])[-2:]
        return stuffed

    def end(self) -> bytes:
        """Return the line that ends the text."""
        return b".\r\n" if self._tail == CRLF else b"\r\n.\r\n"


def dot_stuffed(text: bytes) -> bytes:
    """Return a whole text, dot-stuffed, with the line that ends it (``DotWriter``)."""
    parts = text.split(b"\r\n.")
    if len(parts) > 1:
        text = b"\r\n..".join(parts)
    if text.startswith(b"."):
        text = b"." + text
    return text + (b".\r\n" if text.endswith(CRLF) or not text else b"\r\n.\r\n")


class TopReader:
    """The header of a text and the first ``lines`` lines of its body (RFC 1939 §7, TOP)."""

    def __init__(self, lines: int) -> None:
        self.done = False
        self._left = lines
        self._in_header = True
        self._tail = CRLF

    def feed(self, data: bytes) -> bytes:
        """Return the part of ``data`` that TOP sends; once ``done``, nothing more follows."""
        start = 0
        if self._in_header:
            joined = self._tail + data
            end = joined.find(b"\r\n\r\n")
            if end < 0:
                self._tail = joined[-3:]
                return data
            self._in_header = False
            start = end + 4 - len(self._tail)
        return data[: self._end_of_lines(data, start)]

    def _end_of_lines(self, data: bytes, start: int) -> int:
        lines = data.count(b"\n", start)
        if lines < self._left:
            self._left -= lines
            return len(data)
        while self._left:
            start = data.index(b"\n", start) + 1
            self._left -= 1
        self.done = True
        return start
