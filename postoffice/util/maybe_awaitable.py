"""Answers that may be known at once: a value, or an awaitable of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from types import CoroutineType
from typing import Generic, TypeGuard, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Started(Generic[T]):
    """A coroutine that was run until it had to wait; await it to run the rest."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[object, object, T], waits_for: object) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[object, object, T]:
        waits_for = self._waits_for
        while True:
            try:
                result = yield waits_for
            except BaseException as error:
                resume = partial(self._coroutine.throw, error)
            else:
                resume = partial(self._coroutine.send, result)
            try:
                waits_for = resume()
            except StopIteration as end:
                done: T = end.value
                return done


def waits(answer: T | Awaitable[T]) -> TypeGuard[Awaitable[T]]:
    """Whether an answer must be waited for."""
    return hasattr(answer, "__await__")


def at_once(answer: T | Awaitable[T]) -> T | Awaitable[T]:
    """
    Run a coroutine until it must wait; return its result if it need not wait.

    Any other awaitable, and a value, is returned unchanged.  A coroutine that a
    Deferred runs costs several times as much as one that is run here.
    """
    if type(answer) is not CoroutineType:
        return answer
    try:
        return Started(answer, answer.send(None))
    except StopIteration as end:
        done: T = end.value
        return done


def then(answer: T | Awaitable[T], use: Callable[[T], R | Awaitable[R]]) -> R | Awaitable[R]:
    """Return ``use(answer)``: now if the answer is known, otherwise an awaitable of it."""
    answer = at_once(answer)
    return _later(answer, use) if waits(answer) else use(answer)  # type: ignore[arg-type]


async def _later(answer: Awaitable[T], use: Callable[[T], R | Awaitable[R]]) -> R:
    result = use(await answer)
    return await result if waits(result) else result  # type: ignore[return-value]


async def later(answer: T | Awaitable[T]) -> T:
    """Wait for an answer, if it must be waited for; return it."""
    return await answer if waits(answer) else answer  # type: ignore[return-value]
