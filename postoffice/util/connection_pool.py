"""Idle connections to a server, for threads: each connection is used by one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

C = TypeVar("C")
#: Seconds after which an idle connection is not used any more: a firewall may have forgotten it.
IDLE = 60.0


class ConnectionPool(Generic[C]):
    """Connections that nobody uses now; ``close`` closes one, ``clock`` returns seconds."""

    def __init__(
        self, close: Callable[[C], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._close = close
        self._clock = clock
        self._lock = threading.Lock()  # guards:
        self._idle: list[tuple[C, float]] = []  # since when, the latest last
        self.closed = False

    def take(self) -> C | None:
        """Return an idle connection, or None: then the caller makes one."""
        old: list[tuple[C, float]] = []
        with self._lock:
            found = self._idle.pop() if self._idle else None
            if found is not None and found[1] < self._clock() - IDLE:
                old, self._idle, found = [*self._idle, found], [], None
        for connection, _ in old:
            self._close(connection)
        return None if found is None else found[0]

    def give_back(self, connection: C) -> None:
        """Keep a connection that works, for the next user."""
        with self._lock:
            if not self.closed:
                self._idle.append((connection, self._clock()))
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
        for connection, _ in idle:
            self._close(connection)
