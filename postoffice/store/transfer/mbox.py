"""
The mbox format (RFC 4155): its From_ lines, and the quoting of lines that look like one.  Pure.

In the kind mboxrd each line of a message that is "From ", with any number of ">" in front, gets
one more; so reading gives back what was written.  In the kind mboxo only "From " itself gets
one, and nobody can undo that.
"""

from __future__ import annotations

import re
import time
from calendar import timegm

#: A From_ line is not longer.
FROM_MAXIMUM = 1000
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FROM = re.compile(
    rb"From (?:[^\r\n]{0,500} )??(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +"
    rb"(?P<month>" + "|".join(_MONTHS).encode() + rb") +(?P<day>[0-9]{1,2}) +"
    rb"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?"
    rb"(?: +(?:[A-Z][A-Za-z]{1,4}|(?P<zone>[+-][0-9]{4})))? +(?P<year>[0-9]{4})"
    rb"(?: +(?P<behind>[+-][0-9]{4}))?(?: [^\r\n]{0,200})?\r?\n?\Z"
)
_QUOTED = re.compile(rb"^(>*From )", re.M)
_UNQUOTED = re.compile(rb"^>(>*From )", re.M)
_MAY_GO_ON = re.compile(rb"(>*)(?:F(?:r(?:o(?:m)?)?)?)?\Z")
_CRLF = re.compile(rb"(?<!\r)\r\n")


def from_line(sender: bytes, when: float) -> bytes:
    """Make a From_ line: who sent the message, and when it arrived (in UTC)."""
    date = time.asctime(time.gmtime(max(when, 0)))
    return b"From %s %s\n" % (sender or b"MAILER-DAEMON", date.encode("ascii"))


def date_of(line: bytes) -> int | None:
    """The date of a From_ line, in UTC if it has no zone; None if the line is not one."""
    found = _FROM.match(line)
    if found is None:
        return None
    year, day, hour, minute, second = (
        int(found[name] or 0) for name in ("year", "day", "hour", "minute", "second")
    )
    month = _MONTHS.index(found["month"].decode()) + 1
    if not (year >= 1970 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 62):
        return None
    zone = found["zone"] or found["behind"] or b"+0000"
    ahead = (int(zone[1:3]) * 60 + int(zone[3:5])) * (60 if zone[:1] == b"+" else -60)
    return timegm((year, month, day, hour, minute, second)) - ahead


class _Lines:
    """Replaces the beginnings of lines, piece by piece, wherever the pieces are cut."""

    def __init__(self, pattern: re.Pattern[bytes], by: bytes) -> None:
        self._pattern = pattern
        self._by = by
        self._held = b""
        self._inside = False  # what comes next is not the beginning of a line

    def feed(self, data: bytes) -> bytes:
        """Convert the next octets."""
        data = self._held + data
        end = data.rfind(b"\n") + 1
        whole, rest = data[:end], data[end:]
        if (end or not self._inside) and (found := _MAY_GO_ON.match(rest)):
            # this may become such a line; of its ">", the last one is enough to know
            sure = max(found.end(1) - 1, 0)
            self._held = rest[sure:]
            return self._replaced(whole) + rest[:sure]
        self._held = b""
        return self._replaced(data)

    def _replaced(self, data: bytes) -> bytes:
        if not data:
            return data
        start = data.find(b"\n") + 1 if self._inside else 0
        inside, self._inside = self._inside, not data.endswith(b"\n")
        if (inside and not start) or b"From " not in data:
            return data
        return data[:start] + self._pattern.sub(self._by, data[start:])

    def end(self) -> bytes:
        """Return the octets that are still held."""
        held, self._held = self._held, b""
        return self._replaced(held)


class Unquoter(_Lines):
    """Removes what mboxrd puts in front of lines."""

    def __init__(self) -> None:
        super().__init__(_UNQUOTED, rb"\1")


class MboxText:
    """
    Makes a message's octets a text in an mbox, piece by piece: LF line ends, and mboxrd's quoting.

    A line that ends in CR CR LF stays as it is: with LF alone, it would be read as another one.
    """

    def __init__(self) -> None:
        self._quoted = _Lines(_QUOTED, rb">\1")
        self._held = b""  # CRs at the end of what was seen: one, or two
        self._last = b"\n"

    def feed(self, data: bytes) -> bytes:
        """Convert the next octets."""
        data = self._held + data
        end = len(data)
        if data.endswith(b"\r"):
            end -= 2 if data.endswith(b"\r\r") else 1
        self._held = data[end:]
        return self._given(data[:end])

    def _given(self, data: bytes) -> bytes:
        if not data:
            return data
        odd = b"\r\r\n" in data
        text = _CRLF.sub(b"\n", data) if odd else data.replace(b"\r\n", b"\n")
        self._last = text[-1:]
        return self._quoted.feed(text)

    def end(self) -> bytes:
        """The rest, the line end that the last line may lack, and the empty line behind it all."""
        rest = self._given(self._held) + self._quoted.end()
        missing = {b"\n": b"", b"\r": b"\r\n"}.get(self._last, b"\n")
        return rest + missing + b"\n"
