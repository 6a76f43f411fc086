"""Which session holds which maildrop, and which logins wait for it or take it over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from postoffice.model.errors import MaildropLocked
from postoffice.model.listing import Listing
from postoffice.model.mail_policy import MailPolicy
from postoffice.server.neighbour_processes import FREE, TAKE, WAIT, Neighbours

#: Asks a session to end for another login; returns whether it ended and released its maildrop.
GiveWay = Callable[[], bool]

#: Whether the client of a waiting login has disconnected, or closed its side.
Gone = Callable[[], bool]

#: Seconds that a login with take-over waits until the other session is silent.
TAKING_OVER = 15.0
#: Seconds after which a waiting login tries again, if it is not woken before.
ASK_AGAIN = 1.0


@dataclass(eq=False)
class LeaseRequest:
    """One login's request for a maildrop, with the mail policy of its account."""

    maildrop: str
    mail_policy: MailPolicy
    give_way: GiveWay
    gone: Gone

    @property
    def takes_over(self) -> bool:
        """Whether this login may end another session."""
        return self.mail_policy.in_use == "take-over"

    @property
    def patience(self) -> float:
        """Seconds that this login waits."""
        if self.takes_over:
            return TAKING_OVER
        return (self.mail_policy.wait or 0.0) if self.mail_policy.in_use == "wait" else 0.0


class Leases:
    """
    The maildrops that the sessions of this process hold, and the logins that wait for one.

    Exclusion is always ensured by the maildrop's own lock.  This class only
    arranges that a session releases the lock in time for a waiting login.
    ``neighbours`` are the other processes that serve the same maildrops.
    """

    def __init__(self, clock: IReactorTime, neighbours: Neighbours | None = None) -> None:
        self._clock = clock
        self._neighbours = neighbours
        self._held: dict[str, LeaseRequest] = {}
        self._waiting: dict[str, list[Deferred[None]]] = {}
        self._wanted: dict[str, set[str]] = {}  # the neighbours that wait for each maildrop
        self._closing = False

    def start(self) -> None:
        """Begin to exchange messages with the neighbours."""
        if self._neighbours is not None:
            self._neighbours.start(self._hear)

    def close(self) -> None:
        """End all waiting; sessions can still give their maildrops back."""
        self._closing = True
        for maildrop in list(self._waiting):
            self._wake(maildrop)

    def stop(self) -> None:
        """Stop exchanging messages; all maildrops have been given back."""
        if self._neighbours is not None:
            self._neighbours.stop()

    async def take(
        self, request: LeaseRequest, open_it: Callable[[], Awaitable[Listing]]
    ) -> Listing:
        """
        Open a maildrop; wait for it, or take it over, as the account's policy allows.

        Raises MaildropLocked if the maildrop stays locked, and whatever ``open_it`` raises.
        """
        try:
            listing = await open_it()
        except MaildropLocked:
            if not request.patience:
                raise
            listing = await self._wait_for(request, open_it)
        self._held[request.maildrop] = request
        return listing

    def give_back(self, request: LeaseRequest) -> None:
        """Release the maildrop; may be called at any time, also twice, also without take()."""
        if self._held.get(request.maildrop) is not request:
            return
        del self._held[request.maildrop]
        for neighbour in self._wanted.pop(request.maildrop, ()):
            self._tell(FREE, request.maildrop, neighbour)
        self._wake(request.maildrop)

    async def _wait_for(
        self, request: LeaseRequest, open_it: Callable[[], Awaitable[Listing]]
    ) -> Listing:
        until = self._clock.seconds() + request.patience
        while True:
            free = self._enqueue(request.maildrop)  # before open_it, or a release could be missed
            timer = self._clock.callLater(ASK_AGAIN, _wake, free)
            try:
                if request.gone():
                    raise MaildropLocked
                self._ask_for(request)
                try:
                    return await open_it()
                except MaildropLocked:
                    if self._closing or self._clock.seconds() >= until:
                        raise
                await free
            finally:
                if timer.active():
                    timer.cancel()
                self._dequeue(request.maildrop, free)

    def _ask_for(self, request: LeaseRequest) -> None:
        """Ask the session that holds the maildrop; if none here does, ask the neighbours."""
        held = self._held.get(request.maildrop)
        if held is None:
            self._tell(TAKE if request.takes_over else WAIT, request.maildrop)
        elif request.takes_over:
            held.give_way()

    # -- the queue -------------------------------------------------------------

    def _enqueue(self, maildrop: str) -> Deferred[None]:
        free: Deferred[None] = Deferred()
        self._waiting.setdefault(maildrop, []).append(free)
        return free

    def _dequeue(self, maildrop: str, free: Deferred[None]) -> None:
        line = self._waiting.get(maildrop, [])
        if free in line:
            line.remove(free)
            if not line:
                del self._waiting[maildrop]

    def _wake(self, maildrop: str) -> None:
        for free in self._waiting.pop(maildrop, ()):
            _wake(free)

    # -- the neighbours --------------------------------------------------------

    def _tell(self, word: str, maildrop: str, to: str | None = None) -> None:
        if self._neighbours is not None:
            self._neighbours.say(word, maildrop, to)

    def _hear(self, word: str, maildrop: str, neighbour: str) -> None:
        if word == FREE:
            self._wake(maildrop)
        elif (held := self._held.get(maildrop)) is not None:
            self._wanted.setdefault(maildrop, set()).add(neighbour)
            if word == TAKE:
                held.give_way()


def _wake(free: Deferred[None]) -> None:
    if not free.called:
        free.callback(None)
