"""
Convert messages, piece by piece, for clients without UTF-8 (RFC 6856 §2.1).

Only the message's own header changes: fields that hold UTF-8 and can be parsed without
ambiguity.  Everything else is sent unchanged.  The conversion never fails.

File names in the store hold the size of the converted message (``store.names``).  If the
conversion changes, that size needs another letter in the file names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from postoffice.protocol.encoded_fields import converted, is_international

#: Octets of the longest header that is converted, and of all fields in it that are converted.
#: Both are checked before the work, which takes a few milliseconds of the reactor's thread.
HEADER_MAXIMUM = 32 << 10
INTERNATIONAL_MAXIMUM = 8 << 10

_CRLF = b"\r\n"
#: A field of whole lines, none of them blank.  The quantifiers are possessive: no backtracking.
_FIELD = re.compile(rb"[!-9;-~]++:[^\r\n]*+(?:\r\n|\Z)(?:[ \t]++[^ \t\r\n][^\r\n]*+(?:\r\n|\Z))*+")


class Downgrader:
    """
    Converts one message; ``feed`` takes it as it is sent, in pieces of any size.

    ``size`` is how many octets were returned; ``changed`` whether any were converted.
    """

    def __init__(self) -> None:
        self.size = 0
        self.changed = False
        self._held: list[bytes] | None = []  # None once the header is converted
        self._octets = 0  # how many are held

    def feed(self, data: bytes) -> bytes:
        """Take the next octets; return what can be sent."""
        if self._held is not None:
            self._held.append(data)
            self._octets += len(data)
            if self._octets <= HEADER_MAXIMUM:
                return b""
            data = self._top()
        self.size += len(data)
        return data

    def end(self) -> bytes:
        """The message is complete; return the rest."""
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
    Convert the header of a message, given whole or as its first HEADER_MAXIMUM + 1 octets or more.

    A longer header stays unchanged, as does one with more than INTERNATIONAL_MAXIMUM
    octets to convert.
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
    The fields of a header, each in whole lines, up to the first line that may end the header.

    Such a line is empty or blank, is neither a field nor a continuation, or has a bare CR or
    LF.  An mbox separator (``From ``) may be the first line.
    """
    at = 0
    if text.startswith(b"From "):
        at = text.find(_CRLF) + 2
        yield text[:at]
    while (found := _FIELD.match(text, at)) is not None:
        yield found[0]
        at = found.end()


def size_of_text(text: bytes) -> int | None:
    """The same as ``size_of``, for a message in one piece."""
    growth = growth_of(text)
    return len(text) + growth if growth else None


def growth_of(top: bytes) -> int:
    """Octets that conversion adds; ``top`` as in ``with_header_converted``."""
    top = top[: HEADER_MAXIMUM + 1]
    return len(with_header_converted(top)) - len(top)


def size_of(pieces: Iterable[bytes]) -> int | None:
    """
    The size of a message after conversion for clients without UTF-8.

    None if conversion does not change the size.
    """
    downgrader = Downgrader()
    came = 0
    for piece in pieces:
        downgrader.feed(piece)
        came += len(piece)
    downgrader.end()
    return None if downgrader.size == came else downgrader.size
