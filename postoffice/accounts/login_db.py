"""
The database of logins (``logins.db``), which all processes share, and what works with it.

No mail depends on this file.  If a power failure loses its last changes, somebody who guesses
passwords gets a few more attempts, and an account loses the time of its last login.
"""

from __future__ import annotations

import os

from twisted.internet.interfaces import IReactorTime

from postoffice.accounts.attempts import Allowance, Attempts
from postoffice.accounts.login_history import LoginHistory, LoginRecorder
from postoffice.accounts.throttle import Throttle
from postoffice.interfaces import Executor
from postoffice.util.sqlite_file import SQLiteFile

#: The name of the file, in the state folder.
LOGINS = "logins.db"

TABLES = """
CREATE TABLE IF NOT EXISTS try (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    level REAL NOT NULL,
    at REAL NOT NULL,
    count INTEGER NOT NULL DEFAULT 0,
    last REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS try_at ON try (at);
CREATE TABLE IF NOT EXISTS known (
    account TEXT NOT NULL,
    network TEXT NOT NULL,
    last REAL NOT NULL,
    PRIMARY KEY (account, network)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS known_last ON known (last);
CREATE TABLE IF NOT EXISTS login (
    account TEXT NOT NULL,
    device TEXT NOT NULL,
    service TEXT NOT NULL,
    mechanism TEXT NOT NULL,
    tls TEXT NOT NULL,
    network TEXT NOT NULL,
    last REAL NOT NULL,
    PRIMARY KEY (account, device, service, mechanism, tls, network)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS login_last ON login (last);
"""


class LoginDB(SQLiteFile):
    """The file, and its one connection."""

    def __init__(self, path: str) -> None:
        super().__init__(
            path,
            "the database of logins",
            TABLES,
            "; it must belong to the user that the post office runs as; it can be removed: "
            "a new one is made",
        )


class LoginRecords:
    """
    The database of logins in the folder ``state``, and the objects that use it.

    ``account`` and ``network`` are the failed logins that are allowed at one account and
    from one network.
    """

    def __init__(
        self,
        state: str,
        executor: Executor,
        clock: IReactorTime,
        account: Allowance,
        network: Allowance,
    ) -> None:
        self._executor = executor
        self._login_db = LoginDB(os.path.join(state, LOGINS))
        self.attempts = Attempts(self._login_db, account, network)
        self.throttle = Throttle(self.attempts, executor, clock, network)
        self.login_history = LoginHistory(self._login_db)
        self.recording = LoginRecorder(self.login_history, executor, clock)
        self._open = False

    def allow(self, account: Allowance, network: Allowance) -> None:
        """Change how many failed logins are allowed; the wrong passwords so far count on."""
        self.attempts.allow(account, network)
        self.throttle.allow(network)

    async def start(self) -> None:
        """Open the file.  Raises StartupError."""
        await self._executor.run(self._login_db.open)
        self._open = True
        self.throttle.start()
        self.recording.start()

    async def stop(self) -> None:
        """Write what is not written yet, and close the file; no logins come after this."""
        if self._open:
            self._open = False
            await self.throttle.stop()
            await self.recording.stop()
            await self._executor.run(self._login_db.close)
