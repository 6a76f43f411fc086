"""Keeps the database of the web page up to date when the command changes an account."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing

from postoffice.config.settings import Settings
from postoffice.web.web_db import WEB_DB, WebDB


def rename_web(settings: Settings, account: str, new: str = "") -> None:
    """
    Give the rights and links of an account on the web page to another name, or remove them.

    So a later account of the old name does not get them.  A missing database is not made.  Raises
    TemporaryFailure, StartupError.
    """
    _ask(settings, lambda web_db: web_db.rename(account, new))


def forget_web_links(settings: Settings, account: str) -> None:
    """
    Remove the one-time links of an account that has a new password.

    Raises TemporaryFailure, StartupError.
    """
    _ask(settings, lambda web_db: web_db.forget_links(account))


def _ask(settings: Settings, ask: Callable[[WebDB], object]) -> None:
    if os.path.exists(os.path.join(settings.state, WEB_DB)):
        with closing(WebDB(settings.state, time.time)) as web_db:
            web_db.open()
            ask(web_db)
