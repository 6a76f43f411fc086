"""Configuration keys and value types: how a value is read, its default, and its explanation."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Generic, TypeVar

from postoffice.model.address import Address, NotAnAddress, normal_domain

#: The default of a key that must be given.
REQUIRED = object()
A_DAY = 86400

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Number = TypeVar("Number", int, float)

_UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40,
          "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}  # fmt: skip
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)\Z")
_SECONDS = {"": 1, "s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600,
            "d": 86400, "day": 86400, "week": 604800,
            "month": 2592000, "year": 31536000}  # fmt: skip
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([A-Za-z]*)\Z")
_RATE = re.compile(r"(\d{1,9})\s*/\s*(\S.*)\Z")
_ENDPOINT = re.compile(r"[a-z][a-z0-9_]*:\S")


@dataclass(frozen=True)
class Kind(Generic[T_co]):
    """
    A type of value: ``expects`` describes it for users, ``read`` converts a value of YAML.

    ``read`` raises ValueError; its text, if any, says what is wrong.  ``item`` is the
    type of a list's items: each is read, and reported, by itself.
    """

    expects: str
    read: Callable[[object], T_co]
    item: Kind[object] | None = None


class Secret(Kind[T_co]):
    """A type of value that no error text may show."""


@dataclass(frozen=True)
class Key:
    """
    One key of the configuration, or of a maker's options.

    ``default`` is written as in the file; REQUIRED if there is none.  ``text``
    explains the key, in sentences, to an administrator.  ``example`` is shown in the
    file if the default is None.
    """

    name: str
    kind: Kind[object]
    default: object
    text: str
    example: str | None = None


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError
    return value


def _percent(value: object) -> int:
    found = _whole(value)
    if not 1 <= found <= 100:
        raise ValueError
    return found


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def read_size(value: object) -> int:
    """Octets, from a number or a text such as ``50 MiB``; raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.match(value.strip()) if isinstance(value, str) else None
    if found is None or found[2].upper() not in _UNITS:
        raise ValueError
    return int(float(found[1]) * _UNITS[found[2].upper()])


def read_duration(value: object) -> float:
    """Seconds, from a number or a text such as ``5 min``; raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return float(value)
    found = _DURATION.match(value.strip()) if isinstance(value, str) else None
    unit = found[2].lower() if found is not None else "?"
    unit = unit if unit in _SECONDS else unit.removesuffix("s")
    if found is not None and unit not in _SECONDS:
        raise ValueError("units are s, min, h, day, week, month (30 days) and year (365 days)")
    if found is None:
        raise ValueError
    return read_duration(float(found[1]) * _SECONDS[unit])


def read_days(value: object) -> float:
    """Seconds: 0, or at least a day, so that a forgotten unit does not remove mail early."""
    found = read_duration(value)
    if 0 < found < A_DAY:
        raise ValueError("a day is the least; a number without a unit is seconds")
    return found


def read_rate(value: object) -> tuple[int, float]:
    """How many, in how many seconds: ``100/h``, ``5 / 10 min``; raises ValueError."""
    found = _RATE.match(_text(value).strip())
    if found is None:
        raise ValueError
    count, per = int(found[1]), found[2]
    seconds = read_duration(per if per[0].isdigit() else f"1 {per}")
    if not count or not seconds:
        raise ValueError
    return count, seconds


def _network(value: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(_text(value).strip(), strict=False)
    except ValueError as error:
        raise ValueError(str(error)) from error
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    # IPv4 clients are compared in their plain form
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def _address(value: object) -> Address:
    try:
        return Address.parse(_text(value))
    except NotAnAddress as error:
        raise ValueError(str(error)) from error


def _hostname(value: object) -> str:
    try:
        found = normal_domain(_text(value))
    except NotAnAddress as error:
        raise ValueError(str(error)) from error
    if found.startswith("["):
        raise ValueError("an address literal is no host name")
    return found


def _endpoint(value: object) -> str:
    if not _ENDPOINT.match(_text(value)):
        raise ValueError
    return str(value)


def _date(value: object) -> date:
    """A day as YAML has it, or as a text."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    return date.fromisoformat(_text(value))


def one_of(*words: str) -> Kind[str]:
    """One of these words."""

    def read(value: object) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Kind("one of " + ", ".join(words), read)


def list_of(kind: Kind[T]) -> Kind[tuple[T, ...]]:
    """A list of values of one kind."""

    def read(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise ValueError
        return tuple(kind.read(item) for item in value)

    return Kind(f"a list, each {kind.expects}", read, kind)


def at_least(minimum: int | str, kind: Kind[Number]) -> Kind[Number]:
    """A number or a size of at least ``minimum``, which is written as in the file."""
    least = kind.read(minimum)

    def read(value: object) -> Number:
        found = kind.read(value)
        if found < least:
            raise ValueError(f"{minimum} is the least")
        return found

    return Kind(f"{kind.expects.removesuffix(', 0 or more')}, {minimum} or more", read)


TEXT = Kind("a text", _text)
SECRET = Secret("a text; put it in quotes", _text)
WHOLE = Kind("a whole number, 0 or more", _whole)
POSITIVE = at_least(1, WHOLE)
PERCENT = Kind("a percentage from 1 to 100, without its sign", _percent)
TRUTH = Kind("true or false", _truth)
SIZE = Kind("a size (octets, or such as 50 MiB)", read_size)
DURATION = Kind("a duration (seconds, or such as 5 min, 2 days)", read_duration)
DAYS = Kind("0, or a duration of a day or more, such as 30 days", read_days)
DATE = Kind("a day, such as 2027-03-01", _date)
RATE = Kind("a rate, such as 100/h or 10/5 min", read_rate)
NETWORK = Kind("an IP address or a network, such as 192.0.2.0/24", _network)
ADDRESS = Kind("a mail address", _address)
HOSTNAME = Kind("a host name, such as mail.example.net", _hostname)
ENDPOINT = Kind("a Twisted endpoint, such as tcp:2525:interface=127.0.0.1", _endpoint)
#: A path; the configuration's reader makes it absolute, from the file's folder or ``state``.
PATH = Kind("a path", _text)
