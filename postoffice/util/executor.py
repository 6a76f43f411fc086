"""What runs blocking functions: threads in the daemon, the caller itself in a command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Executor(Protocol):
    """Runs blocking functions outside of the reactor's thread."""

    def run(self, function: Callable[[*Args], T], *args: *Args) -> Awaitable[T]:
        """
        Call ``function(*args)`` on another thread; return its result, or raise what it raised.

        Cancelling the wait does not stop the function. If the function acquires something
        that must be released, the caller releases it, even when the caller's wait was
        cancelled.
        """
