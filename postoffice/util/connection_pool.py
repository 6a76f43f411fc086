"""Idle connections to a server, for threads: each connection is used by one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

C = TypeVar("C")


class ConnectionPool(Generic[C]):
    """Connections that nobody uses now; ``close`` closes one."""

    def __init__(self, close: Callable[[C], object]) -> None:
        self._close = close
        self._lock = threading.Lock()  # guards:
        self._idle: list[C] = []
        self.closed = False

    def take(self) -> C | None:
        """Return an idle connection, or None: then the caller makes one."""
        with self._lock:
            return self._idle.pop() if self._idle else None

    def give_back(self, connection: C) -> None:
        """Keep a connection that works, for the next user."""
        with self._lock:
            if not self.closed:
                self._idle.append(connection)
                return
        self._close(connection)

    def open(self) -> None:
        """Keep connections from now on."""
        self.closed = False

    def close(self) -> None:
        """Close all connections: the idle ones now, the others when they are given back."""
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            self._close(connection)
