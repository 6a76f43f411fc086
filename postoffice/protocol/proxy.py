"""The PROXY protocol's header, versions 1 and 2: a load balancer names the real client."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from postoffice.util.networks import in_plain_form

#: Octets of a header of version 1 with its CRLF, and of what follows the fixed part of version 2.
V1_MAXIMUM = 107
V2_MAXIMUM = 2048
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = 16
#: Octets of the addresses and ports of each family.
_TCP4, _TCP6, _UNIX = 0x11, 0x21, 0x31
_LENGTHS = {_TCP4: 12, _TCP6: 36, _UNIX: 216}


class NotProxied(ValueError):
    """These octets are not a PROXY header; the message says why."""


@dataclass(frozen=True)
class ProxiedClient:
    """
    The real client: its IP address ("" on a UNIX socket) and port.

    The address is None if the connection is the load balancer's own (health checks).
    """

    address: str | None = None
    port: int = 0


class ProxyReader:
    """Reads one header; ``rest`` is the input after it."""

    def __init__(self) -> None:
        self.rest = b""
        self._octets = b""

    @property
    def octets(self) -> int:
        """How many octets of the header have arrived."""
        return len(self._octets)

    def feed(self, data: bytes) -> ProxiedClient | None:
        """Take more input; return the client once the header is complete.  Raises NotProxied."""
        octets = self._octets = self._octets + data
        if octets.startswith(_V2):
            return self._version_2(octets)
        if octets.startswith(b"PROXY "):
            return self._version_1(octets)
        if not _V2.startswith(octets[: len(_V2)]) and not b"PROXY ".startswith(octets[:6]):
            raise NotProxied("it begins with something else")
        return None

    def _version_1(self, octets: bytes) -> ProxiedClient | None:
        end = octets.find(b"\r\n", 0, V1_MAXIMUM)
        if end < 0:
            if len(octets) >= V1_MAXIMUM:
                raise NotProxied("a line that is too long")
            return None
        self.rest = octets[end + 2 :]
        try:
            words = octets[:end].decode("ascii").split(" ")
            return _source(words)
        except (UnicodeDecodeError, ValueError) as error:
            raise NotProxied(f"a wrong line: {error}") from None

    def _version_2(self, octets: bytes) -> ProxiedClient | None:
        if len(octets) < _V2_FIXED:
            return None
        version, family = octets[12], octets[13]
        length = int.from_bytes(octets[14:16], "big")
        if version >> 4 != 2 or version & 15 > 1:
            raise NotProxied(f"version and command {version:#04x}")
        if length > V2_MAXIMUM:
            raise NotProxied(f"{length} octets")
        end = _V2_FIXED + length
        if len(octets) < end:
            return None
        self.rest = octets[end:]
        if version & 15 == 0:  # LOCAL: the addresses are ignored
            return ProxiedClient()
        if family >> 4 > 3 or family & 15 > 2:
            raise NotProxied(f"family {family:#04x}")
        if family not in _LENGTHS:  # UNSPEC, or datagrams
            return ProxiedClient()
        if length < _LENGTHS[family]:
            raise NotProxied(f"only {length} octets for family {family:#04x}")
        return _addressed(family, octets[_V2_FIXED:end])


def _source(words: list[str]) -> ProxiedClient:
    """The client of a line of version 1.  Raises ValueError."""
    if words[1] == "UNKNOWN":
        return ProxiedClient()
    _, family, source, destination, source_port, destination_port = words
    _address(family, destination)
    _port(destination_port)
    return ProxiedClient(in_plain_form(_address(family, source)), _port(source_port))


def _address(family: str, text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if family == "TCP4":
        return ipaddress.IPv4Address(text)
    if family == "TCP6":
        return ipaddress.IPv6Address(text.partition("%")[0])
    raise ValueError(f"the family {family!r}")


def _port(text: str) -> int:
    if not text.isdigit() or len(text) > 5 or (text[0] == "0" and len(text) > 1):
        raise ValueError(f"the port {text!r}")
    if int(text) > 65535:
        raise ValueError(f"the port {text!r}")
    return int(text)


def _addressed(family: int, octets: bytes) -> ProxiedClient:
    if family == _TCP4:
        return ProxiedClient(
            str(ipaddress.IPv4Address(octets[:4])), int.from_bytes(octets[8:10], "big")
        )
    if family == _TCP6:
        address = ipaddress.IPv6Address(octets[:16])
        return ProxiedClient(in_plain_form(address), int.from_bytes(octets[32:34], "big"))
    return ProxiedClient("")
