"""
The languages of the page, and how one is chosen.

The templates and the code have the texts in English; ``catalogues`` has a gettext file for each
other language.  In a text, ``%(name)s`` stands for a fact.
"""

from __future__ import annotations

import pkgutil
import re
from ast import literal_eval
from functools import lru_cache

#: Language tags with their own names.  The first is the default.
LANGUAGES = {"en": "English", "de": "Deutsch"}
DEFAULT = next(iter(LANGUAGES))
#: The cookie with the language that a person has chosen.
COOKIE = "language"
_STRING = r'(?:".*"\s+)+'
_MESSAGE = re.compile(
    rf"^msgid ({_STRING})(?:msgid_plural ({_STRING})msgstr\[0\] ({_STRING})msgstr\[1\] ({_STRING})"
    rf"|msgstr ({_STRING}))",
    re.MULTILINE,
)
#: Languages in Accept-Language that are looked at.
_LOOKED_AT = 20


@lru_cache
def catalogue(language: str) -> dict[str, tuple[str, ...]]:
    """Return the texts of a language by the English ones: one, or singular and plural."""
    if language == DEFAULT:
        return {}
    octets = pkgutil.get_data(__name__, f"catalogues/{language}.po") or b""
    found = {}
    for english, _, one, many, only in _MESSAGE.findall(octets.decode() + "\n"):
        texts = tuple(_read(text) for text in (one, many, only) if text)
        found[_read(english)] = texts
    return found


def translated(text: str, language: str, **facts: object) -> str:
    """Return a text in a language, with its ``%(name)s`` filled in."""
    said = catalogue(language).get(text, (text,))[0] or text
    return said % facts if facts else said


class Translations:
    """What Jinja asks for the texts of ``{% trans %}`` and ``_()``."""

    def __init__(self, language: str) -> None:
        self._texts = catalogue(language)

    def gettext(self, message: str) -> str:
        """Return a text."""
        return self._texts.get(message, (message,))[0] or message

    def ngettext(self, singular: str, plural: str, n: int) -> str:
        """Return a text for a number of things."""
        texts = self._texts.get(singular, (singular, plural))
        return texts[0] if n == 1 else texts[-1]

    def pgettext(self, _: str, message: str) -> str:
        """Return a text; contexts are not used."""
        return self.gettext(message)

    def npgettext(self, _: str, singular: str, plural: str, n: int) -> str:
        """Return a text for a number of things; contexts are not used."""
        return self.ngettext(singular, plural, n)


def chosen(cookie: str, accepted: str) -> str:
    """Return the language that was chosen, or else the best of Accept-Language (RFC 9110)."""
    if cookie in LANGUAGES:
        return cookie
    wanted: list[tuple[float, int, str]] = []
    for number, part in enumerate(accepted.split(",")[:_LOOKED_AT]):
        tag, _, quality = part.strip().partition(";")
        primary = tag.strip().lower().partition("-")[0]
        if primary in LANGUAGES and (weight := _weight(quality)) > 0:
            wanted.append((-weight, number, primary))
    return min(wanted)[2] if wanted else DEFAULT


def _weight(quality: str) -> float:
    name, _, value = quality.replace(" ", "").partition("=")
    if name != "q":
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0)
    except ValueError:
        return 0.0


def _read(strings: str) -> str:
    return str(literal_eval(f"({strings})"))
