"""
Examines the ports: whether this daemon answers on each, and whether we can connect to port 25.

All functions block; the ports are tried side by side, and each has a few seconds.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from postoffice.config.endpoints import address_of
from postoffice.config.listeners import IMPLICIT_TLS, Listeners, ListenerSettings
from postoffice.doctor.findings import Finding, Report
from postoffice.util.networks import within

#: Seconds for one port; ports that are tried at the same time; octets of a greeting.
PATIENCE, TOGETHER, GREETING = 4.0, 16, 1024
#: Processes that are searched for the one that has a port.
PROCESSES = 10000
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
_PEER = struct.Struct("3i")
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_LISTENS = "0A"


@dataclass(frozen=True)
class Greeting:
    """The greeting of a port; ``open`` is False if nobody listens."""

    open: bool
    text: str = ""
    why: str = ""


def daemon_process(control: str) -> int | None:
    """Return the process id of the daemon that has this control socket; None if none runs."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(PATIENCE)
        asking.connect(control)
        peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        return int(_PEER.unpack(peer)[0])
    return None


def check_ports(
    listeners: Listeners, hostname: str, *, running: bool, others: Mapping[str, str] | None = None
) -> list[Finding]:
    """
    Try all listeners.  ``running``: the daemon answers on its control socket.

    ``others`` are the endpoints of services without a greeting: only a connection is tried.
    """
    report = Report("daemon")
    if running:
        report.ok("the daemon runs")
    else:
        report.error(
            "the daemon does not run, so no mail comes in and nobody can read any",
            "start it (systemctl start postoffice), and look at its log "
            "(journalctl -u postoffice -e)",
        )
    ones = [(service, one) for service, its in listeners.items() for one in its]
    with ThreadPoolExecutor(TOGETHER) as threads:
        greetings = list(threads.map(lambda pair: greeting(pair[1].endpoint, pair[0]), ones))
    for (service, one), heard in zip(ones, greetings, strict=True):
        report.where = f"{service} {one.endpoint}"
        _judge(report, service, one, hostname, heard, running)
    for service, endpoint in (others or {}).items():
        report.where = f"{service} {endpoint}"
        why = closed(endpoint)
        if address_of(endpoint) is None:
            report.note(f"{service} was not tried: the system chooses its port")
        elif running and why:
            report.error(
                f"{service} does not answer: {why}",
                "reload the configuration, or restart the daemon: the file has changed since",
            )
        elif not why:
            report.ok(f"{service} answers")
    return report.findings


def closed(endpoint: str) -> str:
    """Return why a connection to an endpoint fails; "" if it works."""
    place = address_of(endpoint)
    if place is None:
        return ""
    try:
        _connected(place).close()
    except OSError as error:
        return _words(error)
    return ""


def _judge(
    report: Report, service: str, one: ListenerSettings, hostname: str, heard: Greeting,
    running: bool,
) -> None:  # fmt: skip
    expected = f"220 {hostname}" if "pop3" not in service else "+OK"
    if not heard.open:
        if running:
            report.error(
                f"{service} does not answer: {heard.why}",
                "reload the configuration, or restart the daemon: the file has changed since",
            )
    elif heard.text.lower().startswith(expected.lower()):
        if running:
            report.ok(f"{service} answers")
        else:
            report.warning(f"{service} answers, but the daemon of this state folder does not run")
    elif (running and _waits_for_a_proxy(one)) or address_of(one.endpoint) is None:
        report.note(f"{service} was not tried: {heard.why or 'it waits for a load balancer'}")
    else:
        who = holder(one.endpoint) or "another program"
        report.error(
            f"{who} has the port of {service}" + (f": it says {heard.text!r}" * bool(heard.text)),
            "stop that program, or choose another port under listeners:",
        )


def _waits_for_a_proxy(one: ListenerSettings) -> bool:
    return any(within(address, one.proxy_from) for address in ("127.0.0.1", "::1"))


def greeting(endpoint: str, service: str) -> Greeting:
    """Connect to an endpoint, and read the first line that it says."""
    place = address_of(endpoint)
    if place is None:
        return Greeting(True, why="the system chooses its port")
    try:
        with _connected(place) as connection:
            try:
                return Greeting(True, _first_line(connection, service))
            except (OSError, ValueError) as error:
                return Greeting(True, why=_words(error))
    except OSError as error:
        return Greeting(False, why=_words(error))


def _connected(place: tuple[str, str]) -> socket.socket:
    if place[0] == "unix":
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(PATIENCE)
        try:
            made.connect(place[1])
        except OSError:
            made.close()
            raise
        return made
    return socket.create_connection((_ANY.get(place[0], place[0]), int(place[1])), PATIENCE)


def _first_line(connection: socket.socket, service: str) -> str:
    if service in IMPLICIT_TLS:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(connection) as encrypted:
            return _said(encrypted)
    return _said(connection)


def _said(connection: socket.socket) -> str:
    """Read the greeting, and say QUIT."""
    octets = b""
    while b"\n" not in octets and len(octets) < GREETING:
        more = connection.recv(GREETING)
        if not more:
            break
        octets += more
    with suppress(OSError):
        connection.sendall(b"QUIT\r\n")
    line = octets.partition(b"\n")[0].decode("ascii", "replace").strip()
    return "".join(one for one in line if one.isprintable())[:80]


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


# -- which process has a port ---------------------------------------------------------------------


def holder(endpoint: str) -> str:
    """Return the name and number of the process that listens there; "" if it cannot be seen."""
    place = address_of(endpoint)
    if place is None or place[0] == "unix":
        return ""
    wanted = set(_sockets(int(place[1])))
    for process in _processes() if wanted else ():
        if wanted & set(_open_sockets(process)):
            with suppress(OSError), open(f"/proc/{process}/comm", encoding="utf-8") as file:
                return f"{file.read().strip()} (process {process})"
    return ""


def _sockets(port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on a port (proc_net_tcp(5))."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError), open(f"/proc/net/{table}", encoding="ascii") as file:
            for line in file:
                words = line.split()
                if len(words) > 9 and words[3] == _LISTENS and words[1].endswith(f":{port:04X}"):
                    yield words[9]


def _processes() -> list[str]:
    with suppress(OSError):
        return [name for name in os.listdir("/proc") if name.isdecimal()][:PROCESSES]
    return []


def _open_sockets(process: str) -> Iterator[str]:
    with suppress(OSError), os.scandir(f"/proc/{process}/fd") as items:
        for item in items:
            with suppress(OSError):
                if found := _SOCKET.match(os.readlink(item.path)):
                    yield found[1]


# -- the way out -------------------------------------------------------------------------


def check_way_out(hosts: Sequence[tuple[str, str]], port: int = 25) -> list[Finding]:
    """Try to connect to other mail servers (name and address); one success is enough."""
    report = Report("daemon", "outgoing")
    if not hosts:
        report.note(f"whether port {port} is open outwards could not be tried: no host was found")
        return report.findings
    with ThreadPoolExecutor(TOGETHER) as threads:
        heard = list(threads.map(lambda pair: greeting(_endpoint(pair[1], port), "smtp"), hosts))
    for (name, _), one in zip(hosts, heard, strict=True):
        if one.text.startswith("220"):
            report.ok(f"the mail server {name} can be reached on port {port}")
            return report.findings
    why = "; ".join(f"{name}: {one.why or one.text}" for (name, _), one in
                    zip(hosts, heard, strict=True))  # fmt: skip
    report.error(
        f"no other mail server can be reached on port {port} ({why}): nothing can be sent",
        "many providers block this port: ask yours to open it, or send through a smarthost "
        "(outbound: smarthosts:)",
    )
    return report.findings


def _endpoint(address: str, port: int) -> str:
    host = address.replace(":", "\\:")
    return f"tcp{'6' if ':' in address else ''}:{port}:interface={host}"
