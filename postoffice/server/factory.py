"""The factory of a listener: makes its connections, counts them, and closes them at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger

from postoffice.model import log_events
from postoffice.model.log_event import tell
from postoffice.server.connection import Connection
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.connection_setup import OpenConnection
from postoffice.server.fair_share import ReactorShares
from postoffice.server.listener_options import ListenerOptions
from postoffice.util.histogram import Histogram
from postoffice.util.networks import client_address, within
from postoffice.util.token_bucket import TokenBucket

log = Logger("postoffice")

#: Refused connections that are logged: at most so many, in so many seconds.
REFUSALS_LOGGED = (60, 60)


class ServiceFigures:
    """
    What is counted of one service, for monitoring.

    ``delivery`` and ``login`` are how long clients waited, in seconds, for the reply to a
    message and to a login that was accepted.  ``replies`` counts replies by the first digit
    of their codes (``LineSession.replied``), of sessions that have ended.
    """

    def __init__(self) -> None:
        self.delivery = Histogram()
        self.login = Histogram()
        self.replies = [0] * 6
        self.admitted = self.rejected = 0  # connections

    def add(self, replied: Sequence[int]) -> None:
        """A session has ended, and sent so many replies."""
        self.replies = [sum(pair) for pair in zip(self.replies, replied, strict=True)]


class RefusedConnection(TwistedProtocol):
    """Sends a refusal, and closes the connection."""

    def __init__(self, goodbye: bytes) -> None:
        self._goodbye = goodbye

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._goodbye)
        self.transport.loseConnection()


class ServerFactory(Factory):
    """
    Makes the connections of one service, and holds those that are open.

    ``reactor_shares`` may be replaced by an object that several services share.  ``figures``, if
    there are any, count how long clients wait.
    A client that ``connection_limits`` refuses is sent ``full``.  While ``starting``
    is true, clients wait for their greeting until ``open()``; a client that waits
    longer than ``connection_setup.STARTUP_WAIT`` is sent ``not_yet``.
    """

    noisy = False
    full: ClassVar[bytes]
    not_yet: ClassVar[bytes] = b""

    def __init__(
        self,
        portal: Portal,
        clock: IReactorTime,
        connection_limits: ConnectionLimits | None = None,
        listener_options: ListenerOptions | None = None,
    ) -> None:
        self.portal = portal
        self.clock = clock
        self.listener_options = listener_options or ListenerOptions()
        self.connections: set[OpenConnection] = set()
        self.reactor_shares = ReactorShares(clock)
        self.starting = False
        self.figures: ServiceFigures | None = None
        self._refusals_logged = TokenBucket(*REFUSALS_LOGGED, clock.seconds)
        self._connection_limits = connection_limits
        self._empty: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> TwistedProtocol:
        address = client_address(addr)
        if within(address, self.listener_options.proxies):
            address = ""  # the PROXY header will name the client
        if not self._admit(address):
            self.refused(address or client_address(addr))
            return RefusedConnection(b"" if self.listener_options.implicit else self.full)
        if self.figures is not None:
            self.figures.admitted += 1
        connection = self._connection()
        connection.counted_as = address
        return connection

    def recount(self, connection: OpenConnection, address: str) -> bool:
        """Count a connection under its real client's address; False if that client is refused."""
        if self._connection_limits is not None:
            self._connection_limits.leave(
                connection.counted_as or "", self.listener_options.service
            )
        connection.counted_as = address if self._admit(address) else None
        return connection.counted_as is not None

    def refused(self, address: str) -> None:
        """Log a refused connection, unless many were logged lately."""
        if self.figures is not None:
            self.figures.rejected += 1
        if not self._refusals_logged.spend(""):
            return
        client, service = address or "local", self.listener_options.service
        why = "too many connections"
        tell(log, log_events.CONNECTION_REFUSED, service=service, client=client, why=why)

    def _admit(self, address: str) -> bool:
        return self._connection_limits is None or self._connection_limits.admit(
            address, self.listener_options.service
        )

    def open(self) -> None:
        """The daemon has started: greet the clients that are waiting."""
        self.starting = False
        for connection in list(self.connections):
            connection.setup.daemon_started()

    def _connection(self) -> Connection[Any, Any]:
        """Make a connection of this service."""
        raise AssertionError("the subclass must make connections")

    def left(self, connection: OpenConnection) -> None:
        """A connection is lost."""
        if self._connection_limits is not None and connection.counted_as is not None:
            self._connection_limits.leave(connection.counted_as, self.listener_options.service)
        self.connections.discard(connection)
        if self._empty and not self.connections:
            empty, self._empty = self._empty, []
            for waiting in empty:
                waiting.callback(None)

    async def close(self, patience: float) -> None:
        """End all sessions; abort those that are still open after ``patience`` seconds."""
        for connection in list(self.connections):
            connection.leave()
        if not self.connections:
            return
        timer = self.clock.callLater(patience, self._cut_off)
        await self.emptied()
        if timer.active():
            timer.cancel()

    async def emptied(self) -> None:
        """Wait until no connection is open."""
        if self.connections:
            waiting: Deferred[None] = Deferred()
            self._empty.append(waiting)
            await waiting

    def _cut_off(self) -> None:
        for connection in list(self.connections):
            connection.abort()
