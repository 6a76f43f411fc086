"""An executor that runs one function at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from twisted.internet.defer import DeferredLock

from postoffice.util.executor import Executor
from postoffice.util.shield import shield, start_work

T = TypeVar("T")
Args = TypeVarTuple("Args")


class SerialExecutor:
    """
    An executor that runs one function at a time: a locked database blocks one thread, not all.

    If the wait is cancelled before the function was called, it is never called; after that,
    only the wait ends, and the next function is called when this one is done.
    """

    def __init__(self, executor: Executor) -> None:
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
