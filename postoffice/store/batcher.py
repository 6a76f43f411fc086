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

    def commit_batch(self, wanted: Sequence[Draft]) -> Awaitable[list[Exception | None]]:
        """As ``commit.commit_batch``; what is raised befalls all of them."""


class ThreadCommitter:
    """Placed here, by workers."""

    def __init__(
        self, executor: Executor, journal: Journal | None, enforcement: QuotaEnforcement
    ) -> None:
        self._executor = executor
        self._journal = journal
        self._enforcement = enforcement

    def commit_batch(self, wanted: Sequence[Draft]) -> Awaitable[list[Exception | None]]:
        return self._executor.run(commit.commit_batch, wanted, self._journal, self._enforcement)


class ProcessCommitter:
    """
    Small ones, placed by the Placer of ``child_process`` once many came at the same time; ``here``
    before.

    ``notices`` takes those of owners, and ``report`` what the log should say.
    """

    def __init__(
        self,
        child_process: ChildProcess,
        here: Committer,
        notices: deque[Notice],
        report: Callable[[str, str], None],
    ) -> None:
        self._child_process = child_process
        self._here = here
        self._notices = notices
        self._report = report

    async def commit_batch(self, wanted: Sequence[Draft]) -> list[Exception | None]:
        if len(wanted) >= MANY and not self._child_process.ready:
            self._child_process.start()
        if not self._child_process.ready:
            return await self._here.commit_batch(wanted)
        messages = [DraftMessage.from_draft(draft) for draft in wanted]
        outcomes, missed, notices, reports = await self._child_process.run(
            StoreProcess.commit_batch, messages
        )
        for draft, message, its in zip(wanted, messages, missed, strict=True):
            draft.size = len(message.text)
            draft.missed.update(its)
        self._notices.extend(notices)
        for level, text in reports:
            self._report(level, text)
        return outcomes


class _BatchQueue:
    """
    Messages that wait for ``committer``, which take ``size`` at a time, ``most`` times at once.
    """

    def __init__(self, committer: Committer, size: int, most: int) -> None:
        self.committer = committer
        self.waiting: deque[_Waiting] = deque()
        self.batches = 0  # that are being placed
        self._size = size
        self._most = most

    def next_batch(self) -> list[_Waiting]:
        """Those that go together now; none while all workers are at it."""
        if self.batches >= self._most or not self.waiting:
            return []
        self.batches += 1
        batch: list[_Waiting] = []
        size = 0
        while self.waiting and len(batch) < self._size and (not batch or size < BATCH_SIZE):
            batch.append(self.waiting.popleft())
            size += sum(map(len, batch[-1][0].parts))
        return batch


class Batcher:
    """
    Messages that are whole wait here, and are placed together: the disk syncs once for many.

    ``placed`` is told of a group, before anybody hears of it.
    """

    def __init__(
        self, small: Committer, large: Committer, committed: Callable[[Sequence[Draft]], None]
    ) -> None:
        self._committed = committed
        self._small = _BatchQueue(small, BATCH, BATCHES)
        self._large = _BatchQueue(large, 1, LARGE)
        self._idle: Deferred[None] | None = None

    def commit(self, draft: Draft) -> Deferred[None]:
        """Place a message; given up in time, it is placed nowhere."""

        def given_up(_: Deferred[None]) -> None:
            draft.dropped = True

        placed: Deferred[None] = Deferred(given_up)
        queue = self._small if draft.fd < 0 else self._large
        queue.waiting.append((draft, placed))
        self._begin_batches(queue)
        return placed

    def finished(self) -> Deferred[None]:
        """Fires when no message waits any more."""
        if not self._busy():
            return succeed(None)
        self._idle = Deferred()
        return self._idle

    def _busy(self) -> int:
        return self._small.batches + self._large.batches

    def _begin_batches(self, queue: _BatchQueue) -> None:
        while batch := queue.next_batch():
            Deferred.fromCoroutine(self._commit_batch(queue, batch))

    async def _commit_batch(self, queue: _BatchQueue, batch: list[_Waiting]) -> None:
        outcomes: list[Exception | None]
        try:
            outcomes = await queue.committer.commit_batch([draft for draft, _ in batch])
        except Exception as bug:
            outcomes = [bug] * len(batch)
        queue.batches -= 1
        self._begin_batches(queue)
        both = zip(batch, outcomes, strict=True)
        self._committed([draft for (draft, _), outcome in both if outcome is None])
        for (_, placed), outcome in zip(batch, outcomes, strict=True):
            if placed.called:  # given up
                continue
            if outcome is None:
                placed.callback(None)
            else:
                placed.errback(outcome)
        if self._idle is not None and not self._busy():
            idle, self._idle = self._idle, None
            idle.callback(None)
