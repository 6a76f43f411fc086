"""Options: those of every command, and how a command gets several."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import click

T = TypeVar("T")


def shared_options(function: Callable[..., object]) -> Callable[..., object]:
    """Add --config and --json, which may stand before or after the command's name."""
    function = click.option(
        "--json", "as_json", is_flag=True, help="Print the answer as a JSON object, errors too."
    )(function)
    return click.option(
        "--config", metavar="FILE", help="The configuration file, instead of the first found."
    )(function)


def with_options(
    function: Callable[..., T], *options: Callable[[Callable[..., T]], Callable[..., T]]
) -> Callable[..., T]:
    """Return the function with these options, in the order in which the help shows them."""
    return functools.reduce(lambda inner, option: option(inner), reversed(options), function)
