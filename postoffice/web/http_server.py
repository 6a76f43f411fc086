"""
The page over HTTP/1.1 (Twisted's): reads requests within bounds, and writes the answers.

Sizes: of head and body.  Times: from the first octet of a request to its last, and between two
requests.  Numbers: connections in all, and of one client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web import http

from postoffice.model import log_events
from postoffice.model.envelope import Client
from postoffice.model.log_event import tell
from postoffice.server.certificates import Certificates
from postoffice.util.networks import Network, client_address, network_of, plain_address, within
from postoffice.util.token_bucket import TokenBucket
from postoffice.web.application import Application
from postoffice.web.long_answer import PIECE, LongAnswer
from postoffice.web.request_parts import cookies_of, fields_of, headers_of
from postoffice.web.values import SAFE, Response, WebRequest

log = Logger("postoffice")

#: Octets of a request's body, and of all its header fields.
BODY, HEAD = 256 << 10, 16 << 10
#: Seconds from the first octet of a request to its last, and without an octet between two requests.
READING, SILENCE = 20.0, 30.0
#: Seconds that an answer may take to be made.
ANSWERING = 60.0
#: Octets of all long answers that clients have not taken yet.
UNTAKEN = 128 << 20
#: Seconds that a client has to take the end of a connection.
FAREWELL = 5.0
#: Connections at most, and of one client.
CONNECTIONS, OF_ONE = 500, 40
#: Refused connections that are logged: at most so many, in so many seconds.
_LOGGED, _READS = (10, 60), frozenset(method.encode() for method in SAFE)


class _Request(http.Request):
    """One request, answered by the application."""

    channel: Any
    _answering: Deferred[Response] | None = None
    _late: IDelayedCall | None = None
    _long: LongAnswer | None = None
    _too_large = _nobody_reads = False

    def gotLength(self, length: int | None) -> None:
        super().gotLength(min(length or 0, BODY))  # type: ignore[no-untyped-call]
        if length is not None and length > BODY:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        assert self.content is not None
        if self.content.tell() + len(data) > BODY:
            self._refuse_body()
        elif not self._too_large:
            self.content.write(data)

    def _refuse_body(self) -> None:
        if not self._too_large:
            self._too_large = True
            self.channel.refuse(b"413 Content Too Large")

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answer; unlike Twisted's own, it reads no forms but plain ones, and bounds them."""
        if self._too_large:
            return
        assert self.content is not None
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.path, _, query = path.partition(b"?")
        server = self.channel.factory.server
        try:
            request = server.read(self, query, self.content.read())
        except ValueError:
            self.channel.refuse(b"400 Bad Request")
            return
        self._late = server.clock.callLater(ANSWERING, self._give_up)
        self._answering = Deferred.fromCoroutine(server.application.answer(request))
        self._answering.addCallbacks(self._write, self._fail)

    def _write(self, response: Response) -> None:
        self._stop_waiting()
        if self._nobody_reads:
            return
        self.setResponseCode(response.status)
        headers = {**response.headers, "Content-Type": response.kind}
        headers["Content-Length"] = str(len(response.body))
        for name, value in headers.items():
            self.responseHeaders.setRawHeaders(name, [value])
        if response.cookies:
            self.responseHeaders.setRawHeaders("Set-Cookie", list(response.cookies))
        server: WebServer = self.channel.factory.server
        body = b"" if self.method == b"HEAD" else response.body
        if len(body) <= PIECE:
            self.write(body)  # type: ignore[no-untyped-call]
            self.finish()  # type: ignore[no-untyped-call]
        elif server.untaken + len(body) > UNTAKEN:
            self.channel.refuse(b"503 Service Unavailable")
        else:
            self._long = LongAnswer(self, body, server)
            self._long.begin()

    def _fail(self, failure: Failure) -> None:
        self._stop_waiting()
        if failure.check(CancelledError):  # type: ignore[no-untyped-call]
            return
        log.failure("answering a request failed", failure=failure)
        if not self._nobody_reads:
            self.channel.refuse(b"500 Internal Server Error")

    def _give_up(self) -> None:
        self._late = None
        if self.channel is not None:
            self.channel.refuse(b"503 Service Unavailable")
        self._stop_reading()

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self._stop_waiting()
        self._stop_reading()
        if self._long is not None:
            self._long.stopProducing()

    def _stop_reading(self) -> None:
        """
        Stop, because nobody reads the answer.

        A request that changes something goes on: otherwise a client could hang up after the
        change, and before the log has its line and other sessions have ended.
        """
        self._nobody_reads = True
        if self._answering is not None and self.method in _READS:
            self._answering.cancel()

    def _stop_waiting(self) -> None:
        if self._late is not None and self._late.active():
            self._late.cancel()
        self._late = None


class _Channel(http.HTTPChannel):
    """One connection; it ends if a request is not complete in time."""

    requestFactory = _Request
    totalHeadersSize = HEAD
    maxHeaders = 100
    factory: _HTTPFactory
    transport: Any
    counted_as = ""
    _deadline: IDelayedCall | None = None
    _last: IDelayedCall | None = None
    _begun = False

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.factory.server.entered(self, client_address(self.transport.getPeer()))
        self._begin_reading()

    def _begin_reading(self) -> None:
        self._stop_deadline()
        self._begun = False
        self._deadline = self.factory.server.clock.callLater(READING + SILENCE, self.refuse, b"")

    def dataReceived(self, data: bytes) -> None:
        if not self._begun and self._deadline is not None and self._deadline.active():
            self._begun = True
            self._deadline.reset(READING)
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def headerReceived(self, line: bytes) -> bool:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(value) > 20:  # Twisted raises ValueError
            self.refuse(b"400 Bad Request")
            return False
        return bool(super().headerReceived(line))  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        self._stop_deadline()
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def requestDone(self, request: http.Request) -> None:
        self._begin_reading()
        super().requestDone(request)  # type: ignore[no-untyped-call]
        if self.factory.server.closing:
            self.leave()

    def refuse(self, status: bytes) -> None:
        """End the connection; send a status before, if one is given."""
        self._stop_deadline()
        if status:
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
        self.persistent = 0
        self.transport.loseConnection()
        # ignore what still arrives
        self.dataReceived = self.lineReceived = lambda *_: None  # type: ignore[method-assign]
        self._last = self.factory.server.clock.callLater(FAREWELL, self.cut_off)

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Refuse; Twisted would go on to read what came with it."""
        self.refuse(b"400 Bad Request")

    def timeoutConnection(self) -> None:
        """End a silent connection; Twisted would log each."""
        self.refuse(b"")

    def cut_off(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abortConnection()

    def leave(self) -> None:
        """
        End the connection as soon as the request in progress is answered.

        With TLS, the client may keep it open: it has FAREWELL seconds to close its side.
        """
        if not self.requests and self._last is None:
            self.loseConnection()  # type: ignore[no-untyped-call]
            self._last = self.factory.server.clock.callLater(FAREWELL, self.cut_off)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_deadline()
        if self._last is not None and self._last.active():
            self._last.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.factory.server.left(self)

    def _stop_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None


class _HTTPFactory(http.HTTPFactory):
    """Makes the channels of one server."""

    noisy = False
    protocol = _Channel  # type: ignore[assignment]  # HTTP/1.1 only

    def __init__(self, server: WebServer) -> None:
        super().__init__(timeout=SILENCE, reactor=server.clock)
        self.server = server

    def log(self, request: http.Request) -> None:
        """Write no access log: our log has logins and changes."""


class WebServer:
    """
    Makes the connections of the page; a listener uses it like a ``ServerFactory``.

    With ``certificates`` browsers speak TLS with us.  Only ``proxies``, and programs that connect
    to a UNIX socket, may name the real client (X-Forwarded-For).
    """

    #: For the list of sessions, in which requests, which are short, do not appear.
    connections: Sequence[Any] = ()

    def __init__(
        self,
        application: Application,
        clock: IReactorTime,
        *,
        certificates: Certificates | None = None,
        proxies: Sequence[Network] = (),
    ) -> None:
        self.application = application
        self.clock = clock
        self.starting = False
        self.closing = False
        self.untaken = 0
        self._proxies = proxies
        self._channels: set[_Channel] = set()
        self._empty: list[Deferred[None]] = []
        self._logged = TokenBucket(*_LOGGED, clock.seconds)
        self._encrypted = certificates is not None
        self._factory: Any = _HTTPFactory(self)
        if certificates is not None:
            self._factory = TLSMemoryBIOFactory(certificates, False, self._factory)

    # -- connections -------------------------------------------------------------------------

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Return the protocol of a new connection; None refuses it."""
        address = client_address(addr)
        who = network_of(address) if address else ""
        known = within(address, self._proxies) or not address
        mine = sum(one.counted_as == who for one in self._channels)
        full = len(self._channels) >= CONNECTIONS or (mine >= OF_ONE and not known)
        if full and self._logged.spend(""):
            why, client = "too many connections", address or "local"
            tell(log, log_events.CONNECTION_REFUSED, service="web", client=client, why=why)
        if full or self.starting or self.closing:
            return None
        protocol: Protocol = self._factory.buildProtocol(addr)
        return protocol

    def entered(self, channel: _Channel, address: str) -> None:
        """Count a connection, for its network."""
        channel.counted_as = network_of(address) if address else ""
        self._channels.add(channel)

    def left(self, channel: _Channel) -> None:
        """Forget a connection that was lost; callers of ``emptied`` go on after the last one."""
        self._channels.discard(channel)
        if not self._channels:
            empty, self._empty = self._empty, []
            for waiting in empty:
                waiting.callback(None)

    def open(self) -> None:
        """Serve new connections: the daemon has started."""
        self.starting = False

    async def close(self, patience: float) -> None:
        """End all connections; cut off those that are still open after ``patience`` seconds."""
        timer = self.clock.callLater(patience, self._cut_off)
        await self.emptied()
        if timer.active():
            timer.cancel()

    async def emptied(self) -> None:
        """Take no more requests, and wait until no connection is open."""
        self.closing = True
        for channel in list(self._channels):
            channel.leave()
        if self._channels:
            waiting: Deferred[None] = Deferred()
            self._empty.append(waiting)
            await waiting

    def _cut_off(self) -> None:
        for channel in list(self._channels):
            channel.cut_off()

    # -- requests ----------------------------------------------------------------------------

    def read(self, raw: http.Request, query: bytes, body: bytes) -> WebRequest:
        """Return a request as a value.  Raises ValueError if it cannot be read."""
        headers = headers_of(raw)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        form = body if kind == "application/x-www-form-urlencoded" else b""
        client, direct = self._client(raw, headers)
        return WebRequest(
            raw.method.decode("ascii"),
            unquote(raw.path.decode("ascii"), errors="strict"),
            client,
            fields_of(query),
            fields_of(form),
            headers,
            cookies_of(headers.get("cookie", "")),
            direct,
            b"" if form else body,
        )

    def _client(self, raw: http.Request, headers: Mapping[str, str]) -> tuple[Client, bool]:
        """Return whose browser it is, and whether it speaks with us directly."""
        peer = client_address(raw.client)
        if peer and not within(peer, self._proxies):
            between = {"x-forwarded-for", "forwarded", "via", "x-real-ip"} & headers.keys()
            direct = not between and raw.clientproto == b"HTTP/1.1"  # nginx speaks 1.0 with us
            return Client(peer, self._encrypted), direct
        address = ""
        for one in reversed(headers.get("x-forwarded-for", "").split(",")):
            address = plain_address(one.strip())
            if not within(address, self._proxies):
                break
        encrypted = headers.get("x-forwarded-proto", "").lower() == "https"
        return Client(address or peer, encrypted), False
