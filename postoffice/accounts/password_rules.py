"""The rules for new passwords, and reasons why one is easily guessed."""

from __future__ import annotations

#: The longest password in octets: a PASS command has room for this many, and more.
MAXIMUM = 200
#: A shorter password is weak.
SHORT = 8
_DIGITS = "01234567890"


def mistake(password: bytes) -> str:
    """Return why nobody can use this password, such as "is empty"; "" if one can."""
    if not password:
        return "is empty"
    if len(password) > MAXIMUM:
        return f"has over {MAXIMUM} octets"
    if any(octet < 32 or octet == 127 for octet in password):
        return "has control characters, or several lines"
    return ""


def weakness(password: bytes, address: str = "") -> str:
    """
    Return why the password of this address is easy to guess, or "".

    Weak are short passwords, the address or a part of it, "password", consecutive digits,
    and one repeated character.  Digits after a word do not make it stronger.
    """
    text = password.decode("utf-8", "replace").casefold()
    local, _, domain = address.casefold().partition("@")
    if len(text) < SHORT:
        return f"has less than {SHORT} characters"
    word = text.rstrip("0123456789!")
    if {text, word} & ({local, domain, address.casefold()} - {""}):
        return "is the address, or a part of it"
    if word in {"password", "passwort"}:
        return f'is "{word}"'
    if len(set(text)) == 1:
        return "is one character, again and again"
    if text in _DIGITS or text in _DIGITS[::-1]:
        return "is digits in a row"
    return ""
