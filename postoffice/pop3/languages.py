"""The languages of replies (RFC 6856 §3), and the choice among them."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

#: A basic language range other than ``*`` (RFC 4647 §2.1).
_RANGE = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*\Z")
#: The session id at the end of a failure's reply.
_ID = re.compile(r" \([!-'*-~]+\)\Z")

#: Language tags with their own names.  The first is the default.
LANGUAGES = {
    "en": "English",
    "de": "Deutsch",
    "fr": "français",
    "es": "español",
    "ja": "日本語",
}
DEFAULT = next(iter(LANGUAGES))


@dataclass(frozen=True)
class Text:
    """
    A reply's text in each language, with ``{placeholders}``.

    Response codes are not part of it: they are the same in all languages.
    """

    en: str
    de: str
    fr: str
    es: str
    ja: str

    def said(self, language: str, **facts: int | str) -> str:
        """The text in the language with this tag."""
        said: str = getattr(self, language)
        return said.format(**facts) if facts else said

    def like(self, english: str, language: str) -> str:
        """
        ``english`` itself if that is the language; otherwise this text in its place.

        An id at the end of ``english`` is kept in all languages.
        """
        if language == "en":
            return english.encode("ascii", "replace").decode()
        found = _ID.search(english)
        return self.said(language) + (found[0] if found else "")


def tags() -> tuple[str, ...]:
    """The languages that a ``Text`` has."""
    return tuple(field.name for field in fields(Text))


def chosen(wanted: str) -> str | None:
    """
    The language for a range: its longest prefix that is available (RFC 4647 §3.4), or None.

    ``*`` means the default language.
    """
    if wanted == "*":
        return DEFAULT
    if not _RANGE.match(wanted):
        return None
    tag = wanted.lower()
    while tag not in LANGUAGES:
        tag, hyphen, _ = tag.rpartition("-")
        if not hyphen:
            return None
    return tag
