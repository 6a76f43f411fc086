"""
Whole messages, piece by piece, in the form for clients without UTF-8 (RFC 6856 §2.1).

Only the top of a message changes: fields of its own header that are UTF-8 and can be read
without doubt.  Everything else goes out as it came.  No message fails.

Names of files hold the sizes of what comes out here (``store.names``): whoever changes what
comes out gives the size in those names another letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from postoffice.protocol.encoded_fields import converted, is_international

#: Octets of a header that is looked at, and of those fields in it that can be converted.  They
#: are counted before the work is done: it takes the reactor's thread a few milliseconds.
HEADER_MAXIMUM = 32 << 10
INTERNATIONAL_MAXIMUM = 8 << 10

_CRLF = b"\r\n"
#: Whole lines, none of them of blanks alone.  No repetition gives back what it has taken.
_FIELD = re.compile(rb"[!-9;-~]++:[^\r\n]*+(?:\r\n|\Z)(?:[ \t]++[^ \t\r\n][^\r\n]*+(?:\r\n|\Z))*+")


class Downgrader:
    """
    Converts one message; give it the octets as they are sent, in any pieces.

    ``size`` is octets given out; ``changed`` whether anything was converted.
    """

    def __init__(self) -> None:
        self.size = 0
        self.changed = False
        self._held: list[bytes] | None = []  # None once the top is through
        self._octets = 0  # of what is held

    def feed(self, data: bytes) -> bytes:
        """The next octets."""
        if self._held is not None:
            self._held.append(data)
            self._octets += len(data)
            if self._octets <= HEADER_MAXIMUM:
                return b""
            data = self._top()
        self.size += len(data)
        return data

    def end(self) -> bytes:
        """The rest; no more will come."""
        data = b"" if self._held is None else self._top()
        self.size += len(data)
        return data

    def _top(self) -> bytes:
        came = b"".join(self._held or ())
        self._held = None
        out = with_header_converted(came)
        self.changed = out != came
        return out


def with_header_converted(text: bytes) -> bytes:
    """
    A message, or more than HEADER_MAXIMUM octets of its beginning, with its header converted.

    A header that is longer stays as it is; so does one with too much to convert.
    """
    top = text
    if len(text) > HEADER_MAXIMUM:
        top = text[: text.rfind(_CRLF, 0, HEADER_MAXIMUM) + 2]  # whole lines
    if top.isascii():
        return text
    fields = list(_fields(top))
    end = sum(map(len, fields))
    if end == len(top) < len(text):  # the header goes on, or may do so
        return text
    if sum(len(field) for field in fields if is_international(field)) > INTERNATIONAL_MAXIMUM:
        return text
    return b"".join([*map(converted, fields), text[end:]])


def _fields(text: bytes) -> Iterator[bytes]:
    """
    The fields of a header, whole lines each, up to what any reader takes for its end.

    That is an empty line, one of blanks, one that is no field and continues none, and one with a
    CR or LF of its own.  The line that begins a message in an mbox may stand first.
    """
    at = 0
    if text.startswith(b"From "):
        at = text.find(_CRLF) + 2
        yield text[:at]
    while (found := _FIELD.match(text, at)) is not None:
        yield found[0]
        at = found.end()


def size_of_text(text: bytes) -> int | None:
    """The same as ``size_of``, of a message in one piece."""
    growth = growth_of(text)
    return len(text) + growth if growth else None


def growth_of(top: bytes) -> int:
    """Octets that conversion adds, of a message or more than HEADER_MAXIMUM of its beginning."""
    top = top[: HEADER_MAXIMUM + 1]
    return len(with_header_converted(top)) - len(top)


def size_of(pieces: Iterable[bytes]) -> int | None:
    """
    How many octets the form for clients without UTF-8 has, of a message as it is sent.

    None where that is the message as it is.
    """
    downgrader = Downgrader()
    came = 0
    for piece in pieces:
        downgrader.feed(piece)
        came += len(piece)
    downgrader.end()
    return None if downgrader.size == came else downgrader.size
