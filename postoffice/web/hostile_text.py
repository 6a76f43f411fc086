"""Text that strangers wrote, such as subjects, made safe to show; Jinja escapes it."""

from __future__ import annotations

import unicodedata

#: Characters that are shown of one text at most.
SHOWN = 300
#: Categories whose characters are invisible or change the text around them: control characters,
#: formats (with all that change the direction), surrogates, private use, line ends.
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
#: Combining marks on one character at most: more would paint over other lines.
_MARKS = 3


def visible(text: str, shown: int = SHOWN) -> str:
    """
    Return a text whose hidden characters are written out, such as ``⟨U+202E⟩``.

    Tabs and line ends become spaces.  A text that is too long ends with dots.
    """
    pieces: list[str] = []
    length = marks = 0
    for one in text[: 4 * shown]:
        if one in "\t\r\n":
            one = " "
        kind = unicodedata.category(one)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        piece = f"⟨U+{ord(one):04X}⟩" if kind in _HIDDEN or marks > _MARKS else one
        length += len(piece)
        if length > shown:
            return "".join(pieces) + "…"
        pieces.append(piece)
    return "".join(pieces) + ("…" if len(text) > 4 * shown else "")
