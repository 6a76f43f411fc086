"""IP addresses: their plain form, networks that have them, and those of this machine."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

#: Where Linux lists the addresses of this machine, or of the container in which we are.
_IPV4, _IPV6 = "/proc/self/net/fib_trie", "/proc/self/net/if_inet6"
_LOCAL = re.compile(r"\|-- ([0-9.]+)\n +/32 host LOCAL")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network_of(client_address: str, ipv4_bits: int = 32) -> str:
    """The network that counts as one client: the IPv4 address, or so many bits; the IPv6 /64."""
    if ":" in client_address:
        mapped = ipaddress.IPv6Address(client_address).ipv4_mapped
        if mapped is None:
            return _around(client_address, 64)
        client_address = str(mapped)
    return client_address if ipv4_bits == 32 else _around(client_address, ipv4_bits)


def prefix_of(place: str) -> str:
    """The prefix around a ``network_of``: an IPv4 /24 or an IPv6 /48; "" for ""."""
    return _around(place.partition("/")[0], 48 if ":" in place else 24) if place else ""


def _around(address: str, bits: int) -> str:
    return str(ipaddress.ip_network((address, bits), strict=False))


def within(address: str, networks: Sequence[Network]) -> bool:
    """Whether an IP address (plain form; "" is none) is in one of these networks."""
    if not address or not networks:
        return False
    found = ipaddress.ip_address(address)
    return any(found.version == network.version and found in network for network in networks)


def client_address(peer: object) -> str:
    """The IP address of a peer in its plain form; "" for a UNIX socket."""
    return plain_address(getattr(peer, "host", "") or "")


@lru_cache(maxsize=4096)
def plain_address(host: str) -> str:
    """The address in plain form: IPv4-mapped IPv6 becomes IPv4; "" if it is no address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    return in_plain_form(address)


def in_plain_form(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """The address as text; IPv4-mapped IPv6 becomes IPv4."""
    return str(getattr(address, "ipv4_mapped", None) or address)


def local_addresses(ipv4: str = _IPV4, ipv6: str = _IPV6) -> frozenset[str]:
    """The addresses of this machine that others can reach; none where this is not Linux."""
    found: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = []
    with suppress(OSError):
        found += map(ipaddress.IPv4Address, _LOCAL.findall(Path(ipv4).read_text("ascii")))
    with suppress(OSError):
        lines = Path(ipv6).read_text("ascii").splitlines()
        found += [ipaddress.IPv6Address(int(line.split()[0], 16)) for line in lines]
    return frozenset(str(one) for one in found if not (one.is_loopback or one.is_link_local))
