"""A group whose commands are imported when they are needed, so that each starts quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """
    ``lazy`` says for each name where its command is: ``module:name`` in this package.

    The first place has the command; if that is a group, the others have the commands in it.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, Sequence[str]], **more: Any) -> None:
        super().__init__(*args, **more)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, imported or not."""
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, and import it if that was not done before."""
        if cmd_name in self._lazy and cmd_name not in self.commands:
            self.add_command(_load(self._lazy[cmd_name]))
        return super().get_command(ctx, cmd_name)


def _load(places: Sequence[str]) -> click.Command:
    first, *others = map(_command, places)
    for one in others:
        assert isinstance(first, click.Group)
        first.add_command(one)
    return first


def _command(place: str) -> click.Command:
    module, _, name = place.partition(":")
    command = getattr(import_module(f"postoffice.cli.{module}"), name)
    assert isinstance(command, click.Command)
    return command
