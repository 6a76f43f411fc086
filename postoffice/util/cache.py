"""A bounded LRU cache, whose entries may expire."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """
    Values by their keys, at most ``most`` of them.

    With ``weigh``, ``most`` limits the sum of the values' weights instead.  ``clock``
    returns seconds, for entries that expire.  Several threads may share a cache
    without ``weigh``.
    """

    def __init__(
        self,
        most: int,
        clock: Callable[[], float] = time.monotonic,
        weigh: Callable[[V], int] | None = None,
    ) -> None:
        self._most = most
        self._clock = clock
        self._weigh = weigh
        self._weight = 0
        self._entries: OrderedDict[K, tuple[float | None, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        """Whether there is a value that has not expired; this counts as a use of it."""
        return self._used(key) is not None

    def get(self, key: K) -> V | None:
        """The value, or None if there is none or it has expired; this counts as a use of it."""
        entry = self._used(key)
        return None if entry is None else entry[1]

    def set(self, key: K, value: V, seconds: float | None = None) -> None:
        """Store a value; it expires after ``seconds``, if given."""
        self._put(key, None if seconds is None else self._clock() + seconds, value)

    def change(self, key: K, value: V) -> None:
        """Replace the value of a key that has one; the time of expiry stays the same."""
        if (entry := self._used(key)) is not None:
            self._put(key, entry[0], value)

    def pop(self, key: K) -> V | None:
        """Remove a value and return it; None if there is none."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        if self._weigh is not None:
            self._weight -= self._weigh(entry[1])
        return entry[1]

    def clear(self) -> None:
        """Remove all values."""
        self._entries.clear()
        self._weight = 0

    def _used(self, key: K) -> tuple[float | None, V] | None:
        try:  # another thread may remove it in between
            entry = self._entries[key]
            self._entries.move_to_end(key)
        except KeyError:
            return None
        if entry[0] is not None and self._clock() >= entry[0]:
            self.pop(key)
            return None
        return entry

    def _put(self, key: K, until: float | None, value: V) -> None:
        self.pop(key)
        self._entries[key] = until, value
        if self._weigh is None:
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)
            return
        self._weight += self._weigh(value)
        while self._weight > self._most:
            self._weight -= self._weigh(self._entries.popitem(last=False)[1][1])
