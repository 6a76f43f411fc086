"""When a message arrived at the server that has it now, by its header."""

from __future__ import annotations

import re
from email.utils import mktime_tz, parsedate_tz

#: Octets of a header that are looked at.
HEADER_MAXIMUM = 64 << 10
_FOLD = re.compile(rb"\r?\n[ \t]+")


def arrived(header: bytes, latest: float) -> float | None:
    """
    The time of the topmost Received field, else of Date: seconds since 1970, not after ``latest``.

    None if the header has no such time.
    """
    top = header[:HEADER_MAXIMUM].partition(b"\r\n\r\n")[0]
    fields = _FOLD.sub(b" ", top).split(b"\n")
    for name in (b"received", b"date"):
        value = next((rest for one, rest in map(_split, fields) if one == name), None)
        if value is not None:
            found = _time(value.rpartition(b";")[2] if name == b"received" else value)
            if found is not None:
                return min(found, latest)
    return None


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value


def _time(text: bytes) -> float | None:
    try:
        read = parsedate_tz(text[:200].decode("ascii", "replace"))
        found = None if read is None else float(mktime_tz(read))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return found if found is not None and found > 0 else None
