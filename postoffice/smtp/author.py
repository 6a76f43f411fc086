"""The addresses in a message's From fields, read tolerantly."""

from __future__ import annotations

import re

from postoffice.smtp.header import HeaderReader

#: Octets of a header that are searched for From, and how many addresses are returned at most.
HEADER_MAXIMUM = 512 << 10
MOST = 20

_FROM = re.compile(rb"from[ \t]*:", re.IGNORECASE)
#: Every octet begins exactly one of these pieces, so matching does not backtrack.
_PIECE = re.compile(
    r"""("(?:[^"\\]|\\.)*"?)|(\\.|[()])|([<>,;:])|([ \t\r\n]+)|([^"\\()<>,;: \t\r\n]+|\\)""",
    re.VERBOSE | re.DOTALL,
)


class Authors(HeaderReader):
    """
    Finds the addresses in the From fields of a text that arrives in pieces.

    Only the message's own header counts, not those of messages within it.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(HEADER_MAXIMUM)

    def addresses(self) -> list[str]:
        """Return the addresses as written; of a From field without any, its value."""
        found: dict[str, None] = {}
        for value in _values(bytes(self._head)):
            for one in addresses(value) or [value.strip()[:100]]:
                found[one] = None
                if len(found) > MOST:
                    return list(found)
        return list(found)


def _values(header: bytes) -> list[str]:
    """The values of a header's From fields."""
    lines: list[list[bytes]] = []
    inside = False
    for line in header.split(b"\r\n"):
        if line.startswith((b" ", b"\t")):
            if inside:
                lines[-1].append(line)
            continue
        field = _FROM.match(line)
        inside = field is not None
        if field is not None:
            lines.append([line[field.end() :]])
    return [b" ".join(one).decode("utf-8", "surrogateescape") for one in lines]


def addresses(value: str) -> list[str]:
    """
    The addresses in a list of mailboxes, with or without brackets, names and comments.

    It reads the text once, in linear time.
    """
    found: list[str] = []
    words: list[str] = []  # of the current mailbox; "" stands for a space
    bracket: list[str] | None = None
    bracketed = False  # the current mailbox has had its address in brackets
    depth = 0
    for piece in _PIECE.finditer(value):
        text, kind = piece[0], piece.lastindex
        if kind == 2 and text in "()":
            depth = max(0, depth + (1 if text == "(" else -1))
        elif depth:
            continue
        elif kind == 3 and text == "<":
            bracket = []
        elif kind == 3 and text == ">" and bracket is not None:
            found += _address(bracket)
            bracket, bracketed = None, True
        elif kind == 3 and bracket is None:  # a separator of a list or of a group
            found += [] if bracketed or text == ":" else _address(words)
            words, bracketed = [], False
        else:
            (words if bracket is None else bracket).append("" if kind == 4 else text)
    if not bracketed:
        found += _address(words if bracket is None else bracket)
    return found


def _address(pieces: list[str]) -> list[str]:
    """The words of a mailbox that look like addresses; adjacent pieces form one word."""
    words: list[list[str]] = [[]]
    for piece in pieces:
        if piece:
            words[-1].append(piece)
        else:
            words.append([])
    whole = ["".join(word) for word in words]
    found = [word for word in whole if "@" in word[1:]]
    if not found and "@" in (joined := "".join(whole)):
        return [joined]
    return found
