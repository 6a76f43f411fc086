"""The timer of one client, and since when the client is silent."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class ClientTimer:
    """The only timer of a client; it also measures how long the client has been silent."""

    __slots__ = ("_active_at", "_call", "_clock", "_unacknowledged")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._active_at = clock.seconds()
        self._unacknowledged = 0  # octets at the last check
        self._call: IDelayedCall | None = None

    def start(self, seconds: float, ring: Callable[[], None]) -> None:
        """The client is active now; call ``ring`` in so many seconds."""
        self.note_activity()
        self.set(seconds, ring)

    def set(self, seconds: float, ring: Callable[[], None]) -> None:
        """Call ``ring`` in so many seconds, instead of what was to be called."""
        self.stop()
        self._call = self._clock.callLater(seconds, ring)

    def stop(self) -> None:
        """Call nothing any more."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def note_activity(self) -> None:
        """The client has sent a command, or has taken some of our output."""
        self._active_at = self._clock.seconds()

    def acknowledge(self, unacknowledged: int) -> None:
        """
        So many octets in the kernel's send buffer are not taken by the client.

        Progress shows only when that number has changed since the last call.
        """
        before, self._unacknowledged = self._unacknowledged, unacknowledged
        if unacknowledged and unacknowledged != before:
            self.note_activity()

    def silent_for(self) -> float:
        """Seconds since the client was last active."""
        return self._clock.seconds() - self._active_at
