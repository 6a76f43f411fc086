"""The executor of a program that does one thing at a time: the `postoffice` command."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TypeVar, TypeVarTuple

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from postoffice.util.reactor import IReactor

T = TypeVar("T")
Args = TypeVarTuple("Args")


class InlineExecutor:
    """
    Runs blocking functions in order, on the caller's thread, without other threads.

    If nothing waits for a function in the end (such as a store's cleanup), it is not run.
    """

    def __init__(self, reactor: IReactor) -> None:
        self._reactor = reactor
        self._turning = False
        self._jobs: deque[Callable[[], None]] = deque()

    def run(self, function: Callable[[*Args], T], *args: *Args) -> Deferred[T]:
        """Call ``function(*args)`` in its turn; see ``interfaces.Executor``."""
        result: Deferred[T] = Deferred()
        self._jobs.append(partial(_run, result, function, *args))
        if self._turning:
            self._reactor.callLater(0, self._do_next)
        return result

    def finish(self, coroutine: Coroutine[Deferred[object], object, T]) -> T:
        """
        Return the result of a coroutine, or raise what it raised.

        If the coroutine waits for something other than this executor, this runs the
        reactor, which is possible only once in a program.
        """
        outcome: list[T | Failure] = []
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
        return outcome[0]

    def _turn_until(self, whole: Deferred[T]) -> None:
        """Run the reactor; without it, waiting for its threads would never end."""
        self._turning = True
        whole.addBoth(lambda _: self._reactor.stop())
        self._reactor.run()

    def _do_next(self) -> None:
        self._jobs.popleft()()


def _run(result: Deferred[T], function: Callable[[*Args], T], *args: *Args) -> None:
    if not result.called:  # it may have been cancelled
        maybeDeferred(function, *args).addBoth(result.callback)
