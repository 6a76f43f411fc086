"""Connections that say each line twice, on a transport in memory."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from postoffice.model.errors import TemporaryFailure
from postoffice.server.connection import (
    Connection,
)
from postoffice.server.factory import ServerFactory

#: A balancer's address, and what it says first for a client.
BALANCER = "203.0.113.1"
FOR_A_CLIENT = b"PROXY TCP4 192.0.2.1 203.0.113.9 4000 25\r\n"


class Echo:
    """Rules of a line protocol: each line is a question, and its answer is said."""

    def __init__(self):
        self.closed = self.upgrading = False
        self.progress = 0
        self.octets = b""
        self.output = b"hello\r\n"

    @property
    def unread(self):
        return len(self.octets)

    @property
    def unsent(self):
        return len(self.output)

    def receive(self, data):
        self.octets += data

    def next_question(self):
        line, end, rest = self.octets.partition(b"\n")
        if not end or self.closed:
            return None
        self.octets = rest
        self.progress += 1
        return line

    def answer(self, answer):
        self.output += answer.reply.wire if isinstance(answer, TemporaryFailure) else answer
        self.closed = answer == b"bye"
        self.upgrading = answer == b"go"

    def secured(self, bindings):
        self.upgrading = False
        self.bindings = bindings

    def take_output(self):
        output, self.output = self.output, b""
        return output


class EchoConversation(Connection):
    timeout = 100

    def __init__(self, factory):
        super().__init__(factory)
        self.waiting = []
        self.gone = 0
        self.renewed = 0

    def _new_session(self):
        return Echo()

    def ask(self, question):
        if question.startswith(b"wait"):
            return self._wait(question)
        if question == b"fail":
            raise TemporaryFailure("no luck with /secret/path")
        if question == b"bug":
            raise ZeroDivisionError("in /secret/path")
        if question == b"starttls":
            return b"go"
        return question if question == b"bye" else question * 2

    async def _wait(self, question):
        self.waiting.append(Deferred())
        return await self.waiting[-1]

    def _end_session(self, *, silent):
        self.session.output += b"silent" if silent else b"closing"
        self.session.closed = True

    def _client_gone(self):
        self.gone += 1

    def _tls_started(self):
        self.renewed += 1


class Transport(StringTransport):
    """A transport that delivers at once when it is resumed, as some do."""

    def __init__(self, peer=None):
        super().__init__(peerAddress=peer or IPv4Address("TCP", "192.0.2.1", 4000))
        self.options = {}
        self.aborted = False
        self.secured_by = None
        self.held = []
        self.receiver = None

    def loseWriteConnection(self):
        self.disconnecting = True

    def setTcpNoDelay(self, on):
        self.options["nodelay"] = on

    def setTcpKeepAlive(self, on):
        self.options["keepalive"] = on

    def abortConnection(self):
        self.aborted = True

    def startTLS(self, certificates):
        self.secured_by = certificates

    def deliver(self, data):
        self.held.append(data)
        self.go_on()

    def go_on(self):
        while self.held and self.producerState == "producing":
            self.receiver.dataReceived(self.held.pop(0))

    def resumeProducing(self):
        super().resumeProducing()
        self.go_on()


class Echoes(ServerFactory):
    full = b"full\r\n"
    not_yet = b"not yet\r\n"

    def _connection(self):
        return EchoConversation(self)


def connected(factory, peer=None):
    transport = Transport(peer)
    connection = factory.buildProtocol(transport.getPeer())
    transport.receiver = connection
    connection.makeConnection(transport)
    return connection


def said(connection):
    value = connection.transport.value()
    connection.transport.clear()
    return value


def lose(connection):
    connection.connectionLost(Failure(ConnectionDone()))


def for_client(number: int) -> bytes:
    return b"PROXY TCP4 192.0.2.%d 203.0.113.9 4000 25\r\n" % number


# -- sessions that do not begin, and those that begin later ------------------------------------


def reasons(logged) -> list[str]:
    names = ("session-failed ", "proxy-refused ", "connection-refused ")
    return [line.partition(" why=")[2].strip('"') for line in logged if line.startswith(names)]
