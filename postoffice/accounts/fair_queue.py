"""A bounded queue that is fair to each network, and that no network can fill alone."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from postoffice.util.networks import prefix_of

T = TypeVar("T")


class QueueFull(Exception):
    """The queue takes no more; the text says how many wait already, and from where."""


@dataclass(frozen=True)
class Bounds:
    """How many items may wait: in all, from one network, and from one larger prefix."""

    total: int
    per_network: int
    per_prefix: int


class FairQueue(Generic[T]):
    """
    Prefixes take turns; within a prefix the oldest item is next.

    A network is an IPv4 address or an IPv6 /64, a prefix the /24 or the /48
    around it.  This machine, the network "", is bounded by the total alone.
    When the queue is full, the newest item of the most crowded prefix gives
    way to an item from a prefix that has fewer.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._prefixes: OrderedDict[str, OrderedDict[T, str]] = OrderedDict()
        self._networks: Counter[str] = Counter()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def join(self, item: T, network: str) -> T | None:
        """Add an item; return the item that gives way to it, or None.  Raises QueueFull."""
        prefix = prefix_of(network)
        ours = len(self._prefixes.get(prefix, ()))
        if network and self._networks[network] >= self._bounds.per_network:
            raise QueueFull(f"{self._networks[network]} from {network}")
        if network and ours >= self._bounds.per_prefix:
            raise QueueFull(f"{ours} from {prefix}")
        gone = None
        if self._length >= self._bounds.total:
            crowded = max(self._prefixes, key=lambda one: len(self._prefixes[one]))
            if len(self._prefixes[crowded]) <= ours + 1:
                raise QueueFull(f"{self._length}")
            gone = next(reversed(self._prefixes[crowded]))
            self._drop(crowded, gone)
        self._prefixes.setdefault(prefix, OrderedDict())[item] = network
        self._networks[network] += 1
        self._length += 1
        return gone

    def leave(self, item: T, network: str) -> None:
        """Take an item out, if it is there."""
        self._drop(prefix_of(network), item)

    def next(self) -> T | None:
        """Take out the item whose turn it is; None where nothing waits."""
        if not self._length:
            return None
        prefix, items = next(iter(self._prefixes.items()))
        item = next(iter(items))
        self._prefixes.move_to_end(prefix)
        self._drop(prefix, item)
        return item

    def _drop(self, prefix: str, item: T) -> None:
        items = self._prefixes.get(prefix)
        if items is None or item not in items:
            return
        network = items.pop(item)
        if not items:
            del self._prefixes[prefix]
        self._networks[network] -= 1
        if not self._networks[network]:
            del self._networks[network]
        self._length -= 1
