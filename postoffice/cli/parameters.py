"""The kinds of values on the command line: addresses, domains, times."""

from __future__ import annotations

import time
from collections.abc import (
    AsyncIterator,
    Callable,
)
from datetime import datetime
from typing import cast

import click
from click.shell_completion import CompletionItem

from postoffice.cli.command import CommandContext
from postoffice.cli.completion import Ask, completions
from postoffice.interfaces import IAccountRegister
from postoffice.model.address import Address, normal_domain
from postoffice.model.config_values import read_duration
from postoffice.util.reactor import IReactor


class Parameter(click.ParamType):  # type: ignore[type-arg]
    """
    A kind of value on the command line, called ``name`` in help texts.

    ``parse`` raises ValueError with a text for the user.  ``complete`` returns the names
    that the shell offers.
    """

    def __init__(
        self, name: str, parse: Callable[[str], object], complete: Ask | None = None
    ) -> None:
        self.name = name
        self._parse = parse
        self._complete = complete

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        if not isinstance(value, str):  # a default, or converted already
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        if self._complete is None:
            return []
        config = ctx.params.get("config") or ctx.find_root().params.get("config")
        return completions(
            CommandContext(config, cast(IReactor, None)).settings, self._complete, incomplete
        )


def local_domain(text: str) -> str:
    """Parse a domain; return its normal form.  Raises ValueError."""
    domain = normal_domain(text)
    if domain.startswith("["):
        raise ValueError(f"{text!r} is an address literal, not a domain")
    return domain


async def addresses(register: IAccountRegister) -> AsyncIterator[str]:
    """Yield the addresses of all accounts."""
    async for one in register.each_account():
        yield one.address


async def _domains(register: IAccountRegister) -> AsyncIterator[str]:
    for name in await register.domains():
        yield name


def _time(text: str) -> float:
    """Return a point in time: a date, with or without a time, or how long ago it was."""
    try:
        return time.time() - read_duration(int(text) if text.isdecimal() else text)
    except ValueError:
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            raise ValueError(
                f"{text!r} is neither a time, such as '2026-01-31 14:00', nor how long ago it "
                "was, such as 2h"
            ) from None


ADDRESS = Parameter("address", Address.parse, addresses)
DOMAIN = Parameter("domain", local_domain, _domains)
TIME = Parameter("time", _time)
