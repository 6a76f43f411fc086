"""Options of commands that log in at an old POP3 server: passwords, logins, TLS."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import click

from postoffice.cli.command import Refused
from postoffice.cli.options import with_options
from postoffice.moving.old_server_sessions import OldAccount
from postoffice.pop3.client_url import POP3URL, TLS_LEVELS, VERIFY, NotAServer

T = TypeVar("T")

#: Octets of the longest password that a file or standard input may have.
PASSWORD_MAXIMUM = 4096
#: The word in --master that stands for the user.
USER = "user"


def is_url(source: str) -> bool:
    """Return whether a source is the URL of a server, not a path."""
    return "://" in source


@dataclass(frozen=True, kw_only=True)
class OldServerOptions:
    """The values of the options of ``old_server_options``."""

    password_file: str | None
    password_stdin: bool
    master: str | None
    tls: str
    ca: str | None

    def password(self) -> str:
        """Return the password that the options give, or "".  Raises UsageError, Refused."""
        if self.password_file is not None and self.password_stdin:
            raise click.UsageError("--password-file and --password-stdin exclude one another")
        if self.password_stdin:
            return _first_line(sys.stdin.buffer.read(PASSWORD_MAXIMUM + 2), "standard input")
        if self.password_file is None:
            return ""
        try:
            with open(self.password_file, "rb") as file:
                return _first_line(file.read(PASSWORD_MAXIMUM + 2), self.password_file)
        except OSError as error:
            raise Refused(f"reading {self.password_file} failed: {error.strerror}") from error

    def account(self, url: str, address: str, password: str) -> OldAccount:
        """Return the account of a URL; its default user is ``address``.  Raises NotAServer."""
        where = POP3URL.parse(url)
        login = where.user or address
        if self.master is not None:
            if self.master.count(USER) != 1:
                raise click.UsageError("--master has the word user where the login stands")
            login = self.master.replace(USER, login)
        if not password:
            raise NotAServer(
                f"there is no password for {login}: give --password-file, --password-stdin, or a "
                "column password"
            )
        return OldAccount(
            server=where.server(tls=self.tls, ca_file=self.ca), login=login, password=password
        )


def old_server_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add --password-file, --password-stdin, --master, --tls and --ca."""
    return with_options(
        function,
        click.option(
            "--password-file", metavar="FILE", help="A file with the password at the old server."
        ),
        click.option(
            "--password-stdin", is_flag=True, help="Read that password from standard input."
        ),
        click.option(
            "--master",
            metavar="LOGIN",
            help="The login there, with the word user for each user's: user*master.",
        ),
        click.option(
            "--tls",
            type=click.Choice(TLS_LEVELS),
            default=VERIFY,
            help="TLS with a certificate that fits, with any certificate, or none (pop3://).",
        ),
        click.option("--ca", metavar="FILE", help="Also trust the authorities in this PEM file."),
    )


def _first_line(octets: bytes, where: str) -> str:
    line = octets.partition(b"\n")[0].removesuffix(b"\r")
    if len(line) > PASSWORD_MAXIMUM:
        raise Refused(f"the password in {where} has over {PASSWORD_MAXIMUM} octets")
    if not line:
        raise Refused(f"there is no password in the first line of {where}")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise Refused(f"the password in {where} is not UTF-8") from None
