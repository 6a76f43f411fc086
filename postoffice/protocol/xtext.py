"""The encodings of DSN's parameters: xtext (RFC 3461 §4), and its UTF-8 form (RFC 6533 §3)."""

from __future__ import annotations

import re

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+\Z")
_OCTET = re.compile(r"\+([0-9A-F]{2})")
_UNITEXT = re.compile(r"(?:[^\x00-\x20+=\\\x7f]|\\x\{[0-9A-F]{2,6}\})+\Z")
_CHARACTER = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*/?^_`{|}~-]+\Z")


def decoded(xtext: str) -> str:
    """Decode xtext.  Raises ValueError if it is none, or empty."""
    return _decoded(xtext, _XTEXT, _OCTET)


def original_recipient(orcpt: str) -> tuple[str, str]:
    """
    The type (in lower case) and the address in an ORCPT parameter; the address may be any text.

    Raises ValueError, also for characters that are not printable and could falsify a letter.
    """
    kind, _, text = orcpt.partition(";")
    kind = kind.lower()
    if not _TYPE.match(kind):
        raise ValueError("no address type")
    address = _decoded(text, _UNITEXT, _CHARACTER) if kind == "utf-8" else decoded(text)
    if not (address.isprintable() and (kind == "utf-8" or address.isascii())):
        raise ValueError("not printable")
    return kind, address


def _decoded(text: str, grammar: re.Pattern[str], encoded: re.Pattern[str]) -> str:
    if not grammar.match(text):
        raise ValueError("not encoded as it must be")
    return encoded.sub(lambda found: chr(int(found[1], 16)), text)
