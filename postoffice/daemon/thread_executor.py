"""Runs blocking functions on threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread
from typing import Any, TypeVar, TypeVarTuple

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from postoffice.util.reactor import IReactor

T = TypeVar("T")
Args = TypeVarTuple("Args")
_Job = tuple[int, Deferred[Any], Callable[..., object], tuple[object, ...]]
#: Seconds that a job waits before the executor starts another thread.
PATIENCE = 0.02
#: Seconds without a job after which an additional thread ends.
IDLE = 10.0


class ThreadExecutor:
    """
    A small pool of threads for blocking functions; results return to the reactor's thread.

    Threads take the interpreter from one another and from the reactor at each system
    call, so only ``usually`` threads exist normally.  If a job has waited for
    ``PATIENCE``, the executor starts another thread, up to ``threads`` in all; additional
    threads end when they are idle.

    Results that are ready at the same time return in one turn of the reactor, because
    waking the reactor costs more than most jobs.  Cancelling the Deferred of a result
    drops the result; the function still runs to its end.
    """

    def __init__(
        self, reactor: IReactor, threads: int = 8, name: str = "worker", *, usually: int = 0
    ) -> None:
        self._reactor = reactor  # IReactorFromThreads; IReactorTime for additional threads
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._results: deque[tuple[Deferred[Any], object]] = deque()
        self._waking = False
        self._stopped = False
        self._asked = 0
        self._names = [f"{name} {n}" for n in range(threads)]
        self._usually = usually or threads
        self._changing = Lock()  # guards:
        self._threads: list[Thread] = []
        self._put = 0  # the number of the last job in the queue
        self._taken = 0  # the number of the last job that a thread has begun
        self._waits = 0  # the number of a job that was still waiting at the last check
        self._timer: IDelayedCall | None = None  # for the next check

    @property
    def busy(self) -> bool:
        """Whether a result has not returned yet."""
        return self._asked > 0

    def start(self) -> None:
        """Start the threads; jobs that were queued before run now."""
        # Threads are made here, not in __init__: the daemon forks in between, and Python 3.13
        # cannot start a thread after the fork that was made before it.
        for _ in range(self._usually):
            self._add()

    def _add(self) -> None:
        """Start one more thread, under a free name."""
        with self._changing:
            taken = {thread.name for thread in self._threads}
            name = next(name for name in self._names if name not in taken)
            for_now = len(taken) >= self._usually
            thread = Thread(target=self._work, args=(IDLE if for_now else None,), name=name)
            thread.start()
            self._threads.append(thread)

    async def stop(self) -> None:
        """Finish the queued jobs and end the threads; the reactor must be running."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._changing:
            self._stopped = True
            threads = list(self._threads)
        ends: list[Deferred[None]] = [Deferred() for _ in threads]
        self._asked += len(ends)
        for end in ends:
            self._jobs.put((0, end, _end_thread, ()))
        for end in ends:
            await end
        for thread in threads:
            thread.join()

    def run(self, function: Callable[[*Args], T], *args: *Args) -> Deferred[T]:
        """Call ``function(*args)`` on a thread; see ``interfaces.Executor``."""
        if self._stopped:
            return fail(RuntimeError(f"the executor has stopped: cannot run {function}"))
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
        """Check whether a job has waited too long."""
        self._timer = None
        waits = self._taken < self._waits
        if waits:
            with suppress(RuntimeError):  # the system has no thread now: try again later
                self._add()
        if len(self._threads) < len(self._names) and self._taken < self._put:
            self._look_again(self._waits if waits else self._put)

    def _work(self, idle: float | None) -> None:
        function: Callable[..., object] | None = None
        while function is not _end_thread:  # each thread takes one of these
            try:
                number, result, function, args = self._jobs.get(timeout=idle)
            except Empty:
                if self._may_end():
                    return
                continue
            self._taken = max(self._taken, number)
            try:
                outcome = function(*args)
            except BaseException:
                outcome = Failure()  # type: ignore[no-untyped-call]
            self._results.append((result, outcome))
            del result, outcome, args  # keep nothing alive while waiting for the next job
            if not self._waking:
                self._waking = True
                self._reactor.callFromThread(self._deliver)

    def _may_end(self) -> bool:
        """Whether this thread may end: there is no job, and it is an additional thread."""
        with self._changing:
            goes = not self._stopped and self._jobs.empty()
            if goes:
                self._threads.remove(current_thread())
            return goes

    def _deliver(self) -> None:
        """Deliver the results, on the reactor's thread; later results wake the reactor again."""
        self._waking = False
        while self._results:
            result, outcome = self._results.popleft()
            self._asked -= 1
            result.callback(outcome)


def _end_thread() -> None:
    """The last job of each thread: it ends the thread."""
