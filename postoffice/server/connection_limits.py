"""How many clients may be connected: in all, from one network, and to one service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from postoffice.util.networks import network_of, prefix_of

#: Open files of the daemon beside its connections: log, databases, folders, threads.
FILES_OF_DAEMON = 100
#: Open files of one client: its connection, the lock of its maildrop, a message.
FILES_OF_CLIENT = 3
#: How many times the limit of one IPv6 /64 all the /64s of one /48 may have together.
WIDER = 4


class ConnectionLimits:
    """
    Counts the connected clients of all services together.

    At most ``total`` clients may be connected at once, and ``per_client`` of them
    from one IPv4 address or one IPv6 /64: a host with one IPv6 address usually
    has its whole /64.  Many sites have a /48, which may have four times as many.
    Clients on a UNIX socket (address "") count only towards the total.  Half of
    the total is reserved in equal parts for the ``services``, so that no service
    can take all.
    """

    def __init__(self, total: int, per_client: int, services: Iterable[str] = ()) -> None:
        self.total = total
        self.per_client = per_client
        self._services = frozenset(services)
        self._inside = 0
        self._networks: Counter[str] = Counter()
        self._served: Counter[str] = Counter()

    def admit(self, client_address: str, service: str = "") -> bool:
        """Whether one more client may connect; if so, it is counted until ``leave``."""
        networks = _networks_of(client_address)
        if self.total - self._inside <= self._kept_for_others(service) or any(
            self._networks[network] >= self.per_client * times for network, times in networks
        ):
            return False
        self._inside += 1
        self._served[service] += 1
        for network, _ in networks:
            self._networks[network] += 1
        return True

    def leave(self, client_address: str, service: str = "") -> None:
        """An admitted client has disconnected."""
        self._inside -= 1
        self._served[service] -= 1
        for network, _ in _networks_of(client_address):
            self._networks[network] -= 1
            if not self._networks[network]:
                del self._networks[network]

    def _kept_for_others(self, service: str) -> int:
        """How many free connections are reserved for the other services."""
        if not self._services:
            return 0
        part = self.total // 2 // len(self._services)
        return sum(max(part - self._served[one], 0) for one in self._services if one != service)


def _networks_of(client_address: str) -> list[tuple[str, int]]:
    """The networks in which a client is counted, each with its multiple of ``per_client``."""
    network = network_of(client_address)
    if not network:
        return []
    if ":" not in network:
        return [(network, 1)]
    return [(network, 1), (prefix_of(network), WIDER)]
