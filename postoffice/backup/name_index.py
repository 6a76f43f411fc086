"""A table of the names of a backup's files, which may be larger than the memory."""

from __future__ import annotations

import os
import sqlite3

from postoffice.store.names import is_maildrop, maildrop_of

#: The names of messages are from the first of these on, and before the second.
_MAIL = (b"mail/", b"mail0")


class NameIndex:
    """Names and values in SQLite's temporary database; and which file is restored to which path."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.executescript(
            "CREATE TABLE known (key BLOB PRIMARY KEY, value TEXT) WITHOUT ROWID;"
            "CREATE TABLE goal (source BLOB, path BLOB, mtime INTEGER);"
            "CREATE INDEX goal_source ON goal (source);"
        )

    def set(self, key: str, value: str) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO known VALUES (?, ?)", (os.fsencode(key), value)
        )

    def get(self, key: str) -> str | None:
        row = self._database.execute(
            "SELECT value FROM known WHERE key = ?", (os.fsencode(key),)
        ).fetchone()
        return None if row is None else str(row[0])

    def add_goal(self, source: str, path: str, mtime: int) -> None:
        """Note that the file ``source`` of the backup is restored to ``path``."""
        row = (os.fsencode(source), os.fsencode(path), mtime)
        self._database.execute("INSERT INTO goal VALUES (?, ?, ?)", row)

    def goals(self, source: str) -> list[tuple[str, int]]:
        """Return the paths to which a file is restored, each with its time."""
        found = self._database.execute(
            "SELECT path, mtime FROM goal WHERE source = ?", (os.fsencode(source),)
        )
        return [(os.fsdecode(path), mtime) for path, mtime in found]

    def maildrops(self) -> list[str]:
        """Return the names of the maildrops that have files in the backup."""
        paths = self._database.execute("SELECT path FROM goal WHERE path >= ? AND path < ?", _MAIL)
        found = dict.fromkeys("/".join(os.fsdecode(path).split("/")[1:3]) for (path,) in paths)
        return [maildrop_of(f"/{folder}") for folder in found if is_maildrop(f"/{folder}")]

    def close(self) -> None:
        self._database.close()
