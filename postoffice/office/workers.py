"""Blocking functions on threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

T = TypeVar("T")
_Job = tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]


class ThreadWorkers:
    """
    A few threads that do what blocks, and bring the results to the reactor.

    Results that are ready at the same time come back in one turn of the
    reactor: waking it costs more than most of what is done here.  Cancelling
    a result's Deferred drops the result; the function runs to its end.
    """

    def __init__(
        self, reactor: IReactorFromThreads, threads: int = 8, name: str = "worker"
    ) -> None:
        self._reactor = reactor
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._results: deque[tuple[Deferred[Any], Any]] = deque()
        self._waking = False
        self._stopped = False
        self._asked = 0
        self._names = [f"{name} {n}" for n in range(threads)]
        self._threads: list[Thread] = []

    @property
    def busy(self) -> bool:
        """Whether there is a result that has not come back yet."""
        return self._asked > 0

    def start(self) -> None:
        """Begin to work; what was asked before is done now."""
        # Made here, not before: a daemon forks in between, and a thread made before that
        # cannot be started behind it (Python 3.13).
        self._threads = [Thread(target=self._work, name=name) for name in self._names]
        for thread in self._threads:
            thread.start()

    async def stop(self) -> None:
        """Do what was asked so far, and end the threads; called while the reactor runs."""
        self._stopped = True
        ends: list[Deferred[None]] = [Deferred() for _ in self._threads]
        self._asked += len(ends)
        for end in ends:
            self._jobs.put((end, _go_home, ()))
        for end in ends:
            await end
        for thread in self._threads:
            thread.join()

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call ``function(*args)`` on a thread; see ``interfaces.Workers``."""
        if self._stopped:
            return fail(RuntimeError(f"the workers have gone home before {function}"))
        result: Deferred[T] = Deferred()
        self._asked += 1
        self._jobs.put((result, function, args))
        return result

    def _work(self) -> None:
        function: Callable[..., Any] | None = None
        while function is not _go_home:  # each thread takes one of these
            result, function, args = self._jobs.get()
            try:
                outcome = function(*args)
            except BaseException:
                outcome = Failure()  # type: ignore[no-untyped-call]
            self._results.append((result, outcome))
            del result, outcome, args  # nothing is held while waiting
            if not self._waking:
                self._waking = True
                self._reactor.callFromThread(self._bring)

    def _bring(self) -> None:
        """On the reactor's thread: what comes after the flag went down wakes us once more."""
        self._waking = False
        while self._results:
            result, outcome = self._results.popleft()
            self._asked -= 1
            result.callback(outcome)


def _go_home() -> None:
    """The last thing that a thread does."""
