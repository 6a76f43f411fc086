"""What comes before a client's session: the PROXY header, and the wait until the daemon runs."""

from __future__ import annotations

from typing import ClassVar, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from postoffice.model import log_event, log_events
from postoffice.model.envelope import Client
from postoffice.protocol.proxy import NotProxied, ProxyReader
from postoffice.server import tls
from postoffice.server.client_timer import ClientTimer
from postoffice.server.fair_share import ReactorShares
from postoffice.server.listener_options import ListenerOptions
from postoffice.util.networks import within

#: Seconds that a client waits for its greeting if it connects while the daemon starts.
STARTUP_WAIT = 20.0
#: Seconds that a client has to close its side of the connection after we have closed ours.
LINGER = 5.0
#: Why there is no session if nothing else is known.
LINK_CLOSED = "the link was closed"


class Listener(Protocol):
    """What a setup needs of the factory; a refused client is sent ``full`` or ``not_yet``."""

    full: ClassVar[bytes]
    not_yet: ClassVar[bytes]
    listener_options: ListenerOptions
    starting: bool

    def refused(self, address: str) -> None: ...


class NewConnection(Protocol):
    """What a setup needs of its connection."""

    client: Client
    timer: ClientTimer

    def renamed(self, client: Client) -> bool:
        """This is the real client; return whether it may connect."""

    def pause_reading(self) -> None:
        """Read no input until the transport is resumed."""

    def resume_reading(self) -> None:
        """Read input again, in the next turn of the reactor."""

    def set_up(self, rest: bytes) -> None:
        """The setup is over; ``rest`` is input that has arrived already."""

    def reject(self, said: bytes) -> None:
        """Send a refusal and close."""

    def log(self, event: log_event.Event, /, **fields: object) -> None:
        """Log an event of this connection."""

    def abort(self) -> None:
        """Close the connection at once."""


class ConnectionSetup:
    """
    Reads the header of a load balancer, and lets clients wait while the daemon starts.

    ``waiting`` means: the client waits until the daemon has started.
    """

    __slots__ = ("_connection", "_failure", "_held", "_listener", "_logged", "_proxy")

    def __init__(self, connection: NewConnection, listener: Listener) -> None:
        self._connection = connection
        self._listener = listener
        self._proxy: ProxyReader | None = None  # until the PROXY header is read
        self._held: bytes | None = None  # input that arrived while the daemon starts
        self._failure = ""  # why no session began
        self._logged = False

    @property
    def waiting(self) -> bool:
        return self._held is not None

    def begin(self) -> None:
        """The client has connected."""
        if within(self._connection.client.address, self._listener.listener_options.proxies):
            self._proxy = ProxyReader()
            self.limit_time()
        else:
            self._go_on(b"")

    def receive(self, data: bytes) -> None:
        """Read the PROXY header, with which a load balancer names the real client."""
        proxy, connection = self._proxy, self._connection
        assert proxy is not None, "a client is not read while it waits"
        try:
            source = proxy.feed(data)
        except NotProxied as error:
            connection.log(log_events.PROXY_REFUSED, why=str(error))
            self._logged = True
            connection.abort()
            return
        if source is None:
            return
        self._proxy = None
        client = connection.client
        if source.address is not None:
            client = Client(source.address, port=source.port)
        if connection.renamed(client):
            self._go_on(proxy.rest)
        else:
            self._listener.refused(client.address)
            self._logged = True
            connection.reject(self._listener.full)

    def _go_on(self, rest: bytes) -> None:
        """The client's address is known: go on, or wait while the daemon starts."""
        if self._listener.starting:
            self._held = rest
            self._connection.pause_reading()
            self._connection.timer.set(STARTUP_WAIT, self.stop_waiting)
        else:
            self._connection.set_up(rest)

    def daemon_started(self) -> None:
        """Go on with a client that waits."""
        if self._held is not None:
            rest, self._held = self._held, None
            self._go_on(rest)
            self._connection.resume_reading()

    def stop_waiting(self) -> None:
        """The client has waited too long, or the daemon stops while it starts."""
        self._held = None
        self._failure = "timed out: the daemon is still starting"
        self._connection.reject(self._listener.not_yet)
        self._connection.timer.set(LINGER, self._connection.abort)

    def limit_time(self) -> None:
        """Limit the time of the PROXY header or the TLS handshake that begins now."""
        self._connection.timer.set(self._listener.listener_options.handshake, self._timed_out)

    def _timed_out(self) -> None:
        self._failure = self._failure or "timed out"
        self._connection.abort()

    def log_failure(self) -> None:
        """Log why no session began, unless that is logged already."""
        if self._logged:
            return
        why = self._failure or LINK_CLOSED
        if self._proxy is not None:
            octets = self._proxy.octets
            why += f" after {octets} octets of a PROXY header" if octets else ", no PROXY header"
        self._connection.log(log_events.SESSION_FAILED, why=why)

    def log_tls_failure(self, reason: Failure | None) -> None:
        """Log why the TLS handshake failed."""
        why = tls.why_failed(reason) or self._failure or LINK_CLOSED
        self._connection.log(log_events.TLS_FAILED, why=why)


class OpenConnection(Protocol):
    """What a factory needs of a connection, whatever the protocol."""

    counted_as: str | None
    setup: ConnectionSetup

    def leave(self) -> None: ...
    def abort(self) -> None: ...
    def described(self) -> dict[str, str | float]: ...


class ConnectionFactory(Listener, Protocol):
    """What a connection needs of its factory."""

    clock: IReactorTime
    connections: set[OpenConnection]
    reactor_shares: ReactorShares

    def recount(self, connection: OpenConnection, address: str) -> bool: ...
    def left(self, connection: OpenConnection) -> None: ...
