"""Workers of a program that does one thing at a time: the `postoffice` command."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

T = TypeVar("T")


class SoloWorkers:
    """
    What blocks is done in turn, by whoever waits for it; without threads.

    What nobody waits for in the end (a store's sweeping) is not done.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._jobs: deque[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = deque()

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call ``function(*args)`` when it is its turn; see ``interfaces.Workers``."""
        result: Deferred[T] = Deferred()
        self._jobs.append((result, function, args))
        return result

    def finish(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """
        The result of a coroutine; what it raises is raised.

        Where it waits for something else than these workers, the reactor turns.
        """
        outcome: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
        while not outcome:
            if self._jobs:
                self._do(*self._jobs.popleft())
            else:
                self._reactor.iterate(0.1)
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]  # type: ignore[no-any-return]

    def _do(self, result: Deferred[Any], function: Callable[..., Any], args: Any) -> None:
        if not result.called:  # nor cancelled
            maybeDeferred(function, *args).addBoth(result.callback)
