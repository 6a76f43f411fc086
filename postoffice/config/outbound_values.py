"""The types of values under ``outbound``: patterns and targets of routes, hosts, name servers."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from postoffice.model import config_values as kinds
from postoffice.model.address import NotAnAddress
from postoffice.model.route import Direct, Host, Refuse
from postoffice.outbound.routes import NO_ROUTE, NULL, WORDS, read_pattern

DNS_PORT = 53
#: The name of a smarthost.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
#: How a smarthost cannot be called: these are routes themselves.
DIRECT, REFUSE = "direct", "refuse"
_HOST = re.compile(r"(\[[^\]]+\]|[^:]+)(?::(\d{1,5}))?\Z")


def _text(value: object) -> str:
    return kinds.TEXT.read(value).strip()


def _pattern(value: object) -> str:
    try:
        return read_pattern(_text(value))
    except NotAnAddress as error:
        raise ValueError(str(error)) from error


def _domains(value: object) -> str:
    text = _text(value)
    if "@" in text or text == NULL:
        raise ValueError
    return _pattern(text)


def _patterns(_: object) -> tuple[str, ...]:
    """Whole lists are read item by item; this is for all else, such as an empty list."""
    raise ValueError


def _host(value: object) -> str:
    """A host name, or an IP address without brackets."""
    text = _text(value)
    try:
        return str(ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return kinds.HOSTNAME.read(text)


def _port(value: object) -> int:
    port = kinds.POSITIVE.read(value)
    if port > 65535:
        raise ValueError("65535 is the most")
    return port


def _host_and_port(text: str, port: int | None) -> tuple[str, int]:
    """Read ``HOST:PORT``; ``port`` is the default, None if there is none."""
    found = _HOST.match(text)
    if found is None:
        raise ValueError
    if found[2] is None and port is None:
        raise ValueError("the port is missing")
    return _host(found[1]), _port(int(found[2])) if found[2] is not None else port or 0


def _via(value: object) -> Direct | Host | Refuse | str:
    """Read a route; a text is the name of a smarthost."""
    text = _text(value)
    kind, colon, rest = text.partition(":")
    if text == DIRECT:
        return Direct()
    if text == REFUSE:
        return NO_ROUTE
    if kind == "lmtp" and rest.startswith("unix:/"):
        return Host(rest.removeprefix("unix:"), 0, lmtp=True)
    if kind in ("smtp", "lmtp") and colon:
        lmtp = kind == "lmtp"
        return Host(*_host_and_port(rest, None if lmtp else 25), lmtp=lmtp)
    if not NAME.match(text):
        raise ValueError
    return text


def _words(value: object) -> str:
    words = _text(value)
    if not words.isascii() or len(words) > WORDS:
        raise ValueError(f"replies are one line of ASCII characters, {WORDS} at most")
    return words


def _nameserver(value: object) -> tuple[str, int]:
    """Read ``ADDRESS`` or ``ADDRESS:PORT``, an IPv6 address with a port in brackets."""
    text = _text(value)
    try:
        return str(ip_address(text)), DNS_PORT
    except ValueError:
        host, port = _host_and_port(text, DNS_PORT)
        return str(ip_address(host)), port


def _ip(value: object) -> IPv4Address | IPv6Address:
    return ip_address(_text(value))


def _ipv4(value: object) -> IPv4Address:
    return IPv4Address(_text(value))


def _ipv6(value: object) -> IPv6Address:
    return IPv6Address(_text(value))


PATTERN = kinds.Kind("an address, a domain, a .domain for all below it, or <>", _pattern)
DOMAINS = kinds.Kind("a domain, or a .domain for all below it", _domains)
PATTERNS = kinds.Kind(f"a list, each {PATTERN.expects}; not empty", _patterns, PATTERN)
HOST = kinds.Kind("a host name or an IP address", _host)
PORT = kinds.Kind("a port from 1 to 65535", _port)
VIA = kinds.Kind(
    "direct, refuse, the name of a smarthost, smtp:HOST, smtp:HOST:PORT, lmtp:HOST:PORT or "
    "lmtp:unix:/PATH",
    _via,
)
REFUSAL = kinds.Kind("a line of ASCII characters", _words)
NAMESERVER = kinds.Kind("an IP address, or such as 192.0.2.1:5353", _nameserver)
IP = kinds.Kind("an IP address", _ip)
IPV4 = kinds.Kind("an IPv4 address", _ipv4)
IPV6 = kinds.Kind("an IPv6 address", _ipv6)
