"""What is remembered of logins: the ledger, and those who write in it."""

from __future__ import annotations

import os
from typing import Any

from postoffice.accounts.attempts import Allowance, Attempts
from postoffice.accounts.login_db import LoginDB
from postoffice.accounts.login_history import LoginHistory
from postoffice.accounts.login_recorder import LoginRecorder
from postoffice.accounts.throttle import Throttle
from postoffice.interfaces import Executor

#: The ledger's file, in the state folder.
LEDGER = "logins.db"


class LoginRecords:
    """
    The ledger in the folder ``state``, which is made with it.

    ``account`` and ``network`` are the wrong tries that are looked at, at one
    account and from one network; ``clock`` (IReactorTime) rings.
    """

    def __init__(
        self, state: str, executor: Executor, clock: Any, account: Allowance, network: Allowance
    ) -> None:
        self._executor = executor
        self._login_db = LoginDB(os.path.join(state, LEDGER))
        self.attempts = Attempts(self._login_db, account, network)
        self.throttle = Throttle(self.attempts, executor, clock, network)
        self.login_history = LoginHistory(self._login_db)
        self.recording = LoginRecorder(self.login_history, executor, clock)
        self._open = False

    async def start(self) -> None:
        """Open the ledger.  Raises StartupError."""
        await self._executor.run(self._login_db.open)
        self._open = True
        self.throttle.start()
        self.recording.start()

    async def stop(self) -> None:
        """Nobody logs in any more: write down the rest, and let go of the file."""
        if self._open:
            self._open = False
            await self.throttle.stop()
            await self.recording.stop()
            await self._executor.run(self._login_db.close)
