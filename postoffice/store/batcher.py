"""
Group commit: messages that have arrived wait here, and are committed in batches.

The Batcher only queues.  A Committer commits a batch: on a thread of this
process, or in the store process while there is much mail.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from postoffice.interfaces import ChildProcess, Executor
from postoffice.store import commit
from postoffice.store.drafts import Draft, QueueRemoval
from postoffice.store.figures import StoreFigures
from postoffice.store.files import Report
from postoffice.store.journal.journal import Journal
from postoffice.store.quota.enforcement import Notice, QuotaEnforcement
from postoffice.store.store_process import StoreProcess, pack

#: The most small messages in a batch, and the most batches at once.  Larger numbers commit no more
#: messages a second, and cost more CPU a message.
BATCH = 32
BATCH_SIZE = 4 << 20  # octets in a batch after which no other message joins it
BATCHES = 2
#: The most removals from the queue that are committed with a batch, and the most files of each.
REMOVALS, FILES = 64, 20
#: Seconds after which a second batch may begin while one is being committed.  Batches that share a
#: journal wait for one another's sync: two at once would only be smaller.
PATIENCE = 0.02
#: The most large messages at once.  Each is a batch of its own: no other waits for its sync.
LARGE = 4
#: Octets of the memory that we share with the store process for the texts of one batch.
AREA = BATCH_SIZE + (1 << 20)
#: A batch of at least so many small messages starts the store process: threads that commit slow
#: the reactor's thread down.
MANY = 4


_Waiting = tuple[Draft, Deferred[None]]


class Committer(Protocol):
    """Commits batches."""

    def commit_batch(
        self, wanted: Sequence[Draft], removals: Sequence[QueueRemoval] = ()
    ) -> Awaitable[list[Exception | None]]:
        """As ``commit.commit_batch``; an exception is the outcome of every message of the batch."""


class ThreadCommitter:
    """Commits on threads of this process."""

    def __init__(
        self, executor: Executor, journal: Journal | None, enforcement: QuotaEnforcement
    ) -> None:
        self._executor = executor
        self._journal = journal
        self._enforcement = enforcement

    def commit_batch(
        self, wanted: Sequence[Draft], removals: Sequence[QueueRemoval] = ()
    ) -> Awaitable[list[Exception | None]]:
        return self._executor.run(
            commit.commit_batch, wanted, self._journal, self._enforcement, None, removals
        )


class ProcessCommitter:
    """
    Commits small messages in the store process, which the first large batch starts.

    Until ``child_process`` is ready, ``here`` commits.  The store process returns
    notices for owners, which go to ``notices``, and log lines, which go to ``report``.
    """

    def __init__(
        self,
        child_process: ChildProcess[StoreProcess],
        here: Committer,
        notices: deque[Notice],
        report: Report,
    ) -> None:
        self._child_process = child_process
        self._here = here
        self._notices = notices
        self._report = report
        self._areas = [AREA * number for number in range(BATCHES)]

    async def commit_batch(
        self, wanted: Sequence[Draft], removals: Sequence[QueueRemoval] = ()
    ) -> list[Exception | None]:
        if len(wanted) >= MANY and not self._child_process.ready:
            self._child_process.start()
        fits = sum(len(part) for draft in wanted for part in draft.parts) <= AREA
        fits = fits and all(map(_is_one_text, wanted))
        if not (fits and self._child_process.ready):
            return await self._here.commit_batch(wanted, removals)
        area = self._areas.pop()  # there is one for each batch
        try:
            messages = pack(wanted, self._child_process.memory, area)
            outcomes, missed, notices, reports, removed = await self._child_process.run(
                StoreProcess.commit_batch, messages, [(one.record, one.paths) for one in removals]
            )
        finally:
            self._areas.append(area)
        for draft, message, its in zip(wanted, messages, missed, strict=True):
            draft.size = message.size
            draft.missed.update(its)
        for removal, (committed, there) in zip(removals, removed, strict=True):
            removal.committed, removal.there = committed, there
        self._notices.extend(notices)
        for level, text in reports:
            self._report(level, text)
        return outcomes


def _is_one_text(draft: Draft) -> bool:
    """Whether everything that is committed with a draft is a copy of it."""
    return draft.removal is None and all(one.original is draft for one in draft.beside)


def _octets(draft: Draft) -> int:
    """Octets that a draft, and those beside it, take in the journal."""
    those = (draft, *draft.beside) if draft.beside else (draft,)
    return sum(len(part) for one in those for part in (one.original or one).parts)


class _BatchQueue:
    """
    Messages that wait for ``committer``: at most ``size`` in a batch.

    At most ``at_once`` batches are committed at the same time, and never more than ``most``.
    """

    def __init__(
        self, committer: Committer, size: int, most: int, at_once: int | None = None
    ) -> None:
        self.committer = committer
        self.waiting: deque[_Waiting] = deque()
        self.batches = 0  # that are being committed
        self.at_once = most if at_once is None else at_once
        self._size = size
        self._most = most

    def next_batch(self) -> list[_Waiting]:
        """Take the next batch out of the queue; empty while as many as may be are committed."""
        if self.batches >= min(self.at_once, self._most) or not self.waiting:
            return []
        self.batches += 1
        batch: list[_Waiting] = []
        size = 0
        while self.waiting and len(batch) < self._size and (not batch or size < BATCH_SIZE):
            batch.append(self.waiting.popleft())
            size += _octets(batch[-1][0])
        return batch


class Batcher:
    """
    Collects messages into batches and commits them, so that one sync of the disk serves many.

    ``committed`` is called with the drafts of a batch that were committed, before
    the Deferreds of ``commit`` fire; ``unknown`` with those of a batch that has failed as a
    whole, although it may be committed: the process that did it has died.
    ``clock`` is given if batches share a journal: then one batch of small messages is committed at
    a time, and a second one beside it only if the first takes longer than ``PATIENCE``.
    """

    def __init__(
        self,
        small: Committer,
        large: Committer,
        committed: Callable[[Sequence[Draft]], None],
        unknown: Callable[[Sequence[Draft]], None],
        figures: StoreFigures | None = None,
        clock: IReactorTime | None = None,
    ) -> None:
        self._clock = clock
        self._figures = figures or StoreFigures()
        self._committed = committed
        self._unknown = unknown
        self._removals: deque[tuple[QueueRemoval, Deferred[bool]]] = deque()
        self._small = _BatchQueue(small, BATCH, BATCHES, at_once=None if clock is None else 1)
        self._large = _BatchQueue(large, 1, LARGE)
        self._idle: Deferred[None] | None = None

    def commit(self, draft: Draft) -> Deferred[None]:
        """Commit a message.  If the Deferred is cancelled early enough, it reaches no maildrop."""

        def given_up(_: Deferred[None]) -> None:
            draft.dropped = True

        done: Deferred[None] = Deferred(given_up)
        small = draft.fd < 0 and all(one.fd < 0 for one in draft.beside)
        queue = self._small if small else self._large
        queue.waiting.append((draft, done))
        self._begin_batches(queue)
        return done

    def remove_too(self, removal: QueueRemoval) -> Deferred[bool]:
        """
        Commit a removal with the next batch of small messages: it needs no sync of its own.

        Fires with whether it was committed; with False soon if no batch follows those under way.
        """
        if not self._small.batches or len(removal.paths) > FILES:
            return succeed(False)
        done: Deferred[bool] = Deferred()
        self._removals.append((removal, done))
        return done

    def finished(self) -> Deferred[None]:
        """Fires when no batch is being committed and no message waits."""
        if not self._busy():
            return succeed(None)
        self._idle = Deferred()
        return self._idle

    def _count(self, batch: list[_Waiting], seconds: float) -> None:
        figures = self._figures
        figures.batches.observe(len(batch))
        figures.seconds.observe(seconds)
        figures.octets += sum(_octets(draft) for draft, _ in batch)

    def _busy(self) -> int:
        return self._small.batches + self._large.batches

    def _next_removals(self) -> list[tuple[QueueRemoval, Deferred[bool]]]:
        return [self._removals.popleft() for _ in range(min(len(self._removals), REMOVALS))]

    def _begin_batches(self, queue: _BatchQueue) -> None:
        while batch := queue.next_batch():
            Deferred.fromCoroutine(self._commit_batch(queue, batch))

    def _takes_long(self) -> None:
        """A batch takes long: another one may begin beside it."""
        self._small.at_once += 1
        self._begin_batches(self._small)

    def _end_patience(self, patience: IDelayedCall) -> None:
        if patience.active():
            patience.cancel()
        else:
            self._small.at_once -= 1

    async def _commit_batch(self, queue: _BatchQueue, batch: list[_Waiting]) -> None:
        outcomes: list[Exception | None]
        removals = self._next_removals() if queue is self._small else []
        patience = None
        if self._clock is not None and queue is self._small:
            patience = self._clock.callLater(PATIENCE, self._takes_long)
        began = perf_counter()
        try:
            outcomes = await queue.committer.commit_batch(
                [draft for draft, _ in batch], [removal for removal, _ in removals]
            )
        except Exception as bug:
            outcomes = [bug] * len(batch)
            self._unknown([draft for draft, _ in batch])
            self._figures.failed += 1
        else:
            self._count(batch, perf_counter() - began)
        queue.batches -= 1
        if patience is not None:
            self._end_patience(patience)
        self._begin_batches(queue)
        if not self._small.batches:
            removals += self._removals
            self._removals.clear()
        for removal, removed in removals:
            removed.callback(removal.committed)
        both = zip(batch, outcomes, strict=True)
        self._committed([draft for (draft, _), outcome in both if outcome is None])
        for (_, done), outcome in zip(batch, outcomes, strict=True):
            if done.called:  # cancelled
                continue
            if outcome is None:
                done.callback(None)
            else:
                done.errback(outcome)
        if self._idle is not None and not self._busy():
            idle, self._idle = self._idle, None
            idle.callback(None)
