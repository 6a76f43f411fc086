"""Waits for work; cancelling such a wait does not cancel the work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


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
