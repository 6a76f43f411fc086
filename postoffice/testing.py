"""Stand-ins for what is outside a room: for our tests and for plugin authors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute

T = TypeVar("T")


class InlineWorkers:
    """Workers that do everything at once, on the caller's thread."""

    def run(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Call it now."""
        return execute(function, *args)


class PatientWorkers:
    """Workers that do what they were asked when the test says so, in its order."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def run(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Remember it."""
        result: Deferred[T] = Deferred()
        self.waiting.append((result, function, args))
        return result

    def work(self) -> None:
        """Do all that waits now; what follows from it waits."""
        waiting, self.waiting = self.waiting, []
        for result, function, args in waiting:
            execute(function, *args).chainDeferred(result)

    def work_on(self) -> None:
        """Work until nothing waits any more."""
        while self.waiting:
            self.work()


def finish(coroutine: Any) -> Any:
    """The result of a coroutine that has nothing to wait for; what it raises is raised."""
    outcome: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
    assert outcome, "it is still waiting for something"
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


def cut(octets: bytes, places: Iterable[int]) -> list[bytes]:
    """``octets`` in pieces, cut at these places (any whole numbers; they wrap around)."""
    edges = sorted({0, len(octets), *(place % (len(octets) + 1) for place in places)})
    return [octets[start:end] for start, end in pairwise(edges)]
