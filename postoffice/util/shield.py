"""Wait for work in a way that cancelling the wait does not cancel the work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Protocol, TypeVar, TypeVarTuple

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")
Args = TypeVarTuple("Args")


def start_work(awaitable: Awaitable[T]) -> Deferred[T]:
    """Start what an awaitable does; return a Deferred of its result, for several callers."""
    if isinstance(awaitable, Deferred):
        return awaitable
    if isinstance(awaitable, CoroutineType):
        return Deferred.fromCoroutine(awaitable)

    async def wait() -> T:
        return await awaitable

    return Deferred.fromCoroutine(wait())


async def shield(work: Deferred[T], give_back: Callable[[T], object] | None = None) -> T:
    """
    Wait for work; if this coroutine is cancelled, only the waiting ends, not the work.

    If the work ends after the cancellation, its result (an open file, a lock) is
    passed to ``give_back``.  A result stays on ``work`` for other waiters; a failure
    is raised only once.
    """
    waiting: Deferred[T] = Deferred()
    cancelled = False

    def arrived(outcome: T | Failure) -> T | None:
        result = None if isinstance(outcome, Failure) else outcome
        if not cancelled:
            waiting.callback(outcome)
        elif give_back is not None and not isinstance(outcome, Failure):
            give_back(outcome)
        return result

    work.addBoth(arrived)
    try:
        return await waiting
    except CancelledError:
        cancelled = True
        raise


async def with_timeout(seconds: float, clock: IReactorTime, work: Awaitable[T]) -> T:
    """
    Wait so many seconds for work, then cancel it.

    Raises Twisted's TimeoutError then, even if the work goes on.
    """
    working = start_work(work)
    waiting = start_work(shield(working))
    waiting.addTimeout(seconds, clock)
    try:
        return await waiting
    except (CancelledError, TimedOut):
        working.cancel()
        raise


class Runner(Protocol):
    """An executor; see ``interfaces.Executor``."""

    def run(self, function: Callable[[*Args], T], *args: *Args) -> Awaitable[T]: ...


class SerialExecutor:
    """
    An executor that runs one function at a time: a locked database blocks one thread, not all.

    If the wait is cancelled before the function was called, it is never called; after that,
    only the wait ends, and the next function is called when this one is done.
    """

    def __init__(self, executor: Runner) -> None:
        self._executor = executor
        self._lock = DeferredLock()

    async def run(self, function: Callable[[*Args], T], *args: *Args) -> T:
        """Call a function after all others; return its result, or raise what it raised."""
        await self._lock.acquire()
        return await shield(start_work(self._call(function, *args)))

    async def _call(self, function: Callable[[*Args], T], *args: *Args) -> T:
        try:
            return await self._executor.run(function, *args)
        finally:
            self._lock.release()

    async def idle(self) -> None:
        """Wait until all calls are done."""
        await self._lock.acquire()
        self._lock.release()
