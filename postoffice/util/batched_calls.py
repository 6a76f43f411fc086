"""Calls that cost hardly more for many items than for one: waiting items share the next call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from postoffice.util.executor import Executor

T = TypeVar("T")
R = TypeVar("R")


class BatchedCalls(Generic[T, R]):
    """
    Calls ``work``, on an executor, with all items that have come since its last call.

    ``work`` gets at most ``most`` items, and returns a result for each, or an exception.
    """

    def __init__(
        self, executor: Executor, work: Callable[[list[T]], Sequence[R | Exception]], most: int
    ) -> None:
        self._executor = executor
        self._work = work
        self._most = most
        self._waiting: list[tuple[T, Deferred[R]]] = []
        self._working: Deferred[None] | None = None

    def add(self, item: T) -> Deferred[R]:
        """Return the result for this item; the work is done even if nobody waits for it."""
        done: Deferred[R] = Deferred()
        self._waiting.append((item, done))
        if self._working is None:
            self._working = Deferred()
            Deferred.fromCoroutine(self._work_on())
        return done

    async def idle(self) -> None:
        """Wait until all is done."""
        while self._working is not None:
            waiting: Deferred[None] = Deferred()
            self._working.chainDeferred(waiting)
            await waiting

    async def _work_on(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            results: Sequence[R | Exception]
            try:
                results = await self._executor.run(self._work, [item for item, _ in group])
            except BaseException:
                failure = Failure()  # type: ignore[no-untyped-call]
                for _, done in group:
                    done.errback(failure)
            else:
                for (_, done), result in zip(group, results, strict=True):
                    if isinstance(result, Exception):
                        done.errback(result)
                    else:
                        done.callback(result)
        working, self._working = self._working, None
        assert working is not None
        working.callback(None)
