"""The limit (store.incoming) on octets of messages that are being received at the same time."""

from __future__ import annotations

from collections import Counter

from postoffice.model.envelope import Client
from postoffice.model.errors import NoSpace
from postoffice.util.networks import network_of

#: One client's network may use 1/SHARES of the limit.
SHARES = 4


class ReceivingLimit:
    """
    Counts the octets of messages that are neither committed nor aborted.

    ``most`` is the limit, 0 for none.  A client (an IPv4 address or an IPv6 /64) may
    use a quarter of it, so that no single client keeps the mail of others out;
    clients on this machine may use all.  A message is never refused if it is the
    only one: the size limit of a message is checked elsewhere.
    """

    def __init__(self, most: int) -> None:
        self.octets = 0
        self._most = most
        self._networks: Counter[str] = Counter()

    def text(self, client: Client) -> Reservation:
        """Begin to count a message from ``client``."""
        return Reservation(self, "" if client.local else network_of(client.address))

    def add(self, network: str, own: int, size: int) -> None:
        """Count ``size`` more octets of a message that has ``own`` so far.  Raises NoSpace."""
        if self._most:
            self._check(self.octets, own, size, self._most)
            if network:
                self._check(self._networks[network], own, size, self._most // SHARES)
        self.octets += size
        if network:
            self._networks[network] += size

    def _check(self, octets: int, own: int, size: int, most: int) -> None:
        if octets + size > most and octets > own:
            raise NoSpace(
                f"refused: {octets} octets of messages are being received, as many as "
                "store.incoming allows"
            )

    def take(self, network: str, size: int) -> None:
        """Subtract a message that was committed or aborted."""
        self.octets -= size
        if network:
            self._networks[network] -= size
            if not self._networks[network]:
                del self._networks[network]


class Reservation:
    """The octets of one message that is being received."""

    def __init__(self, limit: ReceivingLimit, network: str) -> None:
        self._limit = limit
        self._network = network
        self._octets = 0

    def add(self, size: int) -> None:
        """Count more octets.  Raises NoSpace; then they are not counted."""
        self._limit.add(self._network, self._octets, size)
        self._octets += size

    def drop(self) -> None:
        """The message was committed or aborted.  May be called twice."""
        size, self._octets = self._octets, 0
        if size:
            self._limit.take(self._network, size)
