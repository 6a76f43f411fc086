"""The counters: who makes the conversations of one listener, and how clients come in by it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger

from postoffice.model import log_events
from postoffice.model.log_events import tell
from postoffice.server.fair_share import ReactorShares
from postoffice.util.networks import client_address, within
from postoffice.util.token_bucket import TokenBucket

if TYPE_CHECKING:
    from postoffice.server.connection import Connection

log = Logger("postoffice")

#: Clients that find no room are told in the log: so many, in so many seconds.
REFUSALS_TOLD = (60, 60)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Certificates(Protocol):
    """What TLS begins with; ``IOpenSSLServerConnectionCreator``, and whether it can now."""

    @property
    def ready(self) -> bool: ...


@dataclass(frozen=True)
class ListenerOptions:
    """
    How clients come in by one listener.

    ``service`` is the word of the configuration.  ``certificates`` are there
    where TLS can be begun; ``implicit``: it is, before anything is said.
    ``proxies`` are balancers, who say first for whom they speak (the PROXY
    protocol); ``relays`` are clients who may do so by XCLIENT.  ``handshake``
    are the seconds for all that comes before the first word.
    """

    service: str = ""
    certificates: Certificates | None = None
    implicit: bool = False
    proxies: Sequence[Network] = ()
    relays: Sequence[Network] = ()
    handshake: float = 30.0


class ClosedDoor(TwistedProtocol):
    """Says why nobody may come in, and closes."""

    def __init__(self, goodbye: bytes) -> None:
        self._goodbye = goodbye

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(self._goodbye)
        transport.loseConnection()


class Doors(Protocol):
    """Who may come in: how many clients at once, from one place, and for one service."""

    def admit(self, client_address: str, service: str) -> bool: ...
    def leave(self, client_address: str, service: str) -> None: ...


class ServerFactory(Factory):
    """
    Makes the conversations of one service, and knows those that are going on.

    ``reactor_shares`` may be replaced by those that several services share.
    ``connection_limits`` may keep clients out; ``full`` is what those hear.  While it is
    ``starting``, clients wait for their greeting until ``open()``; those that
    have waited for too long hear ``not_yet``.
    """

    noisy = False
    full: ClassVar[bytes]
    not_yet: ClassVar[bytes] = b""

    def __init__(
        self,
        portal: Portal,
        clock: IReactorTime,
        connection_limits: Doors | None = None,
        listener_options: ListenerOptions | None = None,
    ) -> None:
        self.portal = portal
        self.clock = clock
        self.listener_options = listener_options or ListenerOptions()
        self.connections: set[Connection] = set()
        self.reactor_shares = ReactorShares(clock)
        self.starting = False
        self._told = TokenBucket(*REFUSALS_TOLD, clock.seconds)
        self._connection_limits = connection_limits
        self._empty: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> TwistedProtocol:
        address = client_address(addr)
        if within(address, self.listener_options.proxies):
            address = ""  # whose it is will be told
        if not self._admit(address):
            self.refused(address or client_address(addr))
            return ClosedDoor(b"" if self.listener_options.implicit else self.full)
        connection = self._connection()
        connection.counted_as = address
        return connection

    def recount(self, connection: Connection, address: str) -> bool:
        """A client is somebody else than it seemed; whether that one may come in."""
        if self._connection_limits is not None:
            self._connection_limits.leave(
                connection.counted_as or "", self.listener_options.service
            )
        connection.counted_as = address if self._admit(address) else None
        return connection.counted_as is not None

    def refused(self, address: str) -> None:
        """Log that a client may not come in; but not each of a flood."""
        if not self._told.spend(""):
            return
        client, service = address or "local", self.listener_options.service
        why = "too many connections"
        tell(log, log_events.CONNECTION_REFUSED, service=service, client=client, why=why)

    def _admit(self, address: str) -> bool:
        return self._connection_limits is None or self._connection_limits.admit(
            address, self.listener_options.service
        )

    def open(self) -> None:
        """The start is over: greet the clients that have come early."""
        self.starting = False
        for connection in list(self.connections):
            connection.greet()

    def _connection(self) -> Connection:
        """A new conversation of this service."""
        raise AssertionError("a counter has conversations")

    def left(self, connection: Connection) -> None:
        """A client has gone."""
        if self._connection_limits is not None and connection.counted_as is not None:
            self._connection_limits.leave(connection.counted_as, self.listener_options.service)
        self.connections.discard(connection)
        if self._empty is not None and not self.connections:
            empty, self._empty = self._empty, None
            empty.callback(None)

    async def close(self, patience: float) -> None:
        """End all conversations; whoever is not done after ``patience`` seconds is cut off."""
        for connection in list(self.connections):
            connection.leave()
        if not self.connections:
            return
        empty = self._empty = Deferred()
        timer: Any = self.clock.callLater(patience, self._cut_off)
        await empty
        if timer.active():
            timer.cancel()

    def _cut_off(self) -> None:
        for connection in list(self.connections):
            connection.abort()
