"""
What SMTP and POP3 share on the wire: command lines, dots, and the line ends we refuse.

Text is never cut into lines: it is searched in bulk, and all that these
readers keep between two calls is a few octets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CRLF = b"\r\n"
#: What ends a text behind DATA (RFC 5321 §4.1.1.4), and nothing else does.
END_OF_TEXT = b"\r\n.\r\n"
#: How a request of HTTP begins, and a handshake of TLS (RFC 8446 §5.1).
_FOREIGN = re.compile(
    rb"[ \t]*(?:(?:GET|POST|PUT|HEAD|CONNECT|OPTIONS|DELETE|PATCH|TRACE|PRI)[ \t]|\x16\x03)", re.I
)
#: Whatever its method; and what stands behind it, where that was too long or ended with LF.
_REQUEST = re.compile(
    rb"[^ \t]+[ \t].*[ \t](?:HTTP|RTSP|SIP)/[0-9](?:\.[0-9])?[ \t]*\Z|Host:[ \t]*[^ \t]+\Z",
    re.I | re.S,
)
#: Octets that a session says before it asks for breath.
OUTPUT_QUANTUM = 64 << 10
#: Commands that a session answers by itself before it asks for breath, however little it says.
STEPS = 16


@dataclass(frozen=True)
class Yield:
    """
    A session's question: may I say more?  None, when the client has taken enough of it.

    ``steps``: how many commands were answered by the session alone, which has
    not said much yet; 0: it has.
    """

    steps: int = 0


def is_request(line: bytes) -> bool:
    """Whether a line that is no command of ours is of a request of HTTP, or what is like it."""
    return _REQUEST.match(line) is not None


class LineTooLong(ValueError):
    """A command line had more octets than its limit; it is gone, whole."""


class BareLineEnd(ValueError):
    """A command line held a CR or LF that is not part of its CRLF; it is gone, whole."""


class LineReader:
    """
    Cuts octets into command lines; what follows a line may be something else (``take``).

    A line ends with CRLF.  One with a CR or LF elsewhere is one wrong command:
    answered once, and nothing of it is obeyed, up to its CRLF.  With ``lf`` a
    LF alone ends a line, too, which endangers nobody where no text follows.
    ``maximum`` is the octets of a line with its CRLF, and may be changed
    between two lines; a longer one is thrown away as it arrives.
    """

    def __init__(self, maximum: int, *, lf: bool = False) -> None:
        self.maximum = maximum
        self._lf = lf
        self._octets = b""
        self._start = 0
        self._overlong = False
        self._returned = False  # the last octet of an overlong line that was thrown away is a CR
        self._dropping = False  # the rest of a line that was answered already

    @property
    def unread(self) -> int:
        """Octets that have arrived and were not taken yet."""
        return len(self._octets) - self._start

    @property
    def foreign(self) -> bool:
        """Whether the next line is of HTTP, or of TLS, as far as it has arrived."""
        return (
            not (self._overlong or self._dropping)
            and _FOREIGN.match(self._octets, self._start) is not None
        )

    def receive(self, data: bytes) -> None:
        """Octets have arrived."""
        self._octets = self._octets[self._start :] + data if self.unread else data
        self._start = 0

    def take(self, most: int | None = None) -> bytes:
        """All that is unread, as it is; or at most so many octets of it."""
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
        if self._dropping and not self._drop():
            return None
        end = self._octets.find(b"\n", self._start)
        if end < 0:
            self._throw_away()
            return None
        line = self._octets[self._start : end + 1]
        self._start = end + 1
        whole = line.endswith(CRLF) or (line == b"\n" and self._returned)
        self._dropping = not (whole or self._lf)
        overlong, self._overlong, self._returned = self._overlong, False, False
        if overlong or len(line) > self.maximum:
            raise LineTooLong
        line = line[:-2] if whole else line[:-1]
        if self._dropping or b"\r" in line:
            raise BareLineEnd
        return line

    def _throw_away(self) -> None:
        """Keep no more of a line than it may have."""
        if self.unread and (self._overlong or self.unread > self.maximum):
            self._overlong = True
            self._returned = self.take().endswith(b"\r")

    def _drop(self) -> bool:
        """Throw away what belongs to a wrong line; whether its end is there."""
        end = self._octets.find(CRLF, self._start)
        if end < 0:
            self._octets, self._start = b"\r" if self._octets.endswith(b"\r") else b"", 0
            return False
        self._start, self._dropping = end + 2, False
        return True


class Judged:
    """
    What the octets of a message's text must keep, whichever way they come.

    ``size`` is octets so far, as they are kept; ``bare`` whether a CR or LF
    stood alone; ``overlong`` whether a line had more than ``maximum_line``
    octets without its CRLF; ``received`` how many Received fields its header has.
    """

    def __init__(self, maximum_line: int) -> None:
        self.size = 0
        self.bare = False
        self.overlong = False
        self._maximum_line = maximum_line
        self._line = 0  # octets of the line at the end of what was read
        self._hops = FieldCounter(b"received")

    @property
    def received(self) -> int:
        return self._hops.count

    def _keep(self, text: bytes) -> bytes:
        """These octets are of the text."""
        self.size += len(text)
        self._hops.feed(text)
        return text

    def _judge(self, octets: bytes) -> None:
        """Look at octets as they came, whose edges divide no CRLF."""
        lines = octets.count(b"\n")
        if lines != octets.count(b"\r") or lines != octets.count(CRLF):
            self.bare = True
        if not lines:
            self._line += len(octets)
            self.overlong |= self._line > self._maximum_line
            return
        start = 0
        limit = self._maximum_line + len(CRLF)
        room = limit - self._line
        while start < len(octets):
            end = octets.rfind(b"\n", start, start + room)
            if end < 0:
                self.overlong |= len(octets) - start >= room
                break
            start, room = end + 1, limit
        self._line = len(octets) - (octets.rfind(b"\n") + 1)
        self.overlong |= self._line > self._maximum_line


class TextReader(Judged):
    """
    Reads the text behind DATA (RFC 5321 §4.5.2): undoes dot-stuffing, finds the end, and judges.

    Only CRLF . CRLF ends it.
    """

    def __init__(self, maximum_line: int) -> None:
        super().__init__(maximum_line)
        self.ended = False
        self._held = CRLF  # what may yet be part of CRLF . CRLF; at first, the one behind DATA
        self._skip = len(CRLF)  # octets of it that are not of the text

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Read on: more of the text, and, once ``ended``, what stands behind the end."""
        data = self._held + data
        end = data.find(END_OF_TEXT)
        self.ended = end >= 0
        stop = end + len(CRLF) if self.ended else len(data) - _beginning_of_an_end(data)
        skip, self._skip = self._skip, max(self._skip - stop, 0)
        self._judge(data[skip:stop])
        self._held = data[stop:]
        parts = data[:stop].split(b"\r\n.")  # faster than replace(), which looks for each twice
        text = CRLF.join(parts) if len(parts) > 1 else parts[0]
        return self._keep(text[skip:]), (data[stop + 3 :] if self.ended else b"")


class ChunkReader(Judged):
    """
    Reads the text that comes by BDAT (RFC 3030): octets as they are, held to the rules of DATA.

    Chunks may be cut anywhere.
    """

    def __init__(self, maximum_line: int) -> None:
        super().__init__(maximum_line)
        self._cr = b""  # may be half of a CRLF
        self._tail = CRLF

    def feed(self, data: bytes) -> bytes:
        """Read on: more of the text."""
        data = self._cr + data
        self._cr = b"\r" if data.endswith(b"\r") else b""
        if self._cr:
            data = data[:-1]
        self._judge(data)
        self._tail = (self._tail + data[-2:])[-2:]
        return self._keep(data)

    def end(self) -> bytes:
        """What the text lacks: its last line may have come without a CRLF."""
        self.bare |= bool(self._cr)
        return b"" if self._tail == CRLF else self._keep(CRLF)


def _beginning_of_an_end(data: bytes) -> int:
    """How many octets at the end of ``data`` may begin the end of a text."""
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
        """Read on; what stands behind the first empty line is not looked at."""
        if not self._in_header:
            return
        data = self._tail + data
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            self._in_header = False
            data = data[: end + 2]
        self.count += data.lower().count(self._field)
        self._tail = data[1 - len(self._field) :]


class DotWriter:
    """Dot-stuffs a text for POP3 (RFC 1939 §3), piece by piece."""

    def __init__(self) -> None:
        self._tail = CRLF

    def write(self, data: bytes) -> bytes:
        """The next octets, stuffed."""
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
        """The line that ends the text."""
        return b".\r\n" if self._tail == CRLF else b"\r\n.\r\n"


class TopReader:
    """The header of a text and the first ``lines`` lines of its body (RFC 1939 §7, TOP)."""

    def __init__(self, lines: int) -> None:
        self.done = False
        self._left = lines
        self._in_header = True
        self._tail = CRLF

    def feed(self, data: bytes) -> bytes:
        """What of ``data`` belongs to it; once ``done``, nothing more will."""
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
