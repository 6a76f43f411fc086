"""
Whole messages, piece by piece, in the form for clients without UTF-8 (RFC 6857).

Header fields are converted, the message's own and those of its parts, at all
levels; texts stay as they are, eight bits and all.  Names of files hold the
sizes of what comes out here (``maildrop.names``): whoever changes what comes
out gives the size in those names another letter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from postoffice.downgrading.fields import NAME, downgraded, parameters
from postoffice.downgrading.words import text_of

#: Octets of a field that is converted, and of a line that may divide parts.
FIELD_MAXIMUM = 64 << 10
DELIMITER_MAXIMUM = 998
#: Multiparts in multiparts that are looked into.
DEPTH_MAXIMUM = 100
#: Fields, and lines that may divide parts, that are looked at; an octet that is
#: converted counts as eight, one of a type as four.  It is about a second of work.
EFFORT = 1 << 19

_CRLF = b"\r\n"
_IDENTITY = ("", "7bit", "8bit", "binary")
#: What a header is of: the message, one of its parts, or (no header at all, but
#: fields all the same) what became of a delivery (RFC 3464 §2.1, RFC 6533 §3).
MESSAGE, PART, STATUS = range(3)
_RECIPIENTS = (b"original-recipient", b"final-recipient")


class _Multipart(NamedTuple):
    boundary: bytes
    digest: bool
    hides: int | None  # the level of another one with this boundary


class Downgrader:
    """
    Converts one message; give it the octets as they are sent, in any pieces.

    ``size`` is octets given out; ``changed`` whether anything was converted;
    ``failed`` whether there was something that should have been, and could not.
    """

    def __init__(self) -> None:
        self.size = 0
        self.changed = False
        self.failed = False
        self._held = b""
        self._seen = 0  # octets of it in which no field ends
        self._open: list[_Multipart] = []
        self._levels: dict[bytes, int] = {}  # by boundary
        self._overlong = False  # in the midst of a field that is not converted
        self._blind = False  # there are parts that are not looked into
        self._effort = EFFORT
        self._line_begins = True  # in what is not a header
        self._begin_header(MESSAGE)

    def _begin_header(self, kind: int) -> None:
        self._kind: int | None = kind  # None: in no header
        self._type = b""  # as it is given out: what a client goes by
        self._came_as = b""
        self._encoding = b""

    def feed(self, data: bytes) -> bytes:
        """The next octets."""
        return self._go_on(data, last=False)

    def end(self) -> bytes:
        """The rest; no more will come."""
        return self._go_on(b"", last=True)

    def _go_on(self, data: bytes, *, last: bool) -> bytes:
        out: list[bytes] = []
        data = self._held + data
        at = 0
        more = True
        while at < len(data) and more:
            before = len(out)
            step = self._text if self._kind is None else self._header
            at, more = step(data, at, out, last)
            if self._blind:
                self.failed |= not all(piece.isascii() for piece in out[before:])
        self._held = data[at:]
        given = b"".join(out)
        self.size += len(given)
        return given

    # -- header ------------------------------------------------------------------

    def _header(self, data: bytes, at: int, out: list[bytes], last: bool) -> tuple[int, bool]:
        """One field, or the end of the header; where to go on, and whether that can be now."""
        end = self._end_of_field(data, at, last)
        if end is None:
            end = len(data) - 3  # a CRLF may have begun, and may not end the field
            if end <= at or (len(data) - at <= FIELD_MAXIMUM and not self._overlong):
                return at, False
            self._overlong = True
            self._seen = 0
            self._leave(data[at:end], out)
            return end, False
        field = data[at:end]
        self._spend(1)
        if self._overlong or len(field) > FIELD_MAXIMUM:
            self._overlong = False
            self._leave(field, out)
        elif field == _CRLF:
            out.append(field)
            if self._kind != STATUS:
                self._end_header()
        elif field.startswith(b"--") and self._is_delimiter(field):
            out.append(field)
        elif self._kind == PART and not field.isascii() and not NAME.match(field):
            self._begin_text()  # whatever is missing before
            return at, True
        else:
            out.append(self._converted(field))
        return end, True

    def _leave(self, octets: bytes, out: list[bytes]) -> None:
        """Too long to be converted, should that be necessary."""
        self.failed |= not octets.isascii()
        out.append(octets)

    def _end_of_field(self, data: bytes, at: int, last: bool) -> int | None:
        """Behind the CRLF that ends the field; None while that is not known."""
        start = max(at, at + self._seen)
        while True:
            found = data.find(_CRLF, start)
            if found < 0:
                break
            alone = found == at or data.startswith(b"--", at)
            if alone and not self._overlong:  # the empty line, or one that may divide parts
                self._seen = 0
                return found + 2
            if found + 2 >= len(data):
                break
            if data[found + 2] not in b" \t":
                self._seen = 0
                return found + 2
            start = found + 2
        if last:
            self._seen = 0
            return len(data)
        self._seen = max(len(data) - at - 2, 0)
        return None

    def _spend(self, effort: int) -> None:
        """Whoever wants too much of us gets the rest as it is."""
        self._effort -= effort
        if self._effort < 0:
            self._blind = True
            self._open.clear()
            self._levels.clear()
            self._begin_text()

    def _converted(self, field: bytes) -> bytes:
        found = NAME.match(field)
        name = found[1].lower() if found else b""
        if self._kind == STATUS and name not in _RECIPIENTS:
            return field
        converted = downgraded(field)
        if found and name == b"content-type" and not self._type:
            self._type, self._came_as = converted[found.end() :], field[found.end() :]
        elif found and name == b"content-transfer-encoding":
            self._encoding = self._encoding or converted[found.end() :]
        if converted is not field:
            self.changed = True
            self._spend(8 * len(field))
        return converted

    def _end_header(self) -> None:
        """What follows is known by the fields that were there."""
        digest = self._kind == PART and bool(self._open) and self._open[-1].digest
        kind, said = _value(self._type)
        kind = kind or ("message/rfc822" if digest else "text/plain")
        encoding, _ = _value(self._encoding)
        self._begin_text()
        self._spend(4 * (len(self._type) + len(self._encoding)))
        if self._blind:
            pass
        elif kind.startswith("multipart/"):
            # of one that is not ASCII nothing is left that its parts could be found by
            self.failed |= not _value(self._came_as)[1].get("boundary", "").isascii()
            self._begin_multipart(said.get("boundary", ""), kind == "multipart/digest")
        elif encoding not in _IDENTITY:
            pass
        elif kind == "message/rfc822":
            self._begin_header(MESSAGE)
        elif kind in ("message/delivery-status", "message/global-delivery-status"):
            self._begin_header(STATUS)

    def _begin_multipart(self, boundary: str, digest: bool) -> None:
        mark = boundary.encode("ascii").rstrip()
        if len(self._open) >= DEPTH_MAXIMUM:
            self._blind = True
        elif mark:
            self._open.append(_Multipart(mark, digest, self._levels.get(mark)))
            self._levels[mark] = len(self._open) - 1

    # -- what is not a header ----------------------------------------------------

    def _begin_text(self) -> None:
        self._kind = None
        self._line_begins = True

    def _text(self, data: bytes, at: int, out: list[bytes], last: bool) -> tuple[int, bool]:
        """On to the next line that may divide parts; as ``_header``."""
        if not self._open:
            out.append(data[at:])
            return len(data), False
        if self._line_begins:
            end = data.find(_CRLF, at, at + DELIMITER_MAXIMUM + 2)
            known = last or end >= 0 or len(data) - at >= DELIMITER_MAXIMUM + 2
            if not known and b"--"[: len(data) - at] == data[at : at + 2]:
                return at, False
            if data.startswith(b"--", at) and (end >= 0 or last):
                end = len(data) if end < 0 else end + 2
                self._spend(1)
                if self._is_delimiter(data[at:end]):
                    out.append(data[at:end])
                    return end, True
            self._line_begins = False
        found = data.find(b"\r\n--", at)
        if found >= 0:
            out.append(data[at : found + 2])
            self._line_begins = True
            return found + 2, True
        kept = 0 if last else next(n for n in (3, 2, 1, 0) if data.endswith(b"\r\n-"[:n]))
        end = max(len(data) - kept, at)
        out.append(data[at:end])
        return end, False

    def _is_delimiter(self, line: bytes) -> bool:
        """Whether this line divides parts (RFC 2046 §5.1.1); then, on to what it begins."""
        mark = line[2:].rstrip(b" \t\r\n")
        level, closes = self._levels.get(mark), False
        if level is None and mark.endswith(b"--"):
            level, closes = self._levels.get(mark[:-2]), True
        if level is None:
            return False
        while len(self._open) > level + (not closes):
            gone = self._open.pop()
            if gone.hides is None:
                del self._levels[gone.boundary]
            else:
                self._levels[gone.boundary] = gone.hides
        if closes:
            self._begin_text()
        else:
            self._begin_header(PART)
        return True


def _value(octets: bytes) -> tuple[str, dict[str, str]]:
    """What a MIME field says, and its parameters."""
    return parameters(text_of(octets.replace(_CRLF, b"").strip()))


def size_of_text(text: bytes) -> int | None:
    """The same as ``size_of``, of a message in one piece; quick for one in ASCII."""
    return None if text.isascii() else size_of([text])


def size_of(pieces: Iterable[bytes]) -> int | None:
    """
    How many octets the converted form of a message has, given as it is sent.

    None where that is the message as it is; 0 where it cannot be converted.
    """
    downgrader = Downgrader()
    for piece in pieces:
        downgrader.feed(piece)
    downgrader.end()
    if downgrader.failed:
        return 0
    return downgrader.size if downgrader.changed else None
