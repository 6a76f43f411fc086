"""The IP addresses of this machine's network interfaces."""

from __future__ import annotations

import fcntl
import socket
import struct
from contextlib import suppress
from ipaddress import IPv6Address

#: ``ioctl`` that asks an interface for its IPv4 address (netdevice(7)).
_SIOCGIFADDR = 0x8915
_IPV6 = "/proc/net/if_inet6"


def own_addresses() -> list[str]:
    """List the addresses; for IPv4 the first one of each interface.  Blocks for a moment."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                answer = fcntl.ioctl(asked, _SIOCGIFADDR, struct.pack("40s", name.encode()[:15]))
                found.append(socket.inet_ntoa(answer[20:24]))
    with suppress(OSError), open(_IPV6, encoding="ascii") as lines:
        found += [str(IPv6Address(int(line.split()[0], 16))) for line in lines]
    return found
