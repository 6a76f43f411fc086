"""One query to one DNS server: over UDP, and over TCP if the response does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import dns.flags
from dns.message import Message
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import CannotListenError, ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime, ITCPTransport, IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory, connectionDone
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure

from postoffice.dns.responses import parse
from postoffice.model.dns_answer import DNSUnavailable
from postoffice.util.reactor import IReactor


@dataclass(frozen=True, slots=True)
class DNSServer:
    """A DNS server; ``trusted``: if it says that DNSSEC was checked (AD), we believe it."""

    address: str
    port: int = 53
    trusted: bool = False


class TimedOut(DNSUnavailable):
    """The server did not answer in time, or cannot be reached."""


async def exchange(
    reactor: IReactor, clock: IReactorTime, server: DNSServer, query: Message, seconds: float
) -> Message:
    """Send a query and wait for its response.  Raises DNSUnavailable."""
    for transport in (_over_udp, _over_tcp):
        asked = Deferred.fromCoroutine(transport(reactor, server, query))
        try:
            response = await asked.addTimeout(seconds, clock)
        except (defer.TimeoutError, ConnectingCancelledError) as error:
            raise TimedOut("timed out") from error
        except (OSError, ConnectError, CannotListenError) as error:
            raise TimedOut(str(error)) from error
        if not response.flags & dns.flags.TC:
            break
    return response


class _Responses:
    """Waits for the response to a query among what a server sends."""

    def __init__(self, query: Message) -> None:
        self._query = query
        self.answered: Deferred[Message] | None = Deferred()

    def received(self, octets: bytes) -> None:
        """Take a message: what is no response to the query is ignored."""
        try:
            response = parse(octets, self._query)
        except DNSUnavailable as failure:
            self.end(failure)
        else:
            if response is not None:
                self.end(response)

    def end(self, outcome: Message | DNSUnavailable) -> None:
        """Give the response, or why there is none, to the coroutine that waits; once."""
        answered, self.answered = self.answered, None
        if answered is None:
            return
        if isinstance(outcome, DNSUnavailable):
            answered.errback(outcome)
        else:
            answered.callback(outcome)


class _Datagrams(DatagramProtocol):
    noisy = False  # or each lookup would be in the log

    def __init__(self, responses: _Responses) -> None:
        self._responses = responses

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        self._responses.received(datagram)

    def connectionRefused(self) -> None:
        self.stopProtocol()

    def stopProtocol(self) -> None:
        """Called when the socket has an error, too: the network says that nobody is there."""
        self._responses.end(TimedOut("refused or unreachable"))


async def _over_udp(reactor: IReactor, server: DNSServer, query: Message) -> Message:
    """
    Send the query from a socket of its own, whose port the system chooses by chance.

    The socket is connected: the system drops what others send to it.
    """
    responses = _Responses(query)
    assert responses.answered is not None
    interface = "::" if ":" in server.address else ""
    # Twisted's ports are transports, too
    port = cast(IUDPTransport, reactor.listenUDP(0, _Datagrams(responses), interface, 4096))
    try:
        port.connect(server.address, server.port)
        port.write(query.to_wire(), None)
        return await responses.answered
    finally:
        responses.answered = None
        port.stopListening()


class _Stream(Int16StringReceiver):
    def __init__(self, responses: _Responses) -> None:
        self._responses = responses

    def stringReceived(self, string: bytes) -> None:
        self._responses.received(string)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._responses.end(DNSUnavailable("closed the connection without a response"))


async def _over_tcp(reactor: IReactor, server: DNSServer, query: Message) -> Message:
    responses = _Responses(query)
    assert responses.answered is not None
    kind = TCP6ClientEndpoint if ":" in server.address else TCP4ClientEndpoint
    stream = _Stream(responses)
    factory = Factory.forProtocol(lambda: stream)
    factory.noisy = False
    await kind(reactor, server.address, server.port).connect(factory)
    try:
        stream.sendString(query.to_wire())  # type: ignore[no-untyped-call]
        return await responses.answered
    finally:
        responses.answered = None
        cast(ITCPTransport, stream.transport).abortConnection()
