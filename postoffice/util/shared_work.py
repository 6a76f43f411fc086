"""Work that is done once for all who ask for it at the same time."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

from postoffice.util.shield import shield

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SharedWork(Generic[K, T]):
    """
    Work that is under way, by its key.

    All who ask for the same key get the same result.  So the work must end with a value: a failure
    could be raised only once.
    """

    def __init__(self) -> None:
        self._under_way: dict[K, Deferred[T]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def __contains__(self, key: K) -> bool:
        return key in self._under_way

    async def get(self, key: K, begin: Callable[[], Deferred[T]]) -> T:
        """
        Wait for the work with this key, and ``begin`` it unless it is under way.

        Cancelling the wait does not cancel the work.
        """
        work = self._under_way.get(key)
        if work is None:
            work = self._under_way[key] = begin()
            work.addBoth(self._ended, key)
        return await shield(work)

    def cancel(self) -> None:
        """Cancel all work."""
        for work in list(self._under_way.values()):
            work.cancel()

    def _ended(self, value: T, key: K) -> T:
        self._under_way.pop(key, None)
        return value
