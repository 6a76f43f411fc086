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
        self, state: str, workers: Executor, clock: Any, account: Allowance, network: Allowance
    ) -> None:
        self._workers = workers
        self._ledger = LoginDB(os.path.join(state, LEDGER))
        self.tries = Attempts(self._ledger, account, network)
        self.slowing = Throttle(self.tries, workers, clock, network)
        self.entrances = LoginHistory(self._ledger)
        self.recording = LoginRecorder(self.entrances, workers, clock)
        self._open = False

    async def start(self) -> None:
        """Open the ledger.  Raises StartupError."""
        await self._workers.run(self._ledger.open)
        self._open = True
        self.slowing.start()
        self.recording.start()

    async def stop(self) -> None:
        """Nobody logs in any more: write down the rest, and let go of the file."""
        if self._open:
            self._open = False
            await self.slowing.stop()
            await self.recording.stop()
            await self._workers.run(self._ledger.close)
