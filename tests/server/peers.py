"""A connection to a server that the test plays, on a transport in memory."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from postoffice.model.hop import Hop
from postoffice.server.client_connection import ConnectOptions, connect
from tests.server.echoes import Transport
from tests.smtp.client_peers import EHLO, TEXT

HOP = Hop(host="mx.example.org", address="192.0.2.25")


class Text:
    """A text in pieces (``IText``); a piece may be a Deferred, or an error to raise."""

    def __init__(self, *pieces):
        self.pieces = list(pieces or [TEXT])
        self.closed = 0
        self.read_so_far = 0

    async def read(self):
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Deferred):
            piece = await piece
        if isinstance(piece, Exception):
            raise piece
        self.read_so_far += len(piece)
        return piece

    def close(self):
        self.closed += 1


class Wire(Transport):
    """What was written, write by write."""

    def __init__(self):
        super().__init__()
        self.writes = []

    def write(self, data):
        self.writes.append(data)
        super().write(data)

    def take(self):
        writes, self.writes = self.writes, []
        return writes


class Dialled:
    """An attempt to connect to ``hop``, and what came of it."""

    def __init__(self, hop=HOP, **options):
        self.reactor = MemoryReactorClock()
        self.options = ConnectOptions(reactor=self.reactor, hostname="mail.example.net", **options)
        self.outcome = []
        self.attempt = Deferred.fromCoroutine(connect(hop, self.options))
        self.attempt.addBoth(self.outcome.append)
        self.wire = None

    @classmethod
    def greeted(cls, hop=HOP, ehlo=EHLO, **options):
        """One that is ready."""
        dialled = cls(hop, **options)
        dialled.accept()
        dialled.hear(b"220 mx.example.org\r\n", ehlo)
        dialled.wire.take()
        return dialled

    def accept(self):
        """The server accepts the connection."""
        self.factory = (self.reactor.tcpClients or self.reactor.unixClients)[0][
            2 if self.reactor.tcpClients else 1
        ]
        self.protocol = self.factory.buildProtocol(None)
        self.wire = Wire()
        self.wire.receiver = self.protocol
        self.protocol.makeConnection(self.wire)

    def hear(self, *bursts):
        """The server says this; return what the client writes then."""
        for burst in bursts:
            self.protocol.dataReceived(burst)
        return self.wire.take()

    def lose(self, why=None):
        """The connection is lost."""
        self.protocol.connectionLost(Failure(why or ConnectionDone()))

    def send(self, transaction, text=None):
        """Send; the list has the result once there is one."""
        self.text = text or Text()
        results = []
        self.sending = self.connection.send(transaction, self.text)
        self.sending.addBoth(results.append)
        return results

    @property
    def connection(self):
        [connection] = self.outcome
        return connection

    @property
    def failed(self):
        [failure] = self.outcome
        return failure.value
