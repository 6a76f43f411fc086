"""A new password: from a terminal, from a pipe, or generated; never from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from postoffice.accounts.passwords import generate_password, hash_password
from postoffice.cli.doubts import on_a_terminal, weakness
from postoffice.protocol.scram import Salt, derive

#: The longest password in octets: a PASS command has room for this many, and more.
MAXIMUM = 200


@dataclass
class Password:
    """A password, and whether it was generated, so that the command must show it."""

    octets: bytes
    generated: bool

    def hashed(self, salt: Salt | None = None) -> tuple[str, str]:
        """Return the hash and the SCRAM keys (with that salt), for the account directory."""
        how = () if salt is None else (salt.salt, salt.iterations)
        return hash_password(self.octets), str(derive(self.octets, *how))

    @property
    def data(self) -> dict[str, str]:
        """What belongs into the command's answer: a generated password."""
        return {"generated_password": self.octets.decode()} if self.generated else {}

    @property
    def lines(self) -> list[str]:
        return [f"password: {self.octets.decode()}"] if self.generated else []


def password_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --password-stdin and --generate."""
    function = click.option(
        "--generate", is_flag=True, help="Generate a password, and show it this once."
    )(function)
    return click.option(
        "--password-stdin", is_flag=True, help="Read the password from standard input."
    )(function)


def shared_secret_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --shared-secret-stdin, --generate-shared-secret and --no-shared-secret."""
    for name, text in (
        ("--no-shared-secret", "Remove the shared secret: CRAM-MD5 and APOP stop working."),
        (
            "--generate-shared-secret",
            "Generate a secret for CRAM-MD5 and APOP, and show it this once.",
        ),
        ("--shared-secret-stdin", "Read the secret for CRAM-MD5 and APOP from standard input."),
    ):
        function = click.option(name, is_flag=True, help=text)(function)
    return function


def ask_password(password_stdin: bool, generate: bool, address: str) -> Password:
    """
    Return the password that the options give; without one, ask twice on the terminal.

    For a weak password, ask for confirmation on a terminal, else warn.  Raises
    UsageError.
    """
    if password_stdin and generate:
        raise click.UsageError("--password-stdin and --generate exclude one another")
    if generate:
        return Password(generate_password().encode(), True)
    if password_stdin:
        octets = sys.stdin.buffer.read(64 << 10)
        password = _checked(octets.removesuffix(b"\n").removesuffix(b"\r"))
        if why := weakness(password.octets, address):
            click.echo(f"warning: the password {why}: it is easily guessed", err=True)
        return password
    if not on_a_terminal():
        raise click.UsageError("no terminal to ask on: give --password-stdin or --generate")
    while True:
        text = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        password = _checked(text.encode("utf-8", "surrogateescape"))
        why = weakness(password.octets, address)
        if not why or click.confirm(f"It {why}: it is easily guessed. Use it?", err=True):
            return password


def _checked(octets: bytes) -> Password:
    if not octets:
        raise click.UsageError("the password is empty")
    if len(octets) > MAXIMUM:
        raise click.UsageError(f"the password has over {MAXIMUM} octets")
    if any(octet < 32 or octet == 127 for octet in octets):
        raise click.UsageError("the password has control characters, or several lines")
    return Password(octets, False)
