"""The options of ``postoffice account set`` that forward an account's mail."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import click

from postoffice.accounts.alias_changes import once_each
from postoffice.accounts.directories import Directories
from postoffice.accounts.forward_changes import save_forward
from postoffice.cli.addresses import address_register
from postoffice.cli.command import registered
from postoffice.cli.options import with_options
from postoffice.cli.parameters import ADDRESS
from postoffice.config.settings import Settings
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Account, Address

T = TypeVar("T")

#: The names of these options, for error texts.
FORWARDS = "--forward, --no-forward, --keep-copy"


@dataclass(frozen=True)
class Forward:
    """Changes of where an account's mail goes; None leaves a setting as it is."""

    targets: tuple[Address, ...] | None = None
    keep_copy: bool | None = None

    def __bool__(self) -> bool:
        return self != Forward()

    async def save(self, name: str, settings: Settings, plugins: Plugins) -> list[str]:
        """Check and save the changes; return lines about them.  Raises Refused."""
        found = await registered(plugins, name)
        targets = found.forward if self.targets is None else self.targets
        keep_copy = found.keep_copy if self.keep_copy is None else self.keep_copy
        now = await save_forward(
            address_register(plugins),
            Directories(plugins.directories),
            found,
            targets,
            keep_copy,
            settings.postmaster.normal,
            way_out=settings.way_out,
        )
        rows = forward_rows(now) or [("forward", "none")]
        return [f"{name} has a {what}: {text}" for what, text in rows]


def forward_options(function: Callable[..., T]) -> Callable[..., T]:
    """Add --forward, --no-forward and --keep-copy: the function gets ``forward``."""

    @functools.wraps(function)
    def run(
        *args: object,
        forward: tuple[Address, ...],
        no_forward: bool,
        keep_copy: bool | None,
        **rest: object,
    ) -> T:
        if no_forward and (forward or keep_copy is not None):
            raise click.UsageError("--no-forward excludes --forward and --keep-copy")
        targets = () if no_forward else once_each(forward) or None
        return function(*args, forward=Forward(targets, keep_copy), **rest)

    return with_options(
        run,
        click.option(
            "--forward",
            metavar="TARGET",
            type=ADDRESS,
            multiple=True,
            help="Forward mail to this address; may be given several times.",
        ),
        click.option("--no-forward", is_flag=True, help="Forward no mail any more."),
        click.option(
            "--keep-copy/--no-keep-copy",
            default=None,
            help="Whether mail that is forwarded also goes to its own maildrop (default: yes).",
        ),
    )


def forward_rows(account: Account) -> list[tuple[str, str]]:
    """Return where the account's mail goes, for people."""
    if not account.forward:
        return []
    copy = "and its own maildrop" if account.keep_copy else "not to its own maildrop"
    return [("forward", f"to {', '.join(map(str, account.forward))}, {copy}")]
