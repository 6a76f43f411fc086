"""Likely mistakes: the command asks about them on a terminal, and warns in scripts."""

from __future__ import annotations

import sys

import click

from postoffice.cli.output import sized

#: A shorter password is weak.
SHORT = 8
#: A quota smaller than this hardly holds one message.
SMALL = 64 << 10
_DIGITS = "01234567890"


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


def smallness(octets: int | None) -> str:
    """Return what is odd about a quota of so many octets, or ""; None means no limit."""
    if not octets or octets >= SMALL:
        return ""
    return f"a quota of {sized(octets)} holds hardly a message; units are KiB, MiB, GiB, TiB"


def on_a_terminal() -> bool:
    """Whether standard input is a terminal, so that the command can ask."""
    return sys.stdin.isatty()


def confirm_or_warn(why: str) -> None:
    """Ask whether to go on, or warn if there is no terminal.  Raises Abort if the answer is no."""
    if on_a_terminal():
        click.confirm(f"{why}. Go on?", err=True, abort=True)
    else:
        click.echo(f"warning: {why}", err=True)
