"""The rules of a comparison: two lists of one maildrop's messages, and two texts of a message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple

from postoffice.store.text import Normalizer
from postoffice.store.transfer.text_digest import NormalizedText

#: What a difference means: it must not be; it has a harmless cause; it came since the import.
WRONG, EXPLAINED, NEW = KINDS = ("wrong", "explained", "new")
#: Octets of a header that are kept.
HEADER_MAXIMUM = 1 << 20
#: Fields that servers and programs add or leave out.
_NOTES = re.compile(
    rb"(?:status|x-status|x-uidl|x-uid|x-keywords|x-imap|x-imapbase|content-length|lines)[ \t]*:",
    re.IGNORECASE,
)
_DOTS = re.compile(rb"^\.+", re.MULTILINE)


class Difference(NamedTuple):
    """A difference: its kind, what differs, the message's UIDL, and words for people."""

    kind: str
    what: str
    uidl: str
    text: str


class Seen(NamedTuple):
    """A message as one side lists it; ``size`` is None if it is not known."""

    uidl: str
    size: int | None


@dataclass
class Lists:
    """What the lists say: pairs of positions (there, here) with one UIDL, and the differences."""

    common: list[tuple[int, int]] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)  # positions there, of wrong or new ones
    extra: list[int] = field(default_factory=list)  # positions here, of what came since
    differences: list[Difference] = field(default_factory=list)


def compare_lists(
    there: Sequence[Seen], here: Sequence[Seen], imported: Mapping[str, object]
) -> Lists:
    """Compare by UIDL and order; ``imported`` are the UIDLs that were ever imported."""
    lists = Lists()
    places = {one.uidl: n for n, one in enumerate(here)}
    lists.common = [(n, places[one.uidl]) for n, one in enumerate(there) if one.uidl in places]
    last = lists.common[-1][0] if lists.common else len(there)
    for n, one in enumerate(there):
        if one.uidl in places:
            continue
        if one.uidl in imported:
            said = Difference(EXPLAINED, "deleted", one.uidl, "it was imported, and deleted here")
        elif n > last:
            lists.missing.append(n)
            said = Difference(NEW, "there", one.uidl, "it is not here yet: import again")
        else:
            lists.missing.append(n)
            said = Difference(WRONG, "missing", one.uidl, "it is not here")
        lists.differences.append(said)
    theirs = {one.uidl for one in there}
    for n, one in enumerate(here):
        if one.uidl not in theirs:
            gone = one.uidl in imported
            if not gone:
                lists.extra.append(n)
            lists.differences.append(
                Difference(EXPLAINED, "gone", one.uidl, "it is gone from the old server")
                if gone
                else Difference(NEW, "here", one.uidl, "it arrived here")
            )
    lists.differences += _order(there, lists.common)
    return lists


def _order(there: Sequence[Seen], common: Sequence[tuple[int, int]]) -> Iterator[Difference]:
    for (before, place), (one, other) in pairwise(common):
        if other < place:
            text = f"it is listed behind {there[before].uidl} there, and before it here"
            yield Difference(WRONG, "order", there[one].uidl, text)


class ComparedText(NormalizedText):
    """
    What is kept of a text that goes by: its header, and the digest of its body.

    ``dots`` counts the lines that begin with a dot.
    """

    def __init__(self) -> None:
        super().__init__()
        self._body = sha256()
        self._tail = b"\r\n"
        self._header = bytearray()
        self.dots = 0

    def _take(self, sent: bytes) -> None:
        super()._take(sent)
        self.dots += (self._tail + sent).count(b"\r\n.")
        self._tail = (self._tail + sent)[-2:]
        top = b"" if self._top.done else self._top.feed(sent)
        self._header += top[: HEADER_MAXIMUM - len(self._header)]
        self._body.update(sent[len(top) :])

    @property
    def header(self) -> bytes:
        """The header, with its empty line; of a longer one, the first MiB."""
        return bytes(self._header)

    @property
    def body(self) -> bytes:
        """The digest of the body."""
        return self._body.digest()


def notes(header: bytes) -> bytes:
    """A header without the fields that servers add."""
    kept, keep = [], True
    for line in header.split(b"\r\n"):
        if line[:1] not in (b" ", b"\t"):
            keep = not _NOTES.match(line)
        if keep:
            kept.append(line)
    return b"\r\n".join(kept)


def compare_headers(uidl: str, there: bytes, here: bytes) -> Difference | None:
    """Compare two headers."""
    if there == here:
        return None
    if notes(there) == notes(here):
        text = "only fields like Status and X-UIDL differ in the header"
        return Difference(EXPLAINED, "header", uidl, text)
    if there.rstrip(b"\r\n") == here.rstrip(b"\r\n"):
        return Difference(EXPLAINED, "header", uidl, "only the end of the header differs")
    return Difference(WRONG, "header", uidl, "the header differs")


def compare_sizes(
    uidl: str, listed: int | None, sent: int | None, here: ComparedText
) -> Difference | None:
    """Compare the size that the old server lists, and the one that it sent, with our text."""
    if listed is None or listed == here.size:
        return None
    if listed == here.size - here.lines:
        text = f"the old server lists {listed} octets, with LF; here it is {here.size}, with CRLF"
    elif listed == here.size + here.dots:
        text = f"the old server lists {listed} octets, with the dots that POP3 adds"
    elif sent is not None and listed == sent:
        text = f"the old server's text has {listed} octets, ours {here.size}"
    elif sent is not None:
        text = f"the old server lists {listed} octets, and sends {sent}"
    else:
        return Difference(WRONG, "size", uidl, f"it has {listed} octets there, {here.size} here")
    return Difference(EXPLAINED, "size", uidl, text)


def compare_bodies(uidl: str, there: bytes, here: bytes) -> Difference:
    """Compare two whole texts whose bodies differ: is it the transport?"""
    if _loose(there) == _loose(here):
        text = "only dots at the beginning of lines, or empty lines at the end, differ"
        return Difference(EXPLAINED, "text", uidl, text)
    return Difference(WRONG, "text", uidl, "the text differs")


def _loose(text: bytes) -> bytes:
    normalizer = Normalizer()
    whole = normalizer.feed(text) + normalizer.end()
    body = whole.partition(b"\r\n\r\n")[2]
    return _DOTS.sub(b".", body).rstrip(b"\r\n")
