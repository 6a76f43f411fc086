"""Blocking functions on threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

T = TypeVar("T")
_Job = tuple[int, Deferred[Any], Callable[..., Any], tuple[Any, ...]]
#: Seconds that a job waits before another thread comes for it.
PATIENCE = 0.02
#: Seconds after which a thread that came for a while goes, when there is nothing to do.
IDLE = 10.0


class ThreadExecutor:
    """
    A few threads that do what blocks, and bring the results to the reactor.

    Threads take the interpreter from one another and from the reactor at each
    of their system calls, so ``usually`` only that many are there.  Others
    come, up to ``threads``, while something has waited for ``PATIENCE``, and
    go when they have found nothing to do.

    Results that are ready at the same time come back in one turn of the
    reactor: waking it costs more than most of what is done here.  Cancelling
    a result's Deferred drops the result; the function runs to its end.
    """

    def __init__(
        self, reactor: Any, threads: int = 8, name: str = "worker", *, usually: int = 0
    ) -> None:
        self._reactor = reactor  # IReactorFromThreads; IReactorTime where others may come
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._results: deque[tuple[Deferred[Any], Any]] = deque()
        self._waking = False
        self._stopped = False
        self._asked = 0
        self._names = [f"{name} {n}" for n in range(threads)]
        self._usually = usually or threads
        self._changing = Lock()  # which threads there are:
        self._threads: list[Thread] = []
        self._put = 0  # the number of the job that came last
        self._taken = 0  # of the last that a thread has begun
        self._waits = 0  # of one that had to wait when we last looked
        self._timer: Any = None  # we look again

    @property
    def busy(self) -> bool:
        """Whether there is a result that has not come back yet."""
        return self._asked > 0

    def start(self) -> None:
        """Begin to work; what was asked before is done now."""
        # Made here, not before: a daemon forks in between, and a thread made before that
        # cannot be started behind it (Python 3.13).
        for _ in range(self._usually):
            self._add()

    def _add(self) -> None:
        """One thread more, under a name that is free."""
        with self._changing:
            taken = {thread.name for thread in self._threads}
            name = next(name for name in self._names if name not in taken)
            for_now = len(taken) >= self._usually
            thread = Thread(target=self._work, args=(IDLE if for_now else None,), name=name)
            thread.start()
            self._threads.append(thread)

    async def stop(self) -> None:
        """Do what was asked so far, and end the threads; called while the reactor runs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._changing:
            self._stopped = True
            threads = list(self._threads)
        ends: list[Deferred[None]] = [Deferred() for _ in threads]
        self._asked += len(ends)
        for end in ends:
            self._jobs.put((0, end, _go_home, ()))
        for end in ends:
            await end
        for thread in threads:
            thread.join()

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call ``function(*args)`` on a thread; see ``interfaces.Executor``."""
        if self._stopped:
            return fail(RuntimeError(f"the workers have gone home before {function}"))
        result: Deferred[T] = Deferred()
        self._asked += 1
        self._put += 1
        self._jobs.put((self._put, result, function, args))
        if self._timer is None and self._threads and len(self._threads) < len(self._names):
            self._look_again(self._put)
        return result

    def _look_again(self, number: int) -> None:
        self._waits = number
        self._timer = self._reactor.callLater(PATIENCE, self._look)

    def _look(self) -> None:
        """Something may have waited for too long."""
        self._timer = None
        waits = self._taken < self._waits
        if waits:
            with suppress(RuntimeError):  # the system has no thread for us now: we ask again
                self._add()
        if len(self._threads) < len(self._names) and self._taken < self._put:
            self._look_again(self._waits if waits else self._put)

    def _work(self, idle: float | None) -> None:
        function: Callable[..., Any] | None = None
        while function is not _go_home:  # each thread takes one of these
            try:
                number, result, function, args = self._jobs.get(timeout=idle)
            except Empty:
                if self._goes():
                    return
                continue
            self._taken = max(self._taken, number)
            try:
                outcome = function(*args)
            except BaseException:
                outcome = Failure()  # type: ignore[no-untyped-call]
            self._results.append((result, outcome))
            del result, outcome, args  # nothing is held while waiting
            if not self._waking:
                self._waking = True
                self._reactor.callFromThread(self._bring)

    def _goes(self) -> bool:
        """There is nothing to do: this thread is needed no more, if nobody counts on it."""
        with self._changing:
            goes = not self._stopped and self._jobs.empty()
            if goes:
                self._threads.remove(current_thread())
            return goes

    def _bring(self) -> None:
        """On the reactor's thread: what comes after the flag went down wakes us once more."""
        self._waking = False
        while self._results:
            result, outcome = self._results.popleft()
            self._asked -= 1
            result.callback(outcome)


def _go_home() -> None:
    """The last thing that a thread does."""
