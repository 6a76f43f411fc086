"""Waiting for a thread that goes on when nobody waits any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def start_work(awaitable: Awaitable[T]) -> Deferred[T]:
    """What workers gave us, as a Deferred that several may wait for."""
    if isinstance(awaitable, Deferred):
        return awaitable

    async def wait() -> T:
        return await awaitable

    return Deferred.fromCoroutine(wait())


async def shield(work: Deferred[T], give_back: Callable[[T], object] | None = None) -> T:
    """
    Wait for work without ending it: whoever is cancelled only stops waiting.

    What the work brings after that is handed to ``give_back``: an open file,
    a lock.  A result stays on ``work`` for others; a failure is raised once.
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
