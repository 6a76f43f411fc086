"""Messages that are whole are placed in groups: on threads, or apart where many come."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, succeed

from postoffice.interfaces import ChildProcess, Executor
from postoffice.store import commit
from postoffice.store.drafts import Draft
from postoffice.store.journal.journal import Journal
from postoffice.store.quota.enforcement import Notice, QuotaEnforcement
from postoffice.store.store_process import DraftMessage, StoreProcess

#: How many small messages are placed by one call of a worker, and how many calls run at once:
#: more of them place no more messages, and cost more CPU each.
BATCH = 32
BATCH_SIZE = 4 << 20  # octets, or one message
BATCHES = 2
#: How many large ones are placed at once; each alone, nobody else waits for its sync.
LARGE = 4
#: So many small ones in a group are worth a process: threads that place hold up the reactor's.
MANY = 4


_Waiting = tuple[Draft, Deferred[None]]


class Committer(Protocol):
    """Who places."""

    def place(self, wanted: Sequence[Draft]) -> Awaitable[list[Exception | None]]:
        """As ``commit.commit_batch``; what is raised befalls all of them."""


class ThreadCommitter:
    """Placed here, by workers."""

    def __init__(
        self, workers: Executor, journal: Journal | None, warden: QuotaEnforcement
    ) -> None:
        self._workers = workers
        self._journal = journal
        self._warden = warden

    def place(self, wanted: Sequence[Draft]) -> Awaitable[list[Exception | None]]:
        return self._workers.run(commit.commit_batch, wanted, self._journal, self._warden)


class ProcessCommitter:
    """
    Small ones, placed by the Placer of ``apart`` once many came at the same time; ``here`` before.

    ``notices`` takes those of owners, and ``report`` what the log should say.
    """

    def __init__(
        self,
        apart: ChildProcess,
        here: Committer,
        notices: deque[Notice],
        report: Callable[[str, str], None],
    ) -> None:
        self._apart = apart
        self._here = here
        self._notices = notices
        self._report = report

    async def place(self, wanted: Sequence[Draft]) -> list[Exception | None]:
        if len(wanted) >= MANY and not self._apart.ready:
            self._apart.start()
        if not self._apart.ready:
            return await self._here.place(wanted)
        parcels = [DraftMessage.of(draft) for draft in wanted]
        outcomes, missed, notices, reports = await self._apart.run(StoreProcess.place, parcels)
        for draft, parcel, its in zip(wanted, parcels, missed, strict=True):
            draft.size = len(parcel.text)
            draft.missed.update(its)
        self._notices.extend(notices)
        for level, text in reports:
            self._report(level, text)
        return outcomes


class _BatchQueue:
    """Messages that wait for ``hands``, which take ``size`` at a time, ``most`` times at once."""

    def __init__(self, hands: Committer, size: int, most: int) -> None:
        self.hands = hands
        self.waiting: deque[_Waiting] = deque()
        self.groups = 0  # that are being placed
        self._size = size
        self._most = most

    def next_group(self) -> list[_Waiting]:
        """Those that go together now; none while all workers are at it."""
        if self.groups >= self._most or not self.waiting:
            return []
        self.groups += 1
        group: list[_Waiting] = []
        size = 0
        while self.waiting and len(group) < self._size and (not group or size < BATCH_SIZE):
            group.append(self.waiting.popleft())
            size += sum(map(len, group[-1][0].parts))
        return group


class Batcher:
    """
    Messages that are whole wait here, and are placed together: the disk syncs once for many.

    ``placed`` is told of a group, before anybody hears of it.
    """

    def __init__(
        self, small: Committer, large: Committer, placed: Callable[[Sequence[Draft]], None]
    ) -> None:
        self._placed = placed
        self._small = _BatchQueue(small, BATCH, BATCHES)
        self._large = _BatchQueue(large, 1, LARGE)
        self._idle: Deferred[None] | None = None

    def place(self, draft: Draft) -> Deferred[None]:
        """Place a message; given up in time, it is placed nowhere."""

        def given_up(_: Deferred[None]) -> None:
            draft.dropped = True

        placed: Deferred[None] = Deferred(given_up)
        queue = self._small if draft.fd < 0 else self._large
        queue.waiting.append((draft, placed))
        self._begin_groups(queue)
        return placed

    def finished(self) -> Deferred[None]:
        """Fires when no message waits any more."""
        if not self._busy():
            return succeed(None)
        self._idle = Deferred()
        return self._idle

    def _busy(self) -> int:
        return self._small.groups + self._large.groups

    def _begin_groups(self, queue: _BatchQueue) -> None:
        while group := queue.next_group():
            Deferred.fromCoroutine(self._place(queue, group))

    async def _place(self, queue: _BatchQueue, group: list[_Waiting]) -> None:
        outcomes: list[Exception | None]
        try:
            outcomes = await queue.hands.place([draft for draft, _ in group])
        except Exception as bug:
            outcomes = [bug] * len(group)
        queue.groups -= 1
        self._begin_groups(queue)
        both = zip(group, outcomes, strict=True)
        self._placed([draft for (draft, _), outcome in both if outcome is None])
        for (_, placed), outcome in zip(group, outcomes, strict=True):
            if placed.called:  # given up
                continue
            if outcome is None:
                placed.callback(None)
            else:
                placed.errback(outcome)
        if self._idle is not None and not self._busy():
            idle, self._idle = self._idle, None
            idle.callback(None)
