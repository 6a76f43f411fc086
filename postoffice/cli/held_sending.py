"""Accounts whose mail for other domains is held, because many of their recipients were refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from postoffice.config.settings import Settings
from postoffice.queue.sending_db import SENDING, SendingDB

T = TypeVar("T")


def sending_held(settings: Settings, account: str) -> tuple[float, str] | None:
    """Return since when the mail of an account is held, and why; None if it is not."""
    return _ask(settings, lambda database: database.held(account), None)


def release_sending(settings: Settings, account: str) -> bool:
    """Let an account send to other domains again; return whether its mail was held."""
    return _ask(settings, lambda database: database.release(account), False)


def rename_sending(settings: Settings, account: str, new: str = "") -> None:
    """Give the counts and the hold of an account to another name, or remove them."""
    _ask(settings, lambda database: database.rename(account, new), None)


def _ask(settings: Settings, ask: Callable[[SendingDB], T], otherwise: T) -> T:
    """Ask the database, if there is one: a command creates none.  Raises TemporaryFailure."""
    path = os.path.join(settings.state, SENDING)
    if not os.path.exists(path):
        return otherwise
    with closing(SendingDB(path)) as database:
        database.open()
        return ask(database)
