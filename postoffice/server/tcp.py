"""What we do to a client's TCP socket beyond Twisted: send at once, find dead peers."""

from __future__ import annotations

import socket
import sys
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any

#: TCP keepalive: seconds of silence before the first probe, seconds between probes, and how many
#: probes may stay unanswered before the connection counts as dead.
KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def send_now(transport: Any, output: bytes) -> int:
    """
    Send what the socket takes now, without a turn of the reactor; return how many octets it took.

    Twisted would wait for the poller before it sends, for every reply.  This
    works only on plain TCP with an empty send buffer.  On any other transport
    (TLS, one of a test) the function sends nothing and returns 0.
    """
    try:
        if transport._tempDataBuffer or transport.offset != len(transport.dataBuffer):
            return 0
        if not transport.connected or transport.disconnecting:
            return 0
        sent = transport.writeSomeData(output)
    except AttributeError:
        return 0
    return sent if isinstance(sent, int) else 0  # an exception: write() will meet it, too


def keep_alive(transport: Any) -> None:
    """Set TCP keepalive, so that a dead connection is found in two minutes, not in two hours."""
    transport.setTcpKeepAlive(True)
    found = getattr(transport, "socket", None)
    if isinstance(found, socket.socket):
        for option, value in KEEP_ALIVE.items():
            if hasattr(socket, option):
                found.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def unacknowledged(transport: Any) -> int:
    """Octets that we sent and the client has not acknowledged; 0 if the system does not tell."""
    try:
        return int.from_bytes(ioctl(transport.fileno(), TIOCOUTQ, bytes(4)), sys.byteorder)
    except (AttributeError, OSError):
        return 0
