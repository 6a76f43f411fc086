"""The makers of our own stores and directories; what they make is imported when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from postoffice.interfaces import (
    IAccountDirectory,
    IDirectoryMaker,
    IMailStore,
    IStoreMaker,
    Surroundings,
)
from postoffice.settings import PATH, Key


@implementer(IPlugin, IStoreMaker)
class MaildirMaker:
    """``kind: maildir``."""

    kind = "maildir"
    keys = (Key("path", PATH, "maildrops", "The folder of all maildrops, relative to `state`."),)

    def make(self, options: Mapping[str, Any], around: Surroundings) -> IMailStore:
        from postoffice.maildrop.maildir import MaildirStore

        return MaildirStore(options["path"], around.workers, hostname=around.hostname)


@implementer(IPlugin, IStoreMaker)
class MemoryMaker:
    """``kind: memory``: for tests and first tries; all is gone when it stops."""

    kind = "memory"
    keys = ()

    def make(self, options: Mapping[str, Any], around: Surroundings) -> IMailStore:
        from postoffice.maildrop.memory import MemoryStore

        return MemoryStore()


@implementer(IPlugin, IDirectoryMaker)
class SQLiteMaker:
    """``kind: sqlite``: what the ``postoffice`` command edits."""

    kind = "sqlite"
    keys = (
        Key("path", PATH, "accounts.db", "The SQLite database of accounts, relative to `state`."),
        Key(
            "key_file",
            PATH,
            "accounts.key",
            "The key that shared secrets (for CRAM-MD5) are sealed with in that database. It is "
            "made when it is first needed; keep a copy of it apart from the database's.",
        ),
    )

    def make(self, options: Mapping[str, Any], around: Surroundings) -> IAccountDirectory:
        from postoffice.accounts.sqlite import SQLiteDirectory

        return SQLiteDirectory(options["path"], around.workers, options["key_file"])


maildir = MaildirMaker()
memory = MemoryMaker()
sqlite = SQLiteMaker()
