"""Until when a server must have done what we wait for."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds between two looks at the clock, at most.
_LOOK = 20.0


class Deadline:
    """
    Calls ``passed`` when a server has not done in time what we wait for.

    Input that does not complete it changes nothing: a deadline is set anew only when something
    else is awaited.  There is one timer, which is set when it fires, not for each reply.
    """

    def __init__(self, clock: IReactorTime, passed: Callable[[float], None]) -> None:
        self._clock = clock
        self._passed = passed
        self._awaited: object = None
        self._seconds = 0.0
        self._at = 0.0
        self._timer: IDelayedCall | None = None

    def watch(self, awaited: object, seconds: float) -> None:
        """From now on this is awaited, and may take so many seconds; 0 is for ever."""
        if awaited == self._awaited:
            return
        self._awaited, self._seconds = awaited, seconds
        self._at = self._clock.seconds() + seconds
        if seconds and (self._timer is None or seconds < _LOOK):
            self.stop()
            self._timer = self._clock.callLater(min(seconds, _LOOK), self._look)

    def stop(self) -> None:
        """Nothing is awaited any more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        self._timer = None
        left = self._at - self._clock.seconds()
        if self._seconds and left > 0:
            self._timer = self._clock.callLater(min(left, _LOOK), self._look)
        elif self._seconds:
            self._passed(self._seconds)
