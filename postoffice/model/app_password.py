"""App passwords: each device of an account (a mail program) has its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

#: Where the password of a device may be used.
PROTOCOLS = ("any", "pop3", "smtp")


@dataclass(frozen=True)
class AppPassword:
    """
    The password of one device, as a directory returns it.

    ``name`` is the device's name, unique in its account.  ``id`` is the part of the
    password by which it is looked up, ``secret`` the digest of the whole password,
    and ``scram`` its SCRAM-SHA-256 keys (``protocol.scram.Keys``), or None.
    ``added`` and ``expires`` are seconds since 1970; ``expires`` None means never.
    ``protocol`` is one of PROTOCOLS; ``networks`` are the addresses and networks
    from which the password may be used, as text (empty: from everywhere).
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
        """Whether the password has expired."""
        return self.expires is not None and now >= self.expires

    def objection(self, service: str, client_address: str, now: float) -> str:
        """Why the password is refused for this service and client, as text; empty if it is not."""
        if self.expired(now):
            return "it has expired"
        if service == "web":
            return "it is for mail programs, not for the web page"
        if self.protocol not in ("any", protocol_of(service)):
            return f"it is for {self.protocol} only"
        if self.networks and not allowed_from(client_address, self.networks):
            return f"it is for {', '.join(self.networks)} only"
        return ""


def allowed_from(client_address: str, networks: Iterable[str]) -> bool:
    """Whether an address is in one of the networks; "local" is a client on a UNIX socket."""
    if not client_address:
        return "local" in networks
    address = ipaddress.ip_address(client_address)
    return any(address in ipaddress.ip_network(one) for one in networks if one != "local")


def networks_of(text: str) -> tuple[str, ...]:
    """Return the networks in a text with commas between them.  Raises ValueError."""
    words = (one.strip() for one in text.split(","))
    return tuple(
        one if one == "local" else str(ipaddress.ip_network(one, strict=False)) for one in words
    )


def protocol_of(service: str) -> str:
    """The protocol of a service's name in the configuration; empty for an empty name."""
    if not service:
        return ""
    return "pop3" if service.startswith("pop3") else "smtp"
