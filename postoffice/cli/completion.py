"""Shell completion: local addresses and domains."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from typing import cast

from click.shell_completion import CompletionItem
from twisted.internet.task import Clock

from postoffice.cli.inline_executor import InlineExecutor
from postoffice.config.settings import Settings
from postoffice.daemon import privileges
from postoffice.daemon.build_plugins import build_plugins
from postoffice.interfaces import IAccountRegister
from postoffice.util.reactor import IReactor

#: The most names to offer.
MOST = 1000
Ask = Callable[[IAccountRegister], AsyncIterator[str]]


def completions(
    settings: Callable[[], Settings], ask: Ask, incomplete: str
) -> list[CompletionItem]:
    """
    Return the names that begin so; none after an error, which shell completion could not show.

    Creates and changes nothing.
    """
    try:
        return [CompletionItem(name) for name in _names(settings(), ask, incomplete)]
    except Exception:
        return []


def _names(settings: Settings, ask: Ask, incomplete: str) -> list[str]:
    if not os.path.isdir(settings.state):
        return []
    reactor = cast(IReactor, Clock())  # nothing here waits
    executor = InlineExecutor(reactor)
    register = build_plugins(settings, reactor, executor).register
    privileges.become(settings.user, settings.state)

    async def whole() -> list[str]:
        await register.start()
        try:
            found: list[str] = []
            async for name in ask(register):
                if name.startswith(incomplete):
                    found.append(name)
                if len(found) == MOST:
                    break
            return found
        finally:
            await register.stop()

    return executor.finish(whole())


def nothing(_context: object, _param: object, _incomplete: str) -> list[CompletionItem]:
    """Offer nothing: for names that do not exist yet."""
    return []
