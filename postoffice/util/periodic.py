"""Work that is done periodically, and never twice at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from postoffice.util.shield import start_work


class Periodic:
    """
    Calls ``step`` every ``seconds``, and again at once while it returns True: more is to be done.

    If a step fails, ``failed`` gets the failure, and the next step comes after ``seconds``.
    """

    def __init__(
        self,
        clock: IReactorTime,
        seconds: float,
        step: Callable[[], Awaitable[bool]],
        failed: Callable[[Failure], object],
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._step = step
        self._failed = failed
        self._timer: IDelayedCall | None = None
        self._working: Deferred[None] | None = None
        self.running = False

    def start(self, *, now: bool = False) -> None:
        """Begin: the first step comes ``now``, or after ``seconds``."""
        self.running = True
        if now:
            self._begin()
        else:
            self._timer = self._clock.callLater(self._seconds, self._begin)

    async def stop(self, *, cancel: bool = False) -> None:
        """End: wait for the step that is under way, or ``cancel`` it."""
        self.running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._working is not None:
            if cancel:
                self._working.cancel()
            else:
                await self._working

    def _begin(self) -> None:
        self._working = start_work(self._work())
        self._working.addErrback(self._failed_or_cancelled).addCallback(self._worked)

    def _failed_or_cancelled(self, why: Failure) -> None:
        if self.running or not isinstance(why.value, CancelledError):
            self._failed(why)

    async def _work(self) -> None:
        while await self._step() and self.running:
            pass

    def _worked(self, _: object) -> None:
        self._working = None
        if self.running:
            self._timer = self._clock.callLater(self._seconds, self._begin)
