"""The requests of one account take turns: nobody keeps all workers busy, which mail needs, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore

from postoffice.util.shield import shield

T = TypeVar("T")

#: Requests of one account that are worked on at once.
AT_ONCE = 2


class Turns:
    """Whose requests are worked on or wait, and how many."""

    def __init__(self) -> None:
        self._under_way: dict[str, tuple[DeferredSemaphore, int]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def take(self, account: str, work: Callable[[], Awaitable[T]]) -> T:
        """
        Wait for a turn of the account, work, and return the result.

        If it is cancelled, the waiting ends, but not work that has begun: a worker that reads a
        maildrop goes on, and the turn is over when it is done.
        """
        turns, count = self._under_way.get(account, (DeferredSemaphore(AT_ONCE), 0))
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
