"""Accounts in a SQLite database: what the ``postoffice`` command edits while the daemon reads."""

from __future__ import annotations

from postoffice.accounts.sealed_secrets import Seal
from postoffice.accounts.sql_directory import SQLDirectory
from postoffice.accounts.sqlite_database import SQLiteDatabase
from postoffice.interfaces import Executor


class SQLiteDirectory(SQLDirectory):
    """
    A database of domains and accounts in the file ``path``.

    ``key_file`` has the key that encrypts the shared secrets.  Answers are kept as long as
    neither the file nor its write-ahead log has changed.  Checking that takes two system
    calls, so a change by another process is seen at once.
    """

    def __init__(self, path: str, executor: Executor, key_file: str | None = None) -> None:
        super().__init__(SQLiteDatabase(path), executor, Seal(key_file or f"{path}.key"))
