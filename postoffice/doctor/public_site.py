"""What clients and other servers see of this post office, taken from its settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

from postoffice.config.endpoints import address_of
from postoffice.config.listeners import Listeners
from postoffice.config.settings import Settings
from postoffice.model.route import Direct

#: The ports at which clients look for the services first (RFC 5321, 6409, 8314, 1939).
USUAL_PORTS = {"smtp": 25, "submission": 587, "submissions": 465, "pop3": 110, "pop3s": 995}
#: Who delivers our mail to other domains: we ourselves, another server, or nobody.
DIRECT, SMARTHOST, NOTHING = "direct", "smarthost", "nothing"


@dataclass(frozen=True, kw_only=True)
class PublicSite:
    """
    The names, addresses and ports under which clients and other servers find this post office.

    ``addresses`` are the public ones that are known; a router may have others.  ``ports`` has the
    services that listen.  ``sends`` is one of DIRECT, SMARTHOST and
    NOTHING.
    """

    hostname: str
    addresses: tuple[str, ...] = ()
    ports: dict[str, int] = field(default_factory=dict)
    sends: str = NOTHING
    smarthosts: tuple[str, ...] = ()


def site_of(settings: Settings, local: Iterable[str] = ()) -> PublicSite:
    """Return what the settings say; ``local`` are the addresses of this machine."""
    outbound = settings.outbound
    known = list(local)
    sends = NOTHING
    if outbound is not None:
        source = outbound.source
        known = [*map(str, filter(None, (source.v4, source.v6))), *map(str, outbound.addresses),
                 *known]  # fmt: skip
        ways = [route.via for route in outbound.routes]
        direct = any(isinstance(way, Direct) for way in ways)
        sends = DIRECT if direct else SMARTHOST if ways else NOTHING
    return PublicSite(
        hostname=settings.hostname.lower(),
        addresses=tuple(dict.fromkeys(filter(_is_public, known))),
        ports=dict(_ports(settings.listeners)),
        sends=sends,
        smarthosts=tuple(one.host for one in outbound.smarthosts.values()) if outbound else (),
    )


def _is_public(address: str) -> bool:
    return ip_address(address).is_global


def _ports(listeners: Listeners) -> Iterable[tuple[str, int]]:
    """
    Yield each service with the port at which clients connect.

    If there are several, it is the usual one.  A service that only this machine can reach is behind
    another server or a router, which has the usual port.
    """
    for service, usual in USUAL_PORTS.items():
        places = [address_of(one.endpoint) for one in listeners.of(service)]
        if not places:
            continue
        open_ports = [
            int(place[1]) for place in places if place and place[0] != "unix" and not _here(place)
        ]
        yield service, usual if not open_ports or usual in open_ports else open_ports[0]


def _here(place: tuple[str, str]) -> bool:
    """Return whether only this machine can connect."""
    try:
        return ip_address(place[0]).is_loopback
    except ValueError:
        return place[0] == "localhost"
