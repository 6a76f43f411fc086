"""The languages of replies (RFC 6856 §3), and which of them a client means."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

#: A basic language range but ``*`` (RFC 4647 §2.1).
_RANGE = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*\Z")
#: A reply's own id, behind what it says of a fault.
_ID = re.compile(r" \([!-'*-~]+\)\Z")

#: By tag: what each is called in itself.  The first is spoken until another is asked for.
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
    What is said, in each language; facts stand in ``{braces}``.

    Response codes are not of it: they are the same in all languages.
    """

    en: str
    de: str
    fr: str
    es: str
    ja: str

    def said(self, language: str, **facts: int | str) -> str:
        """In one of the languages, by its tag."""
        said: str = getattr(self, language)
        return said.format(**facts) if facts else said

    def like(self, english: str, language: str) -> str:
        """
        What somebody else says in English only: as it is, or else this.

        The id that such a text may end with stands in all languages.
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
    The language for a range: the longest beginning of it that we speak (RFC 4647 §3.4).

    ``*`` is the one that we prefer.
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
