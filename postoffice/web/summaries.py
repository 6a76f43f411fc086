"""
What a list shows of messages: date, author and subject, read from their headers.

The functions are plain, and block where they read.  Strangers wrote all that they return.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from email import policy
from email.errors import HeaderParseError
from email.header import decode_header
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime
from itertools import islice

from postoffice.interfaces import IMaildropReader
from postoffice.model.errors import MessageGone
from postoffice.model.listing import Entry, Listing, uidls_of

#: Octets of a header that are read at most, and characters of one of its fields.
HEADER, FIELD = 32 << 10, 1000
#: Pieces of a message that are read at most for its header.
PIECES = 64
#: Octets of a message that may be downloaded at once.
DOWNLOAD = 10 << 20
_PARSER = BytesHeaderParser(policy=policy.compat32)


@dataclass(frozen=True)
class Summary:
    """One message of a list; ``date`` is in seconds since 1970, None where the header has none."""

    uidl: str
    size: int
    date: float | None = None
    author: str = ""
    subject: str = ""


@dataclass(frozen=True)
class Listed:
    """A part of a maildrop, the newest first, and how many messages and octets all of it has."""

    summaries: Sequence[Summary]
    messages: int
    octets: int


def newest(reader: IMaildropReader, skipped: int, most: int) -> Listed:
    """List at most ``most`` messages after the ``skipped`` newest.  Raises TemporaryFailure."""
    entries = reader.entries()
    end = max(len(entries) - skipped, 0)
    shown = [entries[place] for place in range(end - 1, max(end - most, 0) - 1, -1)]
    summaries = [summary(entry, _beginning(reader, entry)) for entry in shown]
    return Listed(summaries, len(entries), Listing(entries).octets)


def whole(reader: IMaildropReader, uidl: str) -> bytes | None:
    """
    Return the text of a message, as it is sent to mail programs; None if there is none.

    Raises ValueError if it is larger than DOWNLOAD.
    """
    found = next(iter(chosen(reader.entries(), (uidl,))), None)
    if found is None:
        return None
    if found.size > DOWNLOAD:
        raise ValueError(f"{found.size} octets")
    try:
        return b"".join(reader.text(found))
    except MessageGone:
        return None


def chosen(entries: Sequence[Entry], uidls: Collection[str]) -> list[Entry]:
    """Return the entries with these UIDLs; of the others none is made."""
    return [entries[place] for place, uidl in enumerate(uidls_of(entries)) if uidl in uidls]


def _beginning(reader: IMaildropReader, entry: Entry) -> bytes:
    octets = b""
    try:
        for piece in islice(reader.text(entry), PIECES):
            octets += piece
            if b"\r\n\r\n" in octets or len(octets) >= HEADER:
                break
    except MessageGone:
        return b""
    return octets[:HEADER].partition(b"\r\n\r\n")[0]


def summary(entry: Entry, header: bytes) -> Summary:
    """Read a header."""
    fields = dict[str, str]()
    for name, value in _PARSER.parsebytes(header + b"\r\n\r\n").raw_items():
        fields.setdefault(name.lower(), value)  # 8-bit octets are surrogates
    return Summary(
        entry.uidl,
        entry.size,
        _date(fields.get("date", "")[:FIELD]),
        decoded(fields.get("from", "")),
        decoded(fields.get("subject", "")),
    )


def decoded(field: str) -> str:
    """Decode encoded words (RFC 2047) and 8-bit octets; what cannot be decoded stays as it is."""
    text = field[:FIELD].replace("\r", "").replace("\n", "").strip()
    try:
        parts = decode_header(text)
    except (HeaderParseError, ValueError):
        parts = []
    return "".join(_part(*part) for part in parts).strip() or _part(text, None)


def _part(octets: bytes | str, charset: str | None) -> str:
    if isinstance(octets, str):
        octets = octets.encode("utf-8", "surrogateescape")
    try:
        return octets.decode(charset or "utf-8")
    except (LookupError, ValueError):  # of a charset that is unknown, or no name at all, too
        return octets.decode("latin-1")


def _date(text: str) -> float | None:
    try:
        when = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return when if 0 <= when < 1 << 33 else None
