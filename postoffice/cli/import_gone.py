"""``postoffice maildrop import --remove-gone``: removes what the old server no longer has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import click

from postoffice.cli.command import Refused
from postoffice.cli.output import counted
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IImportMirror, ImportResult

T = TypeVar("T")


def remove_gone_option(function: Callable[..., T]) -> Callable[..., T]:
    """Add --remove-gone."""
    return click.option(
        "--remove-gone",
        is_flag=True,
        help="Remove what was imported before and is no longer at SOURCE.",
    )(function)


async def remove_gone(plugins: Plugins, name: str, result: ImportResult, *, dry: bool) -> None:
    """Remove that mail from the maildrop of this name.  Raises Refused, PostOfficeError."""
    if not IImportMirror.providedBy(plugins.store):
        raise Refused("a store of this kind does not support --remove-gone")
    store = cast(IImportMirror, plugins.store)
    result.removed = await store.remove_gone(name, result.listed, dry)


def removed_words(result: ImportResult, *, dry: bool) -> str:
    """Return the end of a line: how many messages were removed; empty for none."""
    if not result.removed:
        return ""
    verb = "would be removed" if dry else "removed"
    return f"; {counted(result.removed, 'message')} {verb} that the old server no longer has"
