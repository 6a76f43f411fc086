"""Likely mistakes: the command asks about them on a terminal, and warns in scripts."""

from __future__ import annotations

import sys

import click

from postoffice.cli.output import sized

#: A quota smaller than this hardly holds one message.
SMALL = 64 << 10


def smallness(octets: int | None) -> str:
    """Return why a quota is too small to be meant, or ""; None means no limit."""
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
