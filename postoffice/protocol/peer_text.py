"""The texts of other servers, made safe for logs and letters."""

from __future__ import annotations

import re

#: Characters of a reply's text that are kept.
TEXT_MAXIMUM = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def printable(octets: bytes) -> str:
    """Text of a server for logs and letters; what is not printable ASCII is escaped."""
    text = octets.strip()[:TEXT_MAXIMUM].decode("ascii", "backslashreplace")
    if text.isprintable():
        return text
    text = text.replace("\t", " ")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
