"""What all commands share: finding the configuration, answering, and failing."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate, zip_longest
from typing import Protocol, Self, TypeVar, cast
from unicodedata import combining, east_asian_width

import click
from click.shell_completion import CompletionItem
from twisted.internet.defer import Deferred

from postoffice.accounts.login_db import LoginRecords
from postoffice.cli.completion import Ask, known
from postoffice.cli.inline_executor import InlineExecutor
from postoffice.config import loader
from postoffice.config.reader import TryEndpoint
from postoffice.config.settings import Settings
from postoffice.config.source import ConfigurationError, Problem
from postoffice.daemon import privileges
from postoffice.daemon.build import build_logins, build_plugins, find_maker
from postoffice.daemon.plugins import Plugins
from postoffice.interfaces import IAccountRegister
from postoffice.model.address import Account, Address, normal_domain
from postoffice.model.config_values import read_duration
from postoffice.model.errors import PostOfficeError, StartupError
from postoffice.util.reactor import IReactor

T = TypeVar("T")

#: Exit codes.
REFUSED = 1
WRONG = 2


class Refused(Exception):
    """The command was not carried out; the text says why, and what to do instead."""


@dataclass
class Answer:
    """
    A command's answer: an object for --json, and lines for people.

    ``status`` is the exit code, for commands whose exit code is part of the answer.
    """

    data: Mapping[str, object]
    lines: list[str] = field(default_factory=list)
    status: int = 0


#: What answers a command.
Function = Callable[..., Answer | Coroutine[Deferred[object], object, Answer]]


@dataclass
class CommandContext:
    """What a command runs with: ``config`` is the file given with --config, if any."""

    config: str | None
    reactor: IReactor
    as_json: bool = False

    def __post_init__(self) -> None:
        self.executor = InlineExecutor(self.reactor)

    def settings(self, try_endpoint: TryEndpoint | None = None) -> Settings:
        """Return the settings, or those of a first run without a configuration file."""
        path = loader.find(self.config)
        if path is not None:
            return loader.load(path, find_maker, try_endpoint)
        if os.path.isdir(loader.FIRST_RUN_STATE):
            return loader.first_run(find_maker)
        places = ", ".join(loader.places())
        why = f"there is no configuration: not {places}; make one: postoffice init DIR"
        raise ConfigurationError([Problem("postoffice", 0, "", why)])

    def ask(
        self,
        work: Callable[[Plugins], Awaitable[T]],
        settings: Settings | None = None,
        *,
        policies: bool = False,
    ) -> T:
        """Run ``work`` while the plugins are open (see ``open``)."""

        async def whole() -> T:
            async with self.open(settings, policies=policies) as plugins:
                return await work(plugins)

        return self.executor.finish(whole())

    @asynccontextmanager
    async def open(
        self, settings: Settings | None = None, *, policies: bool = False
    ) -> AsyncIterator[Plugins]:
        """
        Start the plugins, as the user that the post office runs as, and stop them at the end.

        Policies are started only if ``policies`` says so.
        """
        settings = settings or self.settings()
        plugins = build_plugins(settings, self.reactor, self.executor)
        privileges.become(settings.user, settings.state)
        await plugins.start(policies=policies)
        try:
            yield plugins
        finally:
            await plugins.stop()

    @asynccontextmanager
    async def logins(self, plugins: Plugins, settings: Settings) -> AsyncIterator[LoginRecords]:
        """Open the login records while the plugins run."""
        logins = build_logins(settings, plugins.executor, self.reactor)
        await logins.start()
        try:
            yield logins
        finally:
            await logins.stop()


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
        return known(
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


class Layer(Protocol):
    """Settings of an account, of a domain, or of the configuration; None where not set."""

    def or_else(self, other: Self, /) -> Self:
        """Return these settings, completed with those of ``other``."""


Settable = TypeVar("Settable", bound=Layer)


def effective(values: Iterable[str], **layers: Settable) -> tuple[Settable, dict[str, str]]:
    """Take each value from the first layer that sets it; return them, and where each is set."""
    sources = {
        value: next(name for name, one in layers.items() if getattr(one, value) is not None)
        for value in values
    }
    return functools.reduce(lambda one, other: one.or_else(other), layers.values()), sources


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
    """Return the function with these options, the first of which is the first in the help."""
    return functools.reduce(lambda inner, option: option(inner), reversed(options), function)


def command(name: str, group: click.Group | None = None) -> Callable[[Function], click.Command]:
    """
    Make a command, in a group if given, of a function or coroutine that returns an Answer.

    It gets a CommandContext and the command's parameters.
    """
    made = click.command if group is None else group.command

    def decorate(function: Function) -> click.Command:
        @functools.wraps(function)
        def run(context: click.Context, config: str | None, as_json: bool, **rest: object) -> None:
            before = context.find_root().params
            config = config if config is not None else before.get("config")
            _answer(context, as_json or before.get("as_json", False), function, config, rest)

        return made(name)(shared_options(click.pass_context(run)))

    return decorate


def _answer(
    context: click.Context,
    as_json: bool,
    function: Function,
    config: str | None,
    arguments: dict[str, object],
) -> None:
    failed = 0
    try:
        running = CommandContext(config, context.obj, as_json)
        said = function(running, **arguments)
        answer = running.executor.finish(said) if isinstance(said, Coroutine) else said
    except ConfigurationError as error:
        failed = WRONG
        problems = [vars(problem) for problem in error.problems]
        answer = Answer({"error": str(error), "problems": problems}, str(error).split("\n"))
    except (Refused, StartupError, PostOfficeError) as error:
        failed = REFUSED
        why = str(error) or type(error).__name__
        answer = Answer({"error": why}, [f"postoffice: {why}"])
    if as_json:
        say_object(answer.data)
    else:
        for line in answer.lines:
            say(line, err=bool(failed))
    context.exit(failed or answer.status)


def say(line: str, *, err: bool = False) -> None:
    """Print a line; escape what could control the terminal, such as names in a foreign backup."""
    shown = (one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in line)
    click.echo(line if line.isprintable() else "".join(shown), err=err)


def say_object(data: Mapping[str, object]) -> None:
    """Print the answer as JSON."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


async def registered(plugins: Plugins, name: str) -> Account:
    """Return the account from the directory that the command writes to.  Raises Refused."""
    found = await plugins.register.find(name)
    if found is None:
        raise Refused(f"there is no account {name} here")
    return found


async def check_domain_exists(plugins: Plugins, domain: str) -> None:
    """Raises Refused if the domain is not in the directory that the command writes to."""
    if domain not in await plugins.register.domains():
        raise Refused(f"there is no domain {domain} here")


def counted(number: int, what: str) -> str:
    """``1 message``, ``2 messages``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def sized(octets: int) -> str:
    """Format octets for people: ``34 octets``, ``1.5 GiB``."""
    if octets < 1 << 10:
        return counted(octets, "octet")
    power = min((octets.bit_length() - 1) // 10, 4)
    number = f"{octets / (1 << 10 * power):.1f}".removesuffix(".0")
    return f"{number} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


def lasting(seconds: float) -> str:
    """Format a duration for people: ``30 days``, ``1.5 hours``, ``none``."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            number = f"{seconds / unit:.1f}".removesuffix(".0")
            return f"{number} {name}{'' if number == '1' else 's'}"
    return counted(int(seconds), "second") if seconds else "none"


def moment(seconds: float) -> str:
    """Format a time for people, in the local time zone."""
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"


def iso(seconds: float | None) -> str | None:
    """Format a time for programs."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def table(rows: Sequence[Sequence[str]], least: Sequence[int] = ()) -> list[str]:
    """
    Align rows in columns; escape cells that could control the terminal (EHLO names, …).

    The columns are at least as wide as ``least``.
    On a terminal that is too narrow, the last columns go to a second, indented line.
    """
    rows = [[cell if cell.isprintable() else repr(cell) for cell in row] for row in rows]
    widths = widths_of(rows, least)
    fits = _how_many_fit(widths)
    lines = []
    for row in rows:
        cells = [
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        ]
        lines.append("  ".join(cells[:fits]).rstrip())
        if rest := "  ".join(cells[fits:]).rstrip():
            lines.append(f"    {rest}")
    return lines


def widths_of(rows: Sequence[Sequence[str]], least: Sequence[int] = ()) -> list[int]:
    """Return how wide the columns of a table are, and at least."""
    found = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return [max(pair) for pair in zip_longest(found, least, fillvalue=0)]


def _how_many_fit(widths: Sequence[int]) -> int:
    """Return how many columns of a table fit on the terminal; all of them in a file."""
    if not sys.stdout.isatty():
        return len(widths)
    columns = shutil.get_terminal_size().columns
    ends = accumulate(width + 2 for width in widths)
    return max(1, sum(end - 2 <= columns for end in ends))


def _width(text: str) -> int:
    """Return the width in terminal columns: East Asian letters take two, accents none."""
    if text.isascii():
        return len(text)
    wide = sum(east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(combining, text)))
