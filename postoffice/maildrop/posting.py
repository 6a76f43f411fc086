"""Deliveries into Maildirs: large ones go to disk as they arrive, small ones in groups."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred
from zope.interface import implementer

from postoffice.interfaces import IDelivery, Workers
from postoffice.maildrop import drafts
from postoffice.maildrop.drafts import Draft
from postoffice.maildrop.waiting import outcome_of, running

#: Octets of a text that are kept before they go to disk; there may be twice as many.
BUFFER = 256 << 10
#: How many messages are placed by one call of a worker, and how many calls run at once.
GROUP = 16
GROUPS = 4


class Placing:
    """Messages that are whole wait here, and are placed together: the disk syncs once for many."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._known: set[str] = set()
        self._waiting: deque[tuple[Draft, Deferred[None]]] = deque()
        self._groups = 0

    def place(self, draft: Draft) -> Deferred[None]:
        """Place a message; it is placed also if nobody waits for it any more."""
        placed: Deferred[None] = Deferred()
        self._waiting.append((draft, placed))
        self._begin_groups()
        return placed

    def _begin_groups(self) -> None:
        while self._waiting and self._groups < GROUPS:
            group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            self._groups += 1
            Deferred.fromCoroutine(self._place(group))

    async def _place(self, group: list[tuple[Draft, Deferred[None]]]) -> None:
        outcomes: list[Exception | None]
        try:
            outcomes = await self._workers.run(
                drafts.place, [draft for draft, _ in group], self._known
            )
        except Exception as bug:
            outcomes = [bug] * len(group)
        self._groups -= 1
        for (_, placed), outcome in zip(group, outcomes, strict=True):
            if outcome is None:
                placed.callback(None)
            else:
                placed.errback(outcome)
        self._begin_groups()


@implementer(IDelivery)
class MaildirDelivery:
    """One message on its way in."""

    def __init__(self, workers: Workers, placing: Placing, draft: Draft) -> None:
        self._workers = workers
        self._placing = placing
        self._draft = draft
        self._buffered = 0
        self._writing: Deferred[None] | None = None  # the octets before, on their way to disk
        self._over = False

    async def write(self, data: bytes) -> None:
        self._draft.parts.append(data)
        self._buffered += len(data)
        if self._buffered >= BUFFER:
            await self._written()
            parts, self._draft.parts = self._draft.parts, []
            self._buffered = 0
            self._writing = running(self._workers.run(drafts.append, self._draft, parts))

    async def commit(self) -> None:
        await self._written()
        self._over = True
        await self._placing.place(self._draft)

    def abort(self) -> None:
        if self._over:
            return
        self._over = True
        if self._writing is not None:
            self._writing.addErrback(lambda _: None)
            running(self._workers.run(drafts.drop, self._draft))

    async def _written(self) -> None:
        """Wait for the octets before; what went wrong with them is raised."""
        if self._writing is not None:
            await outcome_of(self._writing)
