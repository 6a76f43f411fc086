"""
Convert one header field to ASCII: free text and names become encoded words (RFC 2047).

A field that cannot be parsed without ambiguity stays unchanged.  Each function runs in time
linear in its input.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence

#: Octets of UTF-8 in one encoded word: it then has 60 characters of at most 75 (RFC 2047 §2).
WORD_OCTETS = 36
#: Characters of a line with encoded words at most (RFC 2047 §2).
LINE_MAXIMUM = 76

_SPACES = re.compile(r"([ \t]+)")
_PAIR = re.compile(r"\\(.)")
_ADDRESSES = frozenset(
    b"from sender reply-to to cc bcc resent-from resent-sender resent-reply-to resent-to "
    b"resent-cc resent-bcc return-path disposition-notification-to mail-followup-to "
    b"mail-reply-to".split()
)
_TEXTS = frozenset(
    b"subject comments organization summary thread-topic content-description".split()
)

#: No two kinds of token begin alike, so matching does not backtrack.  In angles is ASCII without
#: angles, parentheses, quotes and backslashes.
_TOKEN = re.compile(
    r"""(?P<space>[ \t]+)
    |(?P<comment>\([^()\\]*+\))
    |(?P<quoted>"[^"\\]*+(?:\\.[^"\\]*+)*+")
    |(?P<angle><[\x00-!#-'*-;=?-\[\]-\x7f]*+>)
    |(?P<mark>[,;:])
    |(?P<word>[^ \t()<>\[\],;:"\\]+)""",
    re.VERBOSE,
)
_Token = tuple[str, str]  # its kind, and the text as written


class _Unclear(ValueError):
    """This field cannot be parsed without ambiguity."""


def is_international(field: bytes) -> bool:
    """Whether a field is not ASCII and is of a kind that is converted."""
    return not field.isascii() and _kind(field) in _METHODS


def converted(field: bytes) -> bytes:
    """Convert a field (whole lines with CRLF) to ASCII; unsafe ones are returned unchanged."""
    # RFC 2047 §6.2: spaces between encoded words are dropped
    if not is_international(field) or b"=?" in field:
        return field
    end = field.index(b":") + 1
    body = field[end:].removesuffix(b"\r\n")
    try:
        text = body.replace(b"\r\n", b"").decode("utf-8")
        out = _folded(field[:end].decode("ascii") + _METHODS[_kind(field)](text))
    except ValueError:
        return field
    return out.encode("ascii") + field[end + len(body) :]


def _kind(field: bytes) -> str:
    name = field.partition(b":")[0].lower()
    if name in _ADDRESSES:
        return "addresses"
    return "text" if name in _TEXTS or name.startswith(b"x-") else ""


def _text(text: str) -> str:
    """Free text: encode everything from the first word that is not ASCII to the last one."""
    words = _SPACES.split(text)
    marked = [place for place, word in enumerate(words) if not word.isascii()]
    first, behind = marked[0], marked[-1] + 1
    middle = _encoded("".join(words[first:behind]))
    return "".join([*words[:first], middle, *words[behind:]])


def _addresses(text: str) -> str:
    """Mailboxes and groups (RFC 5322 §3.4): convert their names.  Raises _Unclear."""
    out: list[str] = []
    some: list[_Token] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _Unclear
        at = found.end()
        if found.lastgroup == "mark":
            out += (_mailbox(some, found[0]), found[0])
            some = []
        else:
            some.append((found.lastgroup or "", found[0]))
    return "".join([*out, _mailbox(some, "")])


def _mailbox(some: Sequence[_Token], mark: str) -> str:
    """Convert one mailbox, or, before a colon, the name of a group.  Raises _Unclear."""
    if all(raw.isascii() for _, raw in some):
        return "".join(raw for _, raw in some)
    kinds = [kind for kind, _ in some]
    angles = kinds.count("angle")
    if angles == 1 and mark != ":":
        name = kinds.index("angle")
    else:
        name = len(some) if mark == ":" and not angles else 0
    behind = [_behind(kind, raw, angles) for kind, raw in some[name:]]
    return "".join([_name(some[:name]), *behind])


def _behind(kind: str, raw: str, angles: int) -> str:
    """Convert a token of an address, or one that follows it.  Raises _Unclear."""
    if kind == "comment" and not raw.isascii():
        return f"({_encoded(raw[1:-1])})"
    if not raw.isascii() or angles > 1 or (angles and kind in ("word", "quoted")):
        raise _Unclear
    return raw


def _name(some: Sequence[_Token]) -> str:
    """Convert a display name of words and quoted strings.  Raises _Unclear."""
    written = "".join(raw for _, raw in some)
    if written.isascii():
        return written
    if any(kind == "comment" or (kind == "word" and "@" in raw) for kind, raw in some):
        raise _Unclear
    said = "".join(_PAIR.sub(r"\1", raw[1:-1]) if kind == "quoted" else raw for kind, raw in some)
    indent = some[0][1] if some[0][0] == "space" else ""
    encoded = _encoded(said.strip(" \t"))
    return f"{indent}{encoded} "


def _encoded(text: str) -> str:
    """A text as encoded words with spaces between them; no character is split."""
    octets = text.encode("utf-8")
    words: list[str] = []
    at = 0
    while at < len(octets):
        end = at + WORD_OCTETS
        while end < len(octets) and octets[end] & 0xC0 == 0x80:
            end -= 1
        words.append(f"=?utf-8?b?{b64encode(octets[at:end]).decode('ascii')}?=")
        at = end
    return " ".join(words)


def _folded(line: str) -> str:
    """Fold a field at spaces where a line would be too long (RFC 5322 §2.2.3)."""
    first, *rest = _SPACES.split(line)
    out, column = [first], len(first)
    for place in range(0, len(rest), 2):
        space, word = rest[place], rest[place + 1]
        if place and word and column + len(space) + len(word) > LINE_MAXIMUM:
            out.append("\r\n")
            column = 0
        out += (space, word)
        column += len(space) + len(word)
    return "".join(out)


_METHODS = {"addresses": _addresses, "text": _text}
