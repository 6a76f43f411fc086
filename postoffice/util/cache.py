"""A cache: bounded, the least used entry goes first, and an entry may have an age."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """
    Values by their keys, no more than ``most`` of them.

    With ``weigh`` it is the sum of their weights that is at most ``most``.
    ``clock`` tells seconds, for values with an age.  Several threads may share
    a cache without ``weigh``.
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
        """Whether there is a value that has not expired; to ask is to use it."""
        return self._used(key) is not None

    def get(self, key: K) -> V | None:
        """The value, which is used by that; None where there is none, or it has expired."""
        entry = self._used(key)
        return None if entry is None else entry[1]

    def set(self, key: K, value: V, seconds: float | None = None) -> None:
        """Keep a value, for so many seconds at most."""
        self._put(key, None if seconds is None else self._clock() + seconds, value)

    def change(self, key: K, value: V) -> None:
        """Another value for a key that has one; it expires when that one would have."""
        if (entry := self._used(key)) is not None:
            self._put(key, entry[0], value)

    def pop(self, key: K) -> V | None:
        """Take a value out."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        if self._weigh is not None:
            self._weight -= self._weigh(entry[1])
        return entry[1]

    def clear(self) -> None:
        """Take all values out."""
        self._entries.clear()
        self._weight = 0

    def _used(self, key: K) -> tuple[float | None, V] | None:
        try:  # another thread may take it out in between
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
