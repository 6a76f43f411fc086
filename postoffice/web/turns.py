"""Requests of one account take turns: some at a time, or one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore

from postoffice.util.shield import shield

T = TypeVar("T")


class Turns:
    """Which accounts have requests that run or wait; ``at_once`` of one account run at a time."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._under_way: dict[str, tuple[DeferredSemaphore, int]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def take(self, account: str, work: Callable[[], Awaitable[T]]) -> T:
        """
        Wait for a turn of the account, call ``work``, and return its result.

        A request that is cancelled while it waits gives up its turn.  Work that has begun goes
        on, and its turn ends with it: a thread that reads a maildrop cannot be stopped.
        """
        turns, count = self._under_way.get(account, (DeferredSemaphore(self._at_once), 0))
        self._under_way[account] = turns, count + 1
        try:
            await turns.acquire()
        except BaseException:
            self._leave(account)
            raise
        return await shield(Deferred.fromCoroutine(self._work(account, turns, work)))

    async def _work(
        self, account: str, turns: DeferredSemaphore, work: Callable[[], Awaitable[T]]
    ) -> T:
        try:
            return await work()
        finally:
            turns.release()
            self._leave(account)

    def _leave(self, account: str) -> None:
        turns, count = self._under_way[account]
        if count == 1:
            del self._under_way[account]
        else:
            self._under_way[account] = turns, count - 1
