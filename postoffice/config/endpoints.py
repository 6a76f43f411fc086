"""Endpoints as the configuration has them: what is wrong with one, and which two are the same."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: Kinds that Twisted has by itself, and what each needs.
_KINDS = {"tcp": "PORT", "tcp6": "PORT", "unix": "PATH", "systemd": "domain=INET:index=0"}
_SUCH = "such as tcp:2525, tcp6:25, tcp:25:interface=192.0.2.1 or unix:/run/lmtp"
#: All addresses of the machine: tcp6 takes IPv4 too.
_ALL4, _ALL6 = "0.0.0.0", "::"  # noqa: S104
PORTS = range(1 << 16)


def mistake(text: str) -> str:
    """What people get wrong in an endpoint, and how it is written; "" where it is none of that."""
    kind, colon, rest = text.partition(":")
    if not colon and kind.isdigit():
        return f"did you mean tcp6:{kind}?"
    if re.fullmatch(r"\[[0-9A-Fa-f:.]+\]:\d+", text):
        host, _, port = text.rpartition(":")
        return f"did you mean tcp6:{port}:interface={_escaped(host[1:-1])}?"
    if re.fullmatch(r"[0-9.]+:\d+", text):
        return f"did you mean tcp:{rest}:interface={kind}?"
    if kind not in _KINDS:
        return _unknown(text, kind, rest)
    if kind in ("tcp", "tcp6"):
        return _port(kind, rest)
    return ""


def _unknown(text: str, kind: str, rest: str) -> str:
    """The kind is none of Twisted's own: perhaps a plugin's, or one that was misspelt."""
    word = re.split(r"[ =]", kind.lower())[0]
    if re.fullmatch(r"(tcp|tcp6)[ =]\d+", text.lower()):
        return f"did you mean {word}:{text[len(word) + 1 :]}?"
    if word == "tcp4":
        return f"did you mean tcp:{rest}?"
    if word in ("ssl", "tls"):
        return f"TLS is not part of an endpoint: did you mean tcp6:{rest}?"
    close = difflib.get_close_matches(word, _KINDS, 1)
    if close:
        return f"did you mean {close[0]}:{rest or _KINDS[close[0]]}?"
    return f"{kind!r} is no kind of endpoint; {_SUCH}"


def _port(kind: str, rest: str) -> str:
    """The port of one of TCP's kinds."""
    named = dict(re.findall(r"(\w+)=((?:[^:\\]|\\.)*)", rest))
    port = named.get("port", rest.partition(":")[0])
    if not port.isdecimal():
        host = re.fullmatch(r"([0-9.]+):(\d+)", rest)
        if host:
            return f"did you mean {kind}:{host[2]}:interface={host[1]}?"
        return f"{port!r} is no port; {_SUCH}"
    if int(port) not in PORTS:
        return f"a port is at most {PORTS[-1]}"
    if unknown := sorted(set(named) - {"port", "interface", "backlog"}):
        close = difflib.get_close_matches(unknown[0], ("interface", "backlog", "port"), 1)
        return f"did you mean {close[0]}=?" if close else f"{unknown[0]}= is unknown there"
    if re.search(r"interface=[^:]*:(?!backlog=|port=)", re.sub(r"\\.", "", rest)):
        return "colons of an address are written \\:, such as interface=2001\\:db8\\:\\:1"
    host = named.get("interface", "")
    if ":" in host.replace("\\:", ":") and kind == "tcp":
        return f"did you mean tcp6:{port}:interface={host}?"
    if kind == "tcp6" and re.fullmatch(r"[0-9.]+", host):
        return f"did you mean tcp:{port}:interface={host}?"
    return ""


def _escaped(host: str) -> str:
    return host.replace(":", "\\:")


def twice(named: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """
    Which cannot listen beside one that stands before: its name, and that one's.

    ``named`` has the endpoints of all services, each with a name.
    """
    found = []
    before: list[tuple[str, tuple[str, str]]] = []
    for name, text in named:
        place = _place(text)
        if place is not None:
            found += [(name, other) for other, theirs in before if _meet(place, theirs)][:1]
            before.append((name, place))
    return found


def _place(text: str) -> tuple[str, str] | None:
    """Host and port, or "unix" and a path; None where the system chooses, or nobody can tell."""
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


def _meet(one: tuple[str, str], other: tuple[str, str]) -> bool:
    if one[1] != other[1]:
        return False
    hosts = {one[0], other[0]}
    return (
        len(hosts) == 1 or _ALL6 in hosts or (_ALL4 in hosts and not any(":" in h for h in hosts))
    )
