"""A new password: from a terminal, from a pipe, or generated; never from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import click

from postoffice.accounts import password_schemes
from postoffice.accounts.password_rules import mistake, weakness
from postoffice.accounts.passwords import generate_password, hash_password
from postoffice.cli.confirmation import on_a_terminal
from postoffice.cli.options import with_options
from postoffice.protocol.scram import Salt, derive

T = TypeVar("T")


@dataclass
class Password:
    """
    A password, and whether it was generated, so that the command must show it.

    ``hash`` is the hash of a password that is not known; then ``octets`` are empty.
    """

    octets: bytes
    generated: bool
    hash: str = ""

    def hashed(self, salt: Salt | None = None) -> tuple[str, str | None]:
        """
        Return the hash and the SCRAM keys (with that salt), for the account directory.

        The keys of an unknown password are made at the next login, unless they are its hash.
        """
        if self.hash:
            keys = password_schemes.read(self.hash).scram
            fits = keys is not None and salt in (None, Salt(keys.salt, keys.iterations))
            return self.hash, str(keys) if fits else None
        how = () if salt is None else (salt.salt, salt.iterations)
        return hash_password(self.octets), str(derive(self.octets, *how))

    @property
    def data(self) -> dict[str, str]:
        """The generated password, for the command's answer."""
        return {"generated_password": self.octets.decode()} if self.generated else {}

    @property
    def lines(self) -> list[str]:
        return [f"password: {self.octets.decode()}"] if self.generated else []


def password_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add --password-stdin, --generate and --hash-stdin."""
    return _with_flags(
        function,
        {
            "--password-stdin": "Read the password from standard input.",
            "--generate": "Generate a password, and show it this once.",
            "--hash-stdin": "Read a hash of the password, as Dovecot writes it, from standard "
            "input.",
        },
    )


def shared_secret_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add --shared-secret-stdin, --generate-shared-secret and --no-shared-secret."""
    return _with_flags(
        function,
        {
            "--shared-secret-stdin": "Read the secret for CRAM-MD5 and APOP from standard input.",
            "--generate-shared-secret": "Generate a secret for CRAM-MD5 and APOP, and show it "
            "this once.",
            "--no-shared-secret": "Remove the shared secret: CRAM-MD5 and APOP stop working.",
        },
    )


def _with_flags(function: Callable[..., T], flags: Mapping[str, str]) -> Callable[..., T]:
    options = [click.option(name, is_flag=True, help=text) for name, text in flags.items()]
    return with_options(function, *options)


def ask_password(
    password_stdin: bool, generate: bool, address: str, hash_stdin: bool = False
) -> Password:
    """
    Return the password that the options give; without one, ask twice on the terminal.

    For a weak password, ask for confirmation on a terminal, else warn.  Raises
    UsageError.
    """
    if password_stdin + generate + hash_stdin > 1:
        raise click.UsageError("--password-stdin, --generate and --hash-stdin exclude one another")
    if generate:
        return Password(generate_password().encode(), True)
    if hash_stdin:
        return _of_hash(first_line())
    if password_stdin:
        password = check_password(first_line())
        if why := weakness(password.octets, address):
            click.echo(f"warning: the password {why}: it is easily guessed", err=True)
        return password
    if not on_a_terminal():
        raise click.UsageError("no terminal to ask on: give --password-stdin or --generate")
    while True:
        text = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        password = check_password(text.encode("utf-8", "surrogateescape"))
        why = weakness(password.octets, address)
        if not why or click.confirm(f"It {why}: it is easily guessed. Use it?", err=True):
            return password


def first_line() -> bytes:
    """Return the standard input without its line end: a password, or its hash."""
    return sys.stdin.buffer.read(64 << 10).removesuffix(b"\n").removesuffix(b"\r")


def _of_hash(octets: bytes) -> Password:
    """Return the password of a hash; one in clear is hashed as if it had been typed."""
    try:
        text = octets.decode()
        stored = password_schemes.read(text)
    except UnicodeDecodeError:
        raise click.UsageError("the hash is not UTF-8") from None
    except password_schemes.UnusableHash as why:
        raise click.UsageError(f"the hash cannot be used: {why}") from None
    return Password(b"", False, text) if stored.plain is None else check_password(stored.plain)


def check_password(octets: bytes) -> Password:
    if why := mistake(octets):
        raise click.UsageError(f"the password {why}")
    return Password(octets, False)
