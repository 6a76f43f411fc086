"""Rate limits by key: a token bucket with bounded memory and without timers."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from postoffice.util.cache import Cache


class TokenBucket:
    """
    A bucket of tokens for each key.

    A full bucket has ``count`` tokens; an empty one refills evenly in
    ``per_seconds``.  ``clock`` returns seconds.  At most ``size`` keys are kept: the
    key that was used least recently is dropped first, which gives it a full bucket.
    """

    def __init__(
        self, count: float, per_seconds: float, clock: Callable[[], float], size: int = 10_000
    ) -> None:
        self._count = float(count)
        self._rate = count / per_seconds
        self._clock = clock
        self._buckets: Cache[Hashable, tuple[float, float]] = Cache(size)

    def spend(self, key: Hashable, amount: float = 1) -> bool:
        """Take tokens if there are enough and return True; otherwise take none."""
        left, now = self._left(key)
        enough = left >= amount
        self._buckets.set(key, (left - amount if enough else left, now))
        return enough

    def give_back(self, key: Hashable, amount: float = 1) -> None:
        """Return tokens; a key that was dropped has a full bucket anyway."""
        if key in self._buckets:
            left, now = self._left(key)
            self._buckets.set(key, (min(self._count, left + amount), now))

    def wait(self, key: Hashable, amount: float = 1) -> float:
        """Seconds until there are so many tokens; 0 if there are now."""
        left, _ = self._left(key)
        return max(0.0, (min(amount, self._count) - left) / self._rate)

    def forget(self, key: Hashable) -> None:
        """Give the key a full bucket."""
        self._buckets.pop(key)

    def _left(self, key: Hashable) -> tuple[float, float]:
        now = self._clock()
        left, since = self._buckets.get(key) or (self._count, now)
        return min(self._count, left + max(now - since, 0.0) * self._rate), now
