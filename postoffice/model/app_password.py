"""A device of an account: a mail program, or what it runs on, with a password of its own."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

#: Where the password of a device may be used.
PROTOCOLS = ("any", "pop3", "smtp")


@dataclass(frozen=True)
class AppPassword:
    """
    One device, as a directory tells of it.

    ``name`` is its own in its account.  ``id`` is the part of its password
    by which that is found, ``secret`` the digest of the whole, and ``scram``
    its SCRAM-SHA-256 keys (``protocol.scram.Keys``), or None.  ``added`` and
    ``expires`` are seconds since 1970; None: never.  It may be used with one
    of PROTOCOLS, and from ``networks`` (addresses and networks, in words; none:
    from everywhere).
    """

    name: str
    id: str
    secret: str = field(repr=False)
    scram: str | None = field(default=None, repr=False)
    added: float = 0.0
    expires: float | None = None
    protocol: str = "any"
    networks: tuple[str, ...] = ()

    def expired(self, now: float) -> bool:
        """Whether its password is taken no more."""
        return self.expires is not None and now >= self.expires

    def objection(self, service: str, client_address: str, now: float) -> str:
        """Why its password is not taken by a service from there, in words; or empty."""
        if self.expired(now):
            return "it has expired"
        if self.protocol not in ("any", protocol_of(service)):
            return f"it is for {self.protocol} only"
        if self.networks and not self._within(client_address):
            return f"it is for {', '.join(self.networks)} only"
        return ""

    def _within(self, client_address: str) -> bool:
        if not client_address:  # a UNIX socket
            return False
        address = ipaddress.ip_address(client_address)
        return any(address in ipaddress.ip_network(network) for network in self.networks)


def protocol_of(service: str) -> str:
    """Of PROTOCOLS, that of a service's word in the configuration; of none, none."""
    if not service:
        return ""
    return "pop3" if service.startswith("pop3") else "smtp"
