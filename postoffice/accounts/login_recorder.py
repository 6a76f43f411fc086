"""Logins are written down behind the clients' backs, many at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.accounts.login_history import LoginHistory, LoginMethod
from postoffice.interfaces import Executor
from postoffice.model.address import Account
from postoffice.model.envelope import SessionInfo
from postoffice.model.errors import TemporaryFailure
from postoffice.util.networks import network_of
from postoffice.util.periodic import Periodic

#: Seconds between a login and its record.
BATCH = 5.0
#: Ways in that may wait to be written; more of them are not recorded.
WAITING = 20_000
#: Seconds between two sweeps of the ledger.
SWEEPING = 86400.0


class LoginRecorder:
    """
    Remembers who has logged in, and how, and writes it down now and then.

    ``clock`` (IReactorTime) rings; the time of day comes from ``now``.
    """

    log = Logger()

    def __init__(
        self,
        login_history: LoginHistory,
        executor: Executor,
        clock: Any,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._login_history = login_history
        self._executor = executor
        self._clock = clock
        self._now = now
        self._used: dict[LoginMethod, float] = {}
        self._turn = DeferredLock()
        self._timer: Any = None
        self._sweeping = Periodic(clock, SWEEPING, self._sweep, self._not_done)
        self._open = False
        self._complained = False

    def start(self) -> None:
        """The ledger is open."""
        self._open = True
        self._sweeping.start()
        self._write_later()

    async def stop(self) -> None:
        """Nobody logs in any more: write down the rest."""
        self._open = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        await self._sweeping.stop()
        await self._write()

    def note(self, account: Account, session_info: SessionInfo) -> None:
        """Somebody has logged in just now."""
        client = session_info.client
        login_method = LoginMethod(
            account.address,
            account.device,
            session_info.service,
            session_info.mechanism,
            session_info.tls.partition(" ")[0],
            "" if client.local else network_of(client.address),
        )
        if login_method in self._used or len(self._used) < WAITING:
            self._used[login_method] = self._now()
            self._write_later()

    def _write_later(self) -> None:
        if self._open and self._used and self._timer is None:
            self._timer = self._clock.callLater(BATCH, self._ring)

    def _ring(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._write()).addErrback(self._not_done)

    async def _write(self) -> None:
        await self._turn.acquire()
        used, self._used = self._used, {}
        try:
            if used:
                await self._executor.run(self._login_history.write, used)
                self._complained = False
        except TemporaryFailure as failure:
            self._used = {**used, **self._used}
            if not self._complained:
                self._complained = True
                self.log.warn("logins are not written down yet: {why}", why=str(failure))
        finally:
            self._turn.release()
        self._write_later()

    async def _sweep(self) -> bool:
        await self._turn.acquire()
        try:
            return await self._executor.run(self._login_history.sweep, self._now())
        finally:
            self._turn.release()

    def _not_done(self, why: Failure) -> None:
        self.log.failure("writing down logins", failure=why)
