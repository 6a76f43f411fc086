"""Wait for work in a way that cancelling the wait does not cancel the work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def start_work(awaitable: Awaitable[T]) -> Deferred[T]:
    """Turn an executor's awaitable into a Deferred that several callers can wait for."""
    if isinstance(awaitable, Deferred):
        return awaitable

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

    def arrived(outcome: Any) -> Any:
        failed = isinstance(outcome, Failure)
        if not cancelled:
            waiting.callback(outcome)
        elif give_back is not None and not failed:
            give_back(outcome)
        return None if failed else outcome

    work.addBoth(arrived)
    try:
        return await waiting
    except CancelledError:
        cancelled = True
        raise
