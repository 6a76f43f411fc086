"""
Text that is not ASCII, written in ASCII: encoded words (RFC 2047) and parameters (RFC 2231).

A text is a ``str`` in which octets that are no UTF-8 are surrogates
(``surrogateescape``); nothing is lost of them.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T", str, bytes)

#: Characters of an encoded word, and of a line that has one (RFC 2047 §2).
WORD_MAXIMUM = 75
LINE_MAXIMUM = 76
#: Characters of a parameter with its name, where it goes on in another (RFC 2231 §3).
PARAMETER_MAXIMUM = 70

#: What an encoded word may have as it is, wherever it stands (RFC 2047 §5, the third rule).
_Q = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
#: attribute-char (RFC 2231 §7).
_ATTRIBUTE = frozenset(_Q - frozenset(b"*/") | frozenset(b"#$&.^_`{|}~"))
_ENCODED = re.compile(r"=\?[^? ]+\?[BbQq]\?[^? ]*\?=\Z")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_SPACES = re.compile(r"([ \t]+)")


class Word(NamedTuple):
    """A piece of text between spaces, or the spaces: as it is written, and what it means."""

    raw: str
    plain: str


def text_of(octets: bytes) -> str:
    """Octets as text; what is no UTF-8 is not lost."""
    return octets.decode("utf-8", "surrogateescape")


def charset_of(text: str) -> str:
    """What to call it: octets of which nobody said what they are have a name, too (RFC 1428)."""
    return "unknown-8bit" if _NOT_UTF8.search(text) else "utf-8"


def unstructured(text: str) -> str:
    """A text in which words that are not ASCII are encoded (RFC 6857 §3.1.1)."""
    return written([Word(word, word) for word in _SPACES.split(text)])


def written(pieces: Sequence[Word]) -> str:
    """
    Words and the spaces between them, in turn, as ASCII.

    Neighbours that are not ASCII are encoded as one text, with the spaces
    between them: between encoded words, spaces do not show.  So they are
    encoded, too, where an encoded word stands beside them already.
    """
    out: list[str] = []
    at = 0
    while at < len(pieces):
        last = at
        if not pieces[at].raw.isascii():
            while last + 2 < len(pieces) and not pieces[last + 2].raw.isascii():
                last += 2
            text = "".join(piece.plain for piece in pieces[at : last + 1])
            if at >= 2 and _ENCODED.match(pieces[at - 2].raw):
                text = pieces[at - 1].plain + text
            if last + 2 < len(pieces) and _ENCODED.match(pieces[last + 2].raw):
                text += pieces[last + 1].plain
            out.append(encoded(text))
        else:
            out.append(pieces[at].raw)
        if last + 1 < len(pieces):
            out.append(pieces[last + 1].raw)
        at = last + 2
    return "".join(out)


def encoded(text: str) -> str:
    """A text as encoded words, with a space between two of them; no letter is divided."""
    letters = [letter.encode("utf-8", "surrogateescape") for letter in text]
    quoted = list(map(_quoted, letters))
    q = sum(map(len, quoted)) <= 2 * sum(map(len, letters))  # people can read much of it
    begin = f"=?{charset_of(text)}?{'q' if q else 'b'}?"
    room = WORD_MAXIMUM - len(begin) - len("?=")
    if q:
        bodies = ["".join(some) for some in _filled(quoted, room)]
    else:
        bodies = [b64encode(b"".join(some)).decode() for some in _filled(letters, room // 4 * 3)]
    return " ".join(f"{begin}{body}?=" for body in bodies)


def _quoted(letter: bytes) -> str:
    if letter == b" ":
        return "_"
    return "".join(chr(octet) if octet in _Q else f"={octet:02X}" for octet in letter)


def _filled(pieces: Sequence[T], room: int) -> Iterator[list[T]]:
    """As many pieces together as there is room for."""
    some: list[T] = []
    left = room
    for piece in pieces:
        if len(piece) > left and some:
            yield some
            some, left = [], room
        some.append(piece)
        left -= len(piece)
    yield some


def parameter(name: str, value: str) -> str:
    """A parameter of a MIME field, extended, and continued where it is long (RFC 2231)."""
    letters = [percented(letter) for letter in value]
    begin = f"{charset_of(value)}''"
    if len(name) + len(begin) + sum(map(len, letters)) + len("*=") <= PARAMETER_MAXIMUM:
        return f"{name}*={begin}{''.join(letters)}"
    room = max(PARAMETER_MAXIMUM - len(name) - len(begin) - len("*00*="), 12)
    parts = map("".join, _filled(letters, room))
    return "; ".join(
        f"{name}*{number}*={'' if number else begin}{part}" for number, part in enumerate(parts)
    )


def percented(letter: str) -> str:
    """A letter as it stands in an extended parameter."""
    octets = letter.encode("utf-8", "surrogateescape")
    return "".join(chr(octet) if octet in _ATTRIBUTE else f"%{octet:02X}" for octet in octets)


def folded(line: str) -> str:
    """A field's line, folded at spaces where it is too long (RFC 5322 §2.2.3)."""
    first, *rest = _SPACES.split(line)
    out = [first]
    column = len(first)
    for space, word in zip(rest[::2], rest[1::2], strict=True):
        if column + len(space) + len(word) > LINE_MAXIMUM and word and column:
            out.append("\r\n")
            column = 0
        out += (space, word)
        column += len(space) + len(word)
    return "".join(out)
