"""What the web page knows of accounts, where the command changes those."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing

from postoffice.config.settings import Settings
from postoffice.web.web_db import WEB_DB, WebDB


def rename_web(settings: Settings, account: str, new: str = "") -> None:
    """
    An account has a new name, or is gone: its rights and links on the web page go with it.

    Nobody who gets the same name later inherits them.  A database that is not there is not made.
    Raises TemporaryFailure, StartupError.
    """
    _ask(settings, lambda web_db: web_db.rename(account, new))


def forget_web_links(settings: Settings, account: str) -> None:
    """
    An account has a new password: links that were made before are worth nothing.

    Raises TemporaryFailure, StartupError.
    """
    _ask(settings, lambda web_db: web_db.forget_links(account))


def _ask(settings: Settings, ask: Callable[[WebDB], object]) -> None:
    if os.path.exists(os.path.join(settings.state, WEB_DB)):
        with closing(WebDB(settings.state, time.time)) as web_db:
            web_db.open()
            ask(web_db)
