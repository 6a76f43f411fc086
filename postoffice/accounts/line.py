"""A line of those who wait: bounded, fair to each network, and nobody can fill it alone."""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class LineFull(Exception):
    """Nobody more may wait here; the text says of whom there are how many."""


@dataclass(frozen=True)
class Bounds:
    """How many may wait: in all, from one network, and from one larger prefix."""

    total: int
    per_network: int
    per_prefix: int


class Line(Generic[T]):
    """
    Prefixes take turns, and within each whoever came first is first.

    A network is an IPv4 address or an IPv6 /64, a prefix the /24 or the /48
    around it.  This machine, the network "", is bounded by the total alone.
    When the line is full, the last of the most crowded prefix gives way to
    one from a prefix that has fewer in it.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._prefixes: OrderedDict[str, OrderedDict[T, str]] = OrderedDict()
        self._networks: Counter[str] = Counter()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def join(self, item: T, network: str) -> T | None:
        """Stand in line; who must leave it instead, or None.  Raises LineFull."""
        prefix = prefix_of(network)
        ours = len(self._prefixes.get(prefix, ()))
        if network and self._networks[network] >= self._bounds.per_network:
            raise LineFull(f"{self._networks[network]} from {network}")
        if network and ours >= self._bounds.per_prefix:
            raise LineFull(f"{ours} from {prefix}")
        gone = None
        if self._length >= self._bounds.total:
            crowded = max(self._prefixes, key=lambda one: len(self._prefixes[one]))
            if len(self._prefixes[crowded]) <= ours + 1:
                raise LineFull(f"{self._length}")
            gone = next(reversed(self._prefixes[crowded]))
            self._drop(crowded, gone)
        self._prefixes.setdefault(prefix, OrderedDict())[item] = network
        self._networks[network] += 1
        self._length += 1
        return gone

    def leave(self, item: T, network: str) -> None:
        """Whoever stands in it no longer does."""
        self._drop(prefix_of(network), item)

    def next(self) -> T | None:
        """Whose turn it is: it stands in line no longer; None: nobody waits."""
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


def prefix_of(network: str) -> str:
    """The IPv4 /24 or IPv6 /48 around a network (see ``doors.place_of``); "" stays as it is."""
    if not network:
        return ""
    around = ipaddress.ip_network(network, strict=False)
    length = 24 if around.version == 4 else 48
    return str(ipaddress.ip_network((around.network_address, length), strict=False))
