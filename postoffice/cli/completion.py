"""What the shell may complete: the addresses and domains that are here."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any

from click.shell_completion import CompletionItem
from twisted.internet.task import Clock

from postoffice.cli.inline_executor import InlineExecutor
from postoffice.config.loader import Settings
from postoffice.daemon import privileges
from postoffice.daemon.build import build_plugins
from postoffice.interfaces import IAccountRegister

#: How many are offered.
MOST = 1000
Ask = Callable[[IAccountRegister], Coroutine[Any, Any, list[str]]]


def known(settings: Callable[[], Settings], ask: Ask, incomplete: str) -> list[CompletionItem]:
    """
    Names that begin so; none where they cannot be had: whoever presses a key wants no errors.

    Nothing is asked for, made or changed.
    """
    try:
        names = _names(settings(), ask)
    except Exception:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)][:MOST]


def _names(settings: Settings, ask: Ask) -> list[str]:
    if not os.path.isdir(settings.state):
        return []
    executor = InlineExecutor(None)
    register = build_plugins(settings, Clock(), executor).register
    privileges.become(settings.user, settings.state)

    async def whole() -> list[str]:
        await register.start()
        try:
            return await ask(register)
        finally:
            await register.stop()

    return executor.finish(whole())


def nothing(_context: object, _param: object, _incomplete: str) -> list[CompletionItem]:
    """For names that are not here yet."""
    return []
