"""
The languages of replies (RFC 6856 §3): the choice among them, and their texts.

The code has the texts in English, where they are sent; ``catalogues`` has a file for each other
language.
"""

from __future__ import annotations

import pkgutil
import re
from ast import literal_eval

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


#: A message of a catalogue in gettext's form, which has no plural forms and no contexts.
_MESSAGE = re.compile(r'^msgid ((?:".*"\s)+)msgstr ((?:".*"\s)+)', re.MULTILINE)


def _read(tag: str) -> dict[str, str]:
    """Return a catalogue: the texts in a language, by the English ones."""
    octets = pkgutil.get_data(__name__, f"catalogues/{tag}.po") or b""
    found = _MESSAGE.findall(octets.decode())
    return {literal_eval(f"({english})"): literal_eval(f"({text})") for english, text in found}


_CATALOGUES = {tag: _read(tag) if tag != DEFAULT else {} for tag in LANGUAGES}


def translated(text: str, language: str, **facts: int | str) -> str:
    """
    Return the text of a reply in a language, with its ``{placeholders}`` filled in.

    Response codes are not part of a text: they are the same in all languages.
    """
    said = _CATALOGUES[language].get(text, text)
    return said.format(**facts) if facts else said


def generalized(text: str, english: str, language: str) -> str:
    """
    Return ``english`` itself if that is the language; otherwise this general text in its place.

    An id at the end of ``english`` is kept in all languages.
    """
    if language == DEFAULT:
        return english.encode("ascii", "replace").decode()
    found = _ID.search(english)
    return translated(text, language) + (found[0] if found else "")


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
