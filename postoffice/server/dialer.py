"""Connects to a hop: TCP from an address of ours, or a UNIX socket."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IConnector
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

from postoffice.model.hop import Hop
from postoffice.util.reactor import IReactor

#: Seconds until a connection must stand.
CONNECT = 30.0


def dial(
    reactor: IReactor,
    hop: Hop,
    sources: tuple[str, str],
    protocol: Protocol,
    failed: Callable[[Failure], None],
) -> IConnector:
    """
    Begin to connect; return the connector.

    The ``protocol`` gets the transport, or ``failed`` is called.  ``sources`` are our IPv4 and IPv6
    address, "" for any.
    """
    factory = _Dialer(protocol, failed)
    if hop.is_unix:
        return reactor.connectUNIX(hop.address, factory, timeout=CONNECT)
    source = sources[":" in hop.address]
    bind = (source, 0) if source else None
    return reactor.connectTCP(hop.address, hop.port, factory, CONNECT, bind)


class _Dialer(ClientFactory):
    """Has the one protocol of one attempt to connect."""

    noisy = False

    def __init__(self, protocol: Protocol, failed: Callable[[Failure], None]) -> None:
        self._protocol = protocol
        self._failed = failed

    def buildProtocol(self, addr: object) -> Protocol:
        return self._protocol

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._failed(reason)
