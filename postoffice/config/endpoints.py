"""Endpoints as the configuration has them: mistakes in one, and two that cannot both be open."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: The kinds of Twisted itself, and what each needs.
_KINDS = {"tcp": "PORT", "tcp6": "PORT", "unix": "PATH", "systemd": "domain=INET:index=0"}
_EXAMPLES = "such as tcp:2525, tcp6:25, tcp:25:interface=192.0.2.1 or unix:/run/lmtp"
#: All addresses of the machine: tcp6 accepts IPv4 clients too.
_ALL4, _ALL6 = "0.0.0.0", "::"  # noqa: S104
PORTS = range(1 << 16)
#: What people write, and what they mean by it; an interface is escaped.
_MEANT = tuple(
    (re.compile(written, re.IGNORECASE), meant)
    for written, meant in (
        (r"(?P<port>\d+)", "tcp6:{port}"),
        (r"\[(?P<host>[0-9a-f:.]+)\]:(?P<port>\d+)", "tcp6:{port}:interface={host}"),
        (r"(?P<host>[0-9.]+):(?P<port>\d+)", "tcp:{port}:interface={host}"),
        (r"(?P<kind>tcp6?)[ =](?P<port>\d+)", "{kind}:{port}"),
        (r"tcp4:(?P<port>.*)", "tcp:{port}"),
        (r"(?P<kind>tcp6?):(?P<host>[0-9.]+):(?P<port>\d+)", "{kind}:{port}:interface={host}"),
        (r"tcp6:(?P<port>\d+):interface=(?P<host>[0-9.]+)", "tcp:{port}:interface={host}"),
        (r"tcp:(?P<port>\d+):interface=(?P<host>[0-9a-f]*\\:.*)", "tcp6:{port}:interface={host}"),
    )
)


def mistake(text: str) -> str:
    """What is wrong with an endpoint, and what was probably meant; "" if no mistake is known."""
    for written, meant in _MEANT:
        if found := written.fullmatch(text):
            words = {name: word.lower() for name, word in found.groupdict().items()}
            words["host"] = re.sub(r"\\?:", r"\\:", words.get("host", ""))
            return f"did you mean {meant.format(**words)}?"
    kind, _, rest = text.partition(":")
    if kind not in _KINDS:
        return _unknown(kind, rest)
    return _port(rest) if kind.startswith("tcp") else ""


def _unknown(kind: str, rest: str) -> str:
    """What is wrong with a kind that Twisted itself does not have."""
    word = re.split(r"[ =]", kind.lower())[0]
    if word in ("ssl", "tls"):
        return f"TLS is not part of an endpoint: did you mean tcp6:{rest}?"
    if close := difflib.get_close_matches(word, _KINDS, 1):
        return f"did you mean {close[0]}:{rest or _KINDS[close[0]]}?"
    return f"{kind!r} is no kind of endpoint; {_EXAMPLES}"


def _port(rest: str) -> str:
    """What is wrong with the rest of a TCP endpoint."""
    named = dict(re.findall(r"(\w+)=((?:[^:\\]|\\.)*)", rest))
    port = named.get("port", rest.partition(":")[0])
    if not port.isdecimal():
        return f"{port!r} is no port; {_EXAMPLES}"
    if int(port) not in PORTS:
        return f"a port is at most {PORTS[-1]}"
    if unknown := sorted(set(named) - {"port", "interface", "backlog"}):
        close = difflib.get_close_matches(unknown[0], ("interface", "backlog", "port"), 1)
        return f"did you mean {close[0]}=?" if close else f"{unknown[0]}= is unknown there"
    if re.search(r"interface=[^:]*:(?!backlog=|port=)", re.sub(r"\\.", "", rest)):
        return "colons of an address are written \\:, such as interface=2001\\:db8\\:\\:1"
    return ""


def find_clashes(named: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """
    The endpoints that cannot listen beside an earlier one: the names of both.

    ``named`` has the name and the text of each endpoint.
    """
    found = []
    earlier: list[tuple[str, tuple[str, str]]] = []
    for name, text in named:
        address = address_of(text)
        if address is not None:
            found += [(name, other) for other, theirs in earlier if _clash(address, theirs)][:1]
            earlier.append((name, address))
    return found


def clash(one: str, other: str) -> bool:
    """Whether two endpoints cannot listen at the same time."""
    return bool(find_clashes((("one", one), ("other", other))))


def address_of(text: str) -> tuple[str, str] | None:
    """Host and port, or "unix" and a path; None if the system chooses them, or if unknown."""
    kind, _, rest = text.partition(":")
    words = [word.replace("\\", "") for word in re.split(r"(?<!\\):", rest)]
    named = dict(word.split("=", 1) for word in words if "=" in word)
    plain = [*(word for word in words if "=" not in word), ""]
    if kind == "unix":
        return "unix", named.get("address", plain[0])
    port = named.get("port", plain[0])
    if kind not in ("tcp", "tcp6") or not port.isdecimal() or int(port) == 0:
        return None
    host = named.get("interface", plain[1] if len(plain) > 2 else "")
    return host or (_ALL6 if kind == "tcp6" else _ALL4), str(int(port))


def port_of(text: str) -> int:
    """Return the TCP port of an endpoint; 0 if it has none, or leaves it to the system."""
    address = address_of(text)
    return int(address[1]) if address is not None and address[0] != "unix" else 0


def _clash(one: tuple[str, str], other: tuple[str, str]) -> bool:
    if one[1] != other[1]:
        return False
    hosts = {one[0], other[0]}
    return (
        len(hosts) == 1 or _ALL6 in hosts or (_ALL4 in hosts and not any(":" in h for h in hosts))
    )
