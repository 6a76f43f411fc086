"""Work that is done every so often, never twice at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from postoffice.util.shield import start_work


class Periodic:
    """
    Calls ``step`` every ``seconds``, and again at once while it says that there is more to do.

    ``clock`` (IReactorTime) rings.  A step that fails is told to ``failed``,
    and the next comes in its time.
    """

    def __init__(
        self,
        clock: Any,
        seconds: float,
        step: Callable[[], Awaitable[bool]],
        failed: Callable[[Failure], object],
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._step = step
        self._failed = failed
        self._timer: Any = None
        self._working: Deferred[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """The first step comes in ``seconds``."""
        self._stopped = False
        self._timer = self._clock.callLater(self._seconds, self._ring)

    async def stop(self) -> None:
        """No more steps; wait for the one that is under way."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._working is not None:
            await self._working

    def _ring(self) -> None:
        self._working = start_work(self._work())
        self._working.addErrback(self._failed).addCallback(self._worked)

    async def _work(self) -> None:
        while await self._step() and not self._stopped:
            pass

    def _worked(self, _: object) -> None:
        self._working = None
        if not self._stopped:
            self._timer = self._clock.callLater(self._seconds, self._ring)
