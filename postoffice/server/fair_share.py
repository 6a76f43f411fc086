"""Fair shares: how long one client, and all clients together, may occupy the reactor."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

#: Seconds of work for all clients in one turn of the reactor.
TURN = 0.010
#: Seconds of work for one client before another client has its turn.
SHARE = 0.004
#: Commands of one client that are answered before another client's turn, however fast.
COMMANDS = 96
#: Seconds of work in a turn after which the start of the next turn is scheduled.
_SOME = 0.001


class ReactorShares:
    """
    Shares the reactor among the clients.

    A client that has used its share waits for the next turn.  When a turn is
    used up, new bursts wait, too, but they run before clients that have had a
    share.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self._used = 0.0  # seconds of work in this turn
        self._new: deque[Deferred[None]] = deque()
        self._others: deque[Deferred[None]] = deque()
        self._next: object | None = None

    @property
    def used_up(self) -> bool:
        """Whether no further client should begin in this turn."""
        return self._used >= TURN

    def use(self, seconds: float) -> None:
        """Count seconds of work for a client."""
        self._used += seconds
        if self._used >= _SOME:
            self._schedule_next_turn()

    def wait(self, *, new: bool = False) -> Deferred[None]:
        """Fires in a later turn of the reactor; ``new``: the client has had no share yet."""
        waiting: Deferred[None] = Deferred()
        (self._new if new else self._others).append(waiting)
        self._schedule_next_turn()
        return waiting

    def _schedule_next_turn(self) -> None:
        if self._next is None:
            self._next = self.clock.callLater(0, self._begin)

    def _begin(self) -> None:
        """Begin a turn: resume waiting clients, as many as it has time for."""
        self._next, self._used = None, 0.0
        for _ in range(len(self._new) + len(self._others)):
            if self.used_up:
                break
            waiting = (self._new or self._others).popleft()
            if not waiting.called:  # a cancelled one is called, too
                waiting.callback(None)
        if self._new or self._others:
            self._schedule_next_turn()


class ClientShare:
    """What one client has used since it last waited: commands and seconds."""

    __slots__ = ("_began", "_clock", "_commands", "_reactor_shares", "_seconds")

    def __init__(self, reactor_shares: ReactorShares) -> None:
        self._reactor_shares = reactor_shares
        self._clock = reactor_shares.clock
        self._commands = 0
        self._seconds = 0.0
        self._began = self._clock.seconds()

    def had(self, commands: int) -> bool:
        """Count commands that were answered; return whether the share is used up."""
        self._commands += commands
        if self._commands >= COMMANDS:
            return True
        return self._seconds + self._clock.seconds() - self._began >= SHARE

    def stop(self) -> None:
        """The client waits for something, or has all its answers."""
        now = self._clock.seconds()
        passed, self._began = now - self._began, now
        self._seconds += passed
        self._reactor_shares.use(passed)

    def go_on(self) -> None:
        """Measure again after ``stop``."""
        self._began = self._clock.seconds()

    async def wait(self, *, new: bool = False) -> None:
        """Wait for the next turn, and begin a new share."""
        self.stop()
        await self._reactor_shares.wait(new=new)
        self._commands, self._seconds = 0, 0.0
        self.go_on()
