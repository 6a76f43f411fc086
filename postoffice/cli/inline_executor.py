"""Workers of a program that does one thing at a time: the `postoffice` command."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

T = TypeVar("T")


class InlineExecutor:
    """
    What blocks is done in turn, by whoever waits for it; without threads.

    What nobody waits for in the end (a store's sweeping) is not done.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._turning = False
        self._jobs: deque[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = deque()

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call ``function(*args)`` when it is its turn; see ``interfaces.Executor``."""
        result: Deferred[T] = Deferred()
        self._jobs.append((result, function, args))
        if self._turning:
            self._reactor.callLater(0, self._do_next)
        return result

    def finish(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """
        The result of a coroutine; what it raises is raised.

        Where it waits for something else than these workers, the reactor is
        run, as it is only once in a program.
        """
        outcome: list[Any] = []
        whole = Deferred.fromCoroutine(coroutine)
        whole.addBoth(outcome.append)
        while self._jobs and not outcome:
            self._do_next()
        if not outcome:
            self._turn_until(whole)
        if not outcome:
            raise KeyboardInterrupt  # a signal has stopped the reactor
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]  # type: ignore[no-any-return]

    def _turn_until(self, whole: Deferred[Any]) -> None:
        """Run the reactor: what waits for its threads or its start waits for ever otherwise."""
        self._turning = True
        whole.addBoth(lambda _: self._reactor.stop())
        self._reactor.run()

    def _do_next(self) -> None:
        result, function, args = self._jobs.popleft()
        if not result.called:  # nor cancelled
            maybeDeferred(function, *args).addBoth(result.callback)
