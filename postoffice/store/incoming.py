"""How much of all texts together may be coming in, and not be placed or refused yet."""

from __future__ import annotations

from collections import Counter

from postoffice.model.envelope import Client
from postoffice.model.errors import NoSpace
from postoffice.util.networks import network_of

#: One client, by its network, may have one in so many parts of it.
SHARES = 4


class Incoming:
    """
    Counts the octets of texts that are neither placed nor given up.

    ``most`` is how many there may be, 0 for any number.  A client (an IPv4
    address or an IPv6 /64) may have a quarter of them: nobody alone keeps the
    mail of others out.  Those of this machine may have all.  A single text
    goes on however large it is: something else limits that.
    """

    def __init__(self, most: int) -> None:
        self.octets = 0
        self._most = most
        self._networks: Counter[str] = Counter()

    def text(self, client: Client) -> Load:
        """One text that begins to come."""
        return Load(self, "" if client.local else network_of(client.address))

    def add(self, network: str, own: int, size: int) -> None:
        """So much more comes of a text that has ``own`` octets so far.  Raises NoSpace."""
        if self._most:
            self._see_to(self.octets, own, size, self._most)
            if network:
                self._see_to(self._networks[network], own, size, self._most // SHARES)
        self.octets += size
        if network:
            self._networks[network] += size

    def _see_to(self, octets: int, own: int, size: int, most: int) -> None:
        if octets + size > most and octets > own:
            raise NoSpace(
                f"{octets} octets of messages are just coming in, as many as store.incoming "
                "allows: refused"
            )

    def take(self, network: str, size: int) -> None:
        """So much is placed, or given up."""
        self.octets -= size
        if network:
            self._networks[network] -= size
            if not self._networks[network]:
                del self._networks[network]


class Load:
    """What one text has of it."""

    def __init__(self, incoming: Incoming, network: str) -> None:
        self._incoming = incoming
        self._network = network
        self._octets = 0

    def add(self, size: int) -> None:
        """So much more has come.  Raises NoSpace, and it is not counted."""
        self._incoming.add(self._network, self._octets, size)
        self._octets += size

    def drop(self) -> None:
        """It is placed, or given up.  May be called twice."""
        size, self._octets = self._octets, 0
        if size:
            self._incoming.take(self._network, size)
