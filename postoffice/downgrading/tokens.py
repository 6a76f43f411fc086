"""The tokens of structured header fields (RFC 5322 §3.2), and what is made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from postoffice.downgrading.words import Word, unstructured, written

SPACE, COMMENT, QUOTED, LITERAL, SPECIAL, ATOM = range(6)

_TOKEN = re.compile(
    r"""([ \t]+)
    |(\()
    |("[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z))
    |(\[[^\]\\]*(?:\\.[^\]\\]*)*(?:\]|\\?\Z))
    |([<>,:;@)\]])
    |(=\?[^? \t]+\?[BbQq]\?[^? \t]*\?=|[^ \t()<>\[\],:;@"]+)""",
    re.VERBOSE | re.DOTALL,
)
_PARENTHESES = re.compile(r"\\.|[()]", re.DOTALL)
_SEGMENT = re.compile(r"[()]|(?:\\.|[^\\()]|\\\Z)+", re.DOTALL)
_PAIR = re.compile(r"\\(.)", re.DOTALL)


class Token(NamedTuple):
    """Its kind, and the text as it stands there; what does not end, ends with the field."""

    kind: int
    raw: str

    @property
    def plain(self) -> str:
        """What it means: without quotes."""
        if self.kind != QUOTED:
            return self.raw
        return _PAIR.sub(r"\1", self.raw[1:].removesuffix('"'))


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a field's unfolded text; together they are the text."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        assert found is not None, "every character begins a token"
        kind = (found.lastindex or 0) - 1
        end = _end_of_comment(text, at) if kind == COMMENT else found.end()
        yield Token(kind, text[at:end])
        at = end


def _end_of_comment(text: str, start: int) -> int:
    depth = 0
    for found in _PARENTHESES.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    return len(text)


def raw(some: Iterable[Token]) -> str:
    """Tokens as they stand there."""
    return "".join(token.raw for token in some)


def core(some: Iterable[Token]) -> list[Token]:
    """Tokens without spaces and comments."""
    return [token for token in some if token.kind not in (SPACE, COMMENT)]


def comment(text: str) -> str:
    """A comment in ASCII (RFC 6857 §3.1.3)."""
    if text.isascii():
        return text
    return "".join(
        segment if segment.isascii() else unstructured(_PAIR.sub(_letter, segment))
        for segment in _SEGMENT.findall(text)
    )


def _letter(pair: re.Match[str]) -> str:
    """A quoted pair is only undone where it will be encoded for sure."""
    return pair[0] if pair[1].isascii() else pair[1]


def comments(some: Iterable[Token]) -> list[Token]:
    """The same tokens, with their comments in ASCII."""
    return [
        Token(COMMENT, comment(token.raw)) if token.kind == COMMENT else token for token in some
    ]


def phrase(some: Sequence[Token]) -> str:
    """Words in ASCII, quoted or not, with comments between (RFC 6857 §3.1.2, §3.1.5)."""
    if raw(some).isascii():
        return raw(some)
    pieces = [Word("", "")]
    for token in comments(some):
        if token.kind == SPACE:
            if len(pieces) % 2:
                pieces.append(Word(token.raw, token.raw))
            continue
        if not len(pieces) % 2:
            pieces.append(Word(token.raw, token.plain))
        elif token.kind == COMMENT or pieces[-1].raw.endswith(")"):
            if pieces[-1].raw:  # an encoded word stands between spaces
                pieces.append(Word(" ", " "))
                pieces.append(Word(token.raw, token.plain))
            else:
                pieces[-1] = Word(token.raw, token.plain)
        else:
            last = pieces[-1]
            pieces[-1] = Word(last.raw + token.raw, last.plain + token.plain)
    return written(pieces)
