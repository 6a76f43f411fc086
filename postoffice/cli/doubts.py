"""What is likely a mistake: asked about on a terminal, warned of in scripts, and then done."""

from __future__ import annotations

import sys

import click

from postoffice.cli.common import sized

#: A shorter password is weak.
SHORT = 8
#: A smaller quota holds hardly a message.
SMALL = 64 << 10
_DIGITS = "01234567890"


def weakness(password: bytes, address: str = "") -> str:
    """
    Why somebody may guess the password of this address in a few tries, or "".

    Short ones, the address or a part of it, "password", digits in a row, one
    character only.  Digits behind a word make it no stronger.
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


def smallness(octets: int | None) -> str:
    """What is odd about a quota of so many octets, or "": none is any number."""
    if not octets or octets >= SMALL:
        return ""
    return f"a quota of {sized(octets)} holds hardly a message; units are KiB, MiB, GiB, TiB"


def on_a_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def doubt(why: str) -> None:
    """Ask whether it shall be done all the same, or warn.  Raises Abort where it shall not."""
    if on_a_terminal():
        click.confirm(f"{why}. Go on?", err=True, abort=True)
    else:
        click.echo(f"warning: {why}", err=True)
