"""Blocking functions on threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

T = TypeVar("T")
_Job = tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]


class ThreadWorkers:
    """
    A few threads that do what blocks, and bring the results to the reactor.

    Results that are ready at the same time come back in one turn of the
    reactor: waking it costs more than most of what is done here.
    """

    def __init__(self, reactor: IReactorFromThreads, threads: int, name: str = "worker") -> None:
        self._reactor = reactor
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._results: deque[tuple[Deferred[Any], Any]] = deque()
        self._waking = False
        self._threads = [Thread(target=self._work, name=f"{name} {n}") for n in range(threads)]

    def start(self) -> None:
        """Begin to work; what was asked before is done now."""
        for thread in self._threads:
            thread.start()

    async def stop(self) -> None:
        """Do what was asked so far, and end the threads; called while the reactor runs."""
        done = [self.run(thread_ends) for thread_ends in [_nothing] * len(self._threads)]
        for _ in self._threads:
            self._jobs.put(None)
        for end in done:
            await end
        for thread in self._threads:
            thread.join()

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call ``function(*args)`` on a thread; see ``interfaces.Workers``."""
        result: Deferred[T] = Deferred()
        self._jobs.put((result, function, args))
        return result

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            result, function, args = job
            try:
                outcome = function(*args)
            except BaseException:
                outcome = Failure()  # type: ignore[no-untyped-call]
            self._results.append((result, outcome))
            if not self._waking:
                self._waking = True
                self._reactor.callFromThread(self._deliver)

    def _deliver(self) -> None:
        """On the reactor's thread: what came after the flag went down wakes us once more."""
        self._waking = False
        while self._results:
            result, outcome = self._results.popleft()
            result.callback(outcome)


def _nothing() -> None:
    """Work that is done when all before it has begun."""
