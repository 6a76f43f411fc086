"""Who may come in: how many clients at once, and how many from one place."""

from __future__ import annotations

import ipaddress
from collections import Counter


class Doorkeeper:
    """
    Counts the clients of all services together.

    ``total`` may be in at once, ``per_client`` of them from one IPv4 address
    or one IPv6 /64: whoever has one IPv6 address has all of its /64.  Clients
    on a UNIX socket (address "") count only in the total.  Until ``open()``
    nobody is admitted.
    """

    def __init__(self, total: int, per_client: int) -> None:
        self.total = total
        self.per_client = per_client
        self._open = False
        self._inside = 0
        self._places: Counter[str] = Counter()

    def open(self) -> None:
        """From now on clients may come in."""
        self._open = True

    def admit(self, client_address: str) -> bool:
        """Whether one more client may come in; it is then counted until it leaves."""
        place = place_of(client_address)
        if not self._open or self._inside >= self.total:
            return False
        if place and self._places[place] >= self.per_client:
            return False
        self._inside += 1
        if place:
            self._places[place] += 1
        return True

    def leave(self, client_address: str) -> None:
        """A client that was admitted has gone."""
        place = place_of(client_address)
        self._inside -= 1
        if place:
            self._places[place] -= 1
            if not self._places[place]:
                del self._places[place]


def place_of(client_address: str) -> str:
    """What clients at one place have in common: the IPv4 address, or the IPv6 /64."""
    if ":" not in client_address:
        return client_address
    address = ipaddress.IPv6Address(client_address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
