"""The parts that all commands share: the context, the answer, and the error of a failure."""

from __future__ import annotations

import functools
import os
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import click
from twisted.internet.defer import Deferred

from postoffice.accounts.login_db import LoginRecords
from postoffice.cli.inline_executor import InlineExecutor
from postoffice.cli.options import shared_options
from postoffice.cli.output import reason, say, say_object
from postoffice.config import loader
from postoffice.config.reader import TryEndpoint
from postoffice.config.settings import Settings
from postoffice.config.source import ConfigurationError, Problem
from postoffice.daemon import privileges
from postoffice.daemon.build_plugins import build_logins, build_plugins
from postoffice.daemon.plugin_makers import find_maker
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Account
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


#: A function, or a coroutine function, that carries out a command.
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
        why = reason(error)
        answer = Answer({"error": why}, [f"postoffice: {why}"])
    if as_json:
        say_object(answer.data)
    else:
        for line in answer.lines:
            say(line, err=bool(failed))
    context.exit(failed or answer.status)


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
