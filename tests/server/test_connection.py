"""One client on a transport: order, back-pressure, timers, and what a lost link costs."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
from contextlib import suppress

import pytest
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from postoffice.cli import self_signed
from postoffice.model.errors import TemporaryFailure
from postoffice.server.certificates import CertificateFiles, Certificates
from postoffice.server.connection import (
    DISCARD_MAXIMUM,
    LINGER,
    LINGER_TLS,
    READ_AHEAD,
    STARTUP_WAIT,
    Connection,
)
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.factory import ListenerOptions, ServerFactory
from postoffice.testing import ImmediateExecutor, finish
from postoffice.util.networks import client_address

#: A balancer's address, and what it says first for a client.
BALANCER = "203.0.113.1"
FOR_A_CLIENT = b"PROXY TCP4 192.0.2.1 203.0.113.9 4000 25\r\n"
#: Seconds after which something will never happen.
NEVER = 60


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

    def _ask(self, question):
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


@pytest.fixture
def clock():
    return Clock()


class Echoes(ServerFactory):
    full = b"full\r\n"
    not_yet = b"not yet\r\n"

    def _connection(self):
        return EchoConversation(self)


@pytest.fixture
def counter(clock):
    return Echoes(Portal(None), clock)


@pytest.fixture
def client(counter):
    return connected(counter)


def connected(counter, peer=None):
    transport = Transport(peer)
    connection = counter.buildProtocol(transport.getPeer())
    transport.receiver = connection
    connection.makeConnection(transport)
    return connection


def said(connection):
    value = connection.transport.value()
    connection.transport.clear()
    return value


def lose(connection):
    connection.connectionLost(Failure(ConnectionDone()))


def test_the_greeting_comes_first_and_the_socket_is_set_up(client):
    assert said(client) == b"hello\r\n"
    assert client.transport.options == {"nodelay": True, "keepalive": True}


def test_a_burst_is_answered_in_one_write(client):
    said(client)
    writes = []
    client.transport.write = writes.append
    client.dataReceived(b"a\nb\nc\n")
    assert writes == [b"aabbcc"]


def test_nothing_overtakes_a_question_that_waits(client):
    said(client)
    client.dataReceived(b"a\nwait\nb\n")
    client.dataReceived(b"c\n")
    assert said(client) == b""
    client.waiting[0].callback(b"!")
    assert said(client) == b"aa!bbcc"


def test_a_client_that_sends_ahead_is_not_read(client, clock):
    client.transport.deliver(b"wait\n")
    piece = b"x" * 1000 + b"\n"
    for _ in range(200):
        client.transport.deliver(piece)
    assert client.transport.producerState == "paused"
    assert client.session.unread <= READ_AHEAD + len(piece)
    client.waiting[0].callback(b"!")
    clock.advance(0)
    assert client.transport.producerState == "producing"
    assert len(said(client)) == len(b"hello\r\n!") + 200 * 2000


def test_a_client_that_does_not_read_is_not_answered(client):
    client.pauseProducing()
    client.dataReceived(b"a\nb\nc\n")
    assert client.session.octets == b"a\nb\nc\n"
    client.resumeProducing()
    assert said(client).endswith(b"aabbcc")


def test_a_client_that_does_not_read_is_not_heard_when_it_says_more(client):
    client.dataReceived(b"a\n")
    client.pauseProducing()
    client.dataReceived(b"b\n")
    client.dataReceived(b"c\n")
    assert said(client) == b"hello\r\naa"
    client.resumeProducing()
    assert said(client) == b"bbcc"


def test_a_failure_is_told_without_its_reason(client, failures):
    said(client)
    client.dataReceived(b"fail\na\n")
    text = b"451 4.3.0 A fault of ours; please try again later (%s)\r\n" % client.id.encode()
    assert said(client) == text + b"aa"
    assert not failures


def test_our_bug_is_logged_and_means_later(client, failures):
    said(client)
    client.dataReceived(b"bug\na\n")
    output = said(client)
    assert output.startswith(b"451 4.3.0 A fault of ours; ")
    assert client.id.encode() in output
    assert b"secret" not in output
    assert output.endswith(b"aa")
    assert [type(failure.value) for failure in failures] == [ZeroDivisionError]
    failures.clear()


def test_who_says_goodbye_is_hung_up_on_after_the_answer(client):
    client.dataReceived(b"a\nbye\nb\n")
    assert said(client) == b"hello\r\naabye"
    assert client.transport.disconnecting


def test_a_client_that_has_gone_is_not_thought_about_any_more(client, clock, failures):
    client.dataReceived(b"wait\n")
    cancelled = []
    client.waiting[0].addErrback(cancelled.append)
    lose(client)
    assert client.gone == 1
    assert not clock.getDelayedCalls()
    assert not failures


def test_a_lost_link_cancels_what_waits(client, failures):
    async def stubborn(question):
        try:
            await Deferred()
        except CancelledError:
            client.cancelled = True
            raise

    client._wait = stubborn
    client.dataReceived(b"wait\n")
    lose(client)
    assert client.cancelled
    assert not failures


def test_a_client_that_has_said_all_gets_its_answers(client):
    client.dataReceived(b"wait\nb\n")
    client.readConnectionLost()
    assert not client.transport.disconnecting
    client.waiting[0].callback(b"!")
    assert said(client) == b"hello\r\n!bb"
    assert client.transport.disconnecting


def test_a_client_that_has_said_all_and_waits_for_nothing_is_hung_up_on(client):
    client.readConnectionLost()
    assert client.transport.disconnecting


def test_silence_ends_the_conversation(client, clock):
    clock.advance(60)
    client.dataReceived(b"a\n")
    clock.advance(99)
    assert not client.transport.disconnecting
    clock.advance(1)
    assert said(client) == b"hello\r\naasilent"
    assert client.transport.disconnecting
    clock.advance(100)
    assert client.transport.aborted


def test_what_comes_behind_the_end_is_read_and_thrown_away(client, clock):
    client.dataReceived(b"bye\n")
    client.dataReceived(b"more\n" * 1000)
    assert said(client) == b"hello\r\nbye"
    assert not client.session.octets
    client.writeConnectionLost()
    clock.advance(4)
    assert not client.transport.aborted
    clock.advance(1)
    assert client.transport.aborted


def test_a_client_that_closes_too_is_closed_at_once(client, clock):
    closed = []
    client.transport.loseConnection = lambda: closed.append(True)
    client.dataReceived(b"bye\n")
    client.writeConnectionLost()
    client.readConnectionLost()
    assert closed
    lose(client)
    assert not clock.getDelayedCalls()


def test_silence_of_ours_is_no_silence_of_the_client(client, clock):
    client.dataReceived(b"wait\n")
    clock.advance(1000)
    assert not client.transport.aborted
    assert not client.transport.disconnecting


def test_a_client_that_takes_nothing_is_cut_off(client, clock):
    client.pauseProducing()
    client.dataReceived(b"a\n")
    for _ in range(3):
        clock.advance(50)
    assert client.transport.aborted


def test_a_closing_counter_says_goodbye_when_all_is_done(counter, clock):
    idle, busy = connected(counter), connected(counter)
    busy.dataReceived(b"wait\n")
    closed = Deferred.fromCoroutine(counter.close(30))
    assert said(idle).endswith(b"closing")
    assert not busy.transport.disconnecting
    busy.waiting[0].callback(b"!")
    assert said(busy) == b"hello\r\n!closing"
    lose(idle)
    lose(busy)
    assert closed.called
    assert not clock.getDelayedCalls()


def test_a_closing_counter_does_not_wait_for_ever(counter, clock):
    client = connected(counter)
    client.dataReceived(b"wait\n")
    Deferred.fromCoroutine(counter.close(30))
    clock.advance(30)
    assert client.transport.aborted
    lose(client)


def test_an_empty_counter_closes_at_once(counter):
    finish(counter.close(30))


def test_doors_keep_clients_out_and_count_those_who_leave(clock, counter):
    class Doors:
        inside = []

        def admit(self, address, service):
            if self.inside:
                return False
            self.inside.append(address)
            return True

        def leave(self, address, service):
            self.inside.remove(address)

    counter._connection_limits = Doors()
    first = connected(counter)
    second = connected(counter)
    assert said(second) == b"full\r\n"
    assert second.transport.disconnecting
    lose(first)
    assert not Doors.inside


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (IPv4Address("TCP", "192.0.2.1", 1), "192.0.2.1"),
        (IPv6Address("TCP", "2001:db8::1", 1), "2001:db8::1"),
        (IPv6Address("TCP", "::ffff:127.0.0.1", 1), "127.0.0.1"),
        (IPv6Address("TCP", "fe80::1%eth0", 1), "fe80::1"),
        (UNIXAddress("/run/x"), ""),
        (None, ""),
    ],
)
def test_the_address_of_a_client_is_in_its_plain_form(peer, address):
    assert client_address(peer) == address


# -- deadlines --------------------------------------------------------------------------


def test_a_command_has_its_time_however_it_trickles(client, clock):
    said(client)
    for _ in range(9):
        clock.advance(10)
        client.dataReceived(b"a")
    clock.advance(9)
    assert not client.transport.disconnecting
    clock.advance(1)
    assert said(client) == b"silent"
    assert client.transport.disconnecting


def test_who_goes_on_trickling_is_cut_off_all_the_same(client, clock):
    for _ in range(21):
        client.dataReceived(b"a")
        clock.advance(10)
    assert client.transport.aborted


def test_every_whole_command_has_its_own_time(client, clock):
    for _ in range(5):
        clock.advance(99)
        client.dataReceived(b"a\n")
    clock.advance(99)
    assert not client.transport.disconnecting
    clock.advance(1)
    assert client.transport.disconnecting


def test_time_that_was_ours_is_not_taken_from_the_clients(client, clock):
    client.dataReceived(b"wait\n")
    clock.advance(250)
    client.waiting[0].callback(b"!")
    clock.advance(99)
    assert not client.transport.disconnecting
    clock.advance(1)
    assert client.transport.disconnecting


@pytest.mark.parametrize("octets", [DISCARD_MAXIMUM, DISCARD_MAXIMUM + 1])
def test_what_comes_behind_the_end_has_a_bound(client, octets):
    client.dataReceived(b"bye\n")
    for start in range(0, octets, 50_000):
        assert not client.transport.aborted
        client.dataReceived(b"x" * min(50_000, octets - start))
    assert client.transport.aborted == (octets > DISCARD_MAXIMUM)
    assert not client.session.octets


# -- a balancer in front ----------------------------------------------------------------


@pytest.fixture
def proxied(counter):
    """A new client of a counter that believes a balancer; what it says first, or nothing yet."""
    counter.listener_options = ListenerOptions(
        proxies=[ipaddress.ip_network(BALANCER)],
        handshake=30,
        implicit=counter.listener_options.implicit,
    )

    def proxied(first=b"", peer=BALANCER):
        connection = connected(counter, IPv4Address("TCP", peer, 4000))
        if first:
            connection.dataReceived(first)
        return connection

    return proxied


@pytest.mark.parametrize(
    ("header", "address", "port"),
    [
        (FOR_A_CLIENT, "192.0.2.1", 4000),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 5 25\r\n", "192.0.2.1", 5),
        (b"PROXY UNKNOWN\r\n", BALANCER, 4000),
    ],
)
def test_a_balancer_says_for_whom_it_speaks(proxied, header, address, port):
    client = proxied()
    for octet in header[:-1]:
        client.dataReceived(bytes([octet]))
    assert said(client) == b""
    client.dataReceived(header[-1:] + b"a\n")
    assert said(client) == b"hello\r\naa"
    assert (client.client.address, client.client.port) == (address, port)


def test_nobody_else_is_believed(proxied):
    client = proxied(peer="203.0.113.2")
    assert said(client) == b"hello\r\n"
    client.dataReceived(FOR_A_CLIENT)
    assert said(client).startswith(b"PROXY ")
    assert client.client.address == "203.0.113.2"


@pytest.mark.parametrize("octets", [b"EHLO pc\r\n", b"PROXY TCP4 x y 1 2\r\n", b"\x16\x03\x01"])
def test_a_balancer_that_says_no_header_is_cut_off(proxied, octets, logged):
    client = proxied(octets)
    assert client.transport.aborted
    assert said(client) == b""
    assert any(
        line.startswith("proxy-refused ") and f" client={BALANCER} why=" in line for line in logged
    )
    lose(client)
    assert not any("session-failed" in line for line in logged), "one line is enough"
    assert client.gone == 0


def test_a_header_has_its_time_however_it_trickles(proxied, clock):
    client = proxied()
    for octet in FOR_A_CLIENT[:29]:
        clock.advance(1)
        client.dataReceived(bytes([octet]))
    assert not client.transport.aborted
    clock.advance(1)
    assert client.transport.aborted
    assert said(client) == b""


def test_a_client_has_its_whole_time_behind_the_header(proxied, clock):
    client = proxied()
    clock.advance(29)
    client.dataReceived(FOR_A_CLIENT)
    clock.advance(99)
    assert not client.transport.disconnecting
    clock.advance(1)
    assert client.transport.disconnecting


def test_a_balancer_that_goes_before_its_header_is_let_go(proxied, clock):
    client = proxied(FOR_A_CLIENT[:10])
    client.readConnectionLost()
    assert client.transport.aborted
    lose(client)
    assert not clock.getDelayedCalls()


def test_a_closing_counter_does_not_wait_for_a_header(proxied, counter):
    client = proxied()
    closed = Deferred.fromCoroutine(counter.close(30))
    assert client.transport.aborted
    lose(client)
    assert closed.called


@pytest.fixture
def connection_limits(counter):
    """Three may come in, and one from each place."""
    counter._connection_limits = ConnectionLimits(3, 1)
    return counter._connection_limits


def for_client(number: int) -> bytes:
    return b"PROXY TCP4 192.0.2.%d 203.0.113.9 4000 25\r\n" % number


def test_clients_behind_a_balancer_are_counted_as_who_they_are(proxied, connection_limits):
    inside = [proxied(for_client(1)), proxied(for_client(2))]
    again = proxied(for_client(1))
    assert said(again) == b"full\r\n"
    assert again.transport.disconnecting
    for client in (*inside, again):
        lose(client)
    assert [connection_limits.admit(f"192.0.2.{n}", "") for n in range(4)] == [
        True,
        True,
        True,
        False,
    ]


def test_a_balancer_counts_for_nobody_but_in_the_total(proxied, connection_limits):
    waiting = [proxied() for _ in range(3)]
    assert said(proxied()) == b"full\r\n"
    for number, client in enumerate(waiting):
        client.dataReceived(for_client(number))
        assert said(client) == b"hello\r\n"
    for client in waiting:
        lose(client)
    assert [connection_limits.admit(f"192.0.2.{n}", "") for n in range(4)] == [
        True,
        True,
        True,
        False,
    ]


def test_who_is_not_let_in_behind_a_balancer_has_said_all(proxied, connection_limits, clock):
    first, again = proxied(for_client(1)), proxied(for_client(1) + b"a\n")
    again.dataReceived(b"b\n")
    assert said(again) == b"full\r\n"
    clock.advance(30)
    assert again.transport.aborted
    lose(again)
    assert again.gone == 0
    assert not first.transport.aborted


# -- sessions that do not begin, and those that begin later ------------------------------------


def reasons(logged) -> list[str]:
    names = ("session-failed ", "proxy-refused ", "connection-refused ")
    return [line.partition(" why=")[2].strip('"') for line in logged if line.startswith(names)]


@pytest.mark.parametrize(
    ("said_first", "how", "why"),
    [
        (b"", "late", "timed out, no PROXY header"),
        (b"", "gone", "the link was closed, no PROXY header"),
        (b"PROXY TCP4 192", "late", "timed out after 14 octets of a PROXY header"),
        (b"PROXY TCP4 192", "gone", "the link was closed after 14 octets of a PROXY header"),
        (b"\r\n\r\n\x00\r\nQ", "late", "timed out after 8 octets of a PROXY header"),
        (b"GET / HTTP/1.1\r\n", "late", "it begins with"),
        (b"PROXY x\r\n", "gone", "a wrong line"),
    ],
)
def test_a_session_that_does_not_begin_leaves_a_line(proxied, clock, logged, said_first, how, why):
    client = proxied(said_first)
    if how == "late":
        clock.advance(30)
        assert client.transport.aborted
    lose(client)
    [reason] = reasons(logged)
    assert reason.startswith(why)


def test_who_finds_no_room_leaves_a_line(proxied, connection_limits, logged):
    proxied(for_client(1))
    lose(proxied(for_client(1)))
    assert reasons(logged) == ["too many connections"]


def test_a_flood_that_finds_no_room_leaves_some_lines(counter, connection_limits, logged):
    assert connected(counter).transport.value() == b"hello\r\n"
    for _ in range(500):
        assert connected(counter).transport.value() == b"full\r\n"
    refused = [line for line in logged if line.startswith("connection-refused ")]
    assert len(refused) == 60


def test_a_client_that_comes_early_is_greeted_when_the_office_is_open(counter, clock):
    counter.starting = True
    early = connected(counter)
    early.transport.deliver(b"a\n")
    clock.advance(STARTUP_WAIT - 1)
    assert said(early) == b""
    counter.open()
    assert said(early) == b"hello\r\n"
    clock.advance(0)
    assert said(early) == b"aa"
    assert said(connected(counter)) == b"hello\r\n"
    lose(early)
    assert not early.transport.aborted


def test_what_a_balancer_says_early_is_kept(proxied, counter, clock):
    counter.starting = True
    early = proxied(for_client(1) + b"b\n")
    assert said(early) == b""
    counter.open()
    assert said(early) == b"hello\r\nbb"
    assert early.client.address == "192.0.2.1"


def test_whoever_has_waited_too_long_hears_that_the_office_is_starting(counter, clock, logged):
    counter.starting = True
    early = connected(counter)
    clock.advance(STARTUP_WAIT)
    assert said(early) == b"not yet\r\n"
    assert early.transport.disconnecting
    counter.open()
    assert said(early) == b""
    clock.advance(LINGER)
    assert early.transport.aborted
    lose(early)
    assert reasons(logged) == ["timed out: the daemon is still starting"]
    assert not clock.getDelayedCalls()


def test_a_start_that_fails_tells_those_who_wait(counter, clock):
    counter.starting = True
    early = connected(counter)
    closed = Deferred.fromCoroutine(counter.close(30))
    assert said(early) == b"not yet\r\n"
    lose(early)
    assert closed.called


def test_who_waits_for_tls_early_hears_nothing_in_clear(counter, clock):
    counter.listener_options = ListenerOptions(implicit=True)
    counter.starting = True
    early = connected(counter)
    clock.advance(STARTUP_WAIT)
    assert said(early) == b""
    assert early.transport.disconnecting
    patient = connected(counter)
    assert patient.transport.secured_by is None
    counter.listener_options = ListenerOptions(implicit=True, certificates="certificates")
    counter.open()
    assert patient.transport.secured_by == "certificates"
    clock.advance(0)
    assert patient.transport.producerState == "producing"


# -- TLS --------------------------------------------------------------------------------


def test_who_is_kept_out_before_tls_hears_nothing_in_clear(proxied, counter, connection_limits):
    counter.listener_options = ListenerOptions(
        proxies=counter.listener_options.proxies, implicit=True
    )
    for number in range(3):
        connection_limits.admit(f"192.0.2.{number}")
    kept_out = [proxied(peer="203.0.113.2")]
    connection_limits.leave("192.0.2.2")
    kept_out.append(proxied(for_client(1)))
    for client in kept_out:
        assert said(client) == b""
        assert client.transport.disconnecting


def test_a_client_that_was_not_read_is_heard_again_when_tls_begins(client, counter, clock):
    client.transport.deliver(b"wait\n")
    client.transport.deliver(b"a\n" * READ_AHEAD + b"starttls\n")
    assert client.transport.producerState == "paused"
    client.waiting[0].callback(b"!")
    clock.advance(0)
    assert client.session.upgrading
    assert client.transport.producerState == "producing"


def test_nothing_is_said_in_clear_once_tls_was_promised(client, counter):
    client.dataReceived(b"starttls\n")
    assert said(client) == b"hello\r\ngo"
    Deferred.fromCoroutine(counter.close(30))
    assert said(client) == b""
    assert client.transport.aborted
    lose(client)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return self_signed.write(str(tmp_path_factory.mktemp("tls")), ["mail.example.net"])


@pytest.fixture
def trusting(files):
    """A client's context, which believes this certificate."""
    return ssl.create_default_context(cafile=files["certificate"])


@pytest.fixture
def live(counter, files):
    """The counter on a real port of loopback, with a certificate; its conversations stay known."""
    certificates = Certificates([CertificateFiles(**files)], ImmediateExecutor(), Clock())
    certificates.load_now()
    ports = []

    def live(**listener_options):
        counter.listener_options = ListenerOptions(
            certificates=certificates, handshake=30, **listener_options
        )
        ports.append(reactor.listenTCP(0, counter, interface="127.0.0.1"))
        address = ("127.0.0.1", ports[-1].getHost().port)
        return lambda: socket.create_connection(address, timeout=NEVER)

    yield live
    for port in ports:
        port.stopListening()
    for connection in counter.connections:
        connection.abort()
    turn_while(lambda: counter.connections)
    reactor.iterate(0)


def turn_while(condition):
    while condition():
        reactor.iterate(0.05)


def heard(client, octets: int) -> bytes:
    found = b""
    while len(found) < octets and (more := client.recv(octets - len(found))):
        found += more
    return found


def digest(client) -> bytes:
    return hashlib.sha256(client.getpeercert(binary_form=True)).digest()


def test_tls_begins_in_the_middle(live, counter, trusting, in_a_thread, clock):
    connect = live()
    known = []

    def client():
        with connect() as plain:
            assert heard(plain, 7) == b"hello\r\n"
            plain.sendall(b"a\nstarttls\n")
            assert heard(plain, 4) == b"aago"
            with trusting.wrap_socket(
                plain, server_hostname="mail.example.net", suppress_ragged_eofs=False
            ) as secret:
                secret.sendall(b"b\n")
                assert heard(secret, 2) == b"bb"
                known.extend(counter.connections)
                secret.sendall(b"bye\n")
                assert heard(secret, 10) == b"bye", "TLS is closed by its own farewell"
                return digest(secret), secret.version()

    shown, version = in_a_thread(client)
    [connection] = known
    turn_while(lambda: counter.connections)
    assert connection.renewed == 1
    assert connection.client.encrypted
    assert version == "TLSv1.3"
    assert set(connection.session.bindings) == {"tls-exporter", "tls-server-end-point"}
    assert connection.session.bindings["tls-server-end-point"] == shown
    assert connection._tls.startswith("TLSv1.3 ")
    assert not clock.getDelayedCalls()


def test_only_new_tls_has_the_binding_of_the_exporter(live, counter, trusting, in_a_thread):
    connect = live(implicit=True)
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2

    def client():
        with connect() as plain, trusting.wrap_socket(plain, server_hostname="localhost") as secret:
            assert heard(secret, 7) == b"hello\r\n"
            [connection] = counter.connections
            return connection

    connection = in_a_thread(client)
    assert set(connection._bindings) == {"tls-server-end-point"}
    assert connection.renewed == 0


def test_a_header_and_tls_may_come_in_one_piece(live, counter, trusting, in_a_thread):
    connect = live(implicit=True, proxies=[ipaddress.ip_network("127.0.0.1")])

    def client():
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secret = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with suppress(ssl.SSLWantReadError):
            secret.do_handshake()
        with connect() as plain:
            plain.sendall(FOR_A_CLIENT + outgoing.read())
            while True:
                try:
                    secret.do_handshake()
                    greeting = secret.read(100)
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(10_000))
                else:
                    [connection] = counter.connections
                    return greeting, connection.client

    greeting, client = in_a_thread(client)
    assert greeting == b"hello\r\n"
    assert (client.address, client.port, client.encrypted) == ("192.0.2.1", 4000, True)


def test_a_handshake_of_garbage_is_told(live, counter, in_a_thread, logged):
    connect = live(implicit=True)

    def client():
        with connect() as plain:
            plain.sendall(b"EHLO pc.example.org\r\n")
            while plain.recv(100):
                pass

    in_a_thread(client)
    turn_while(lambda: counter.connections)
    [line] = [line for line in logged if line.startswith("tls-failed ")]
    assert " client=127.0.0.1 why=" in line
    assert "too long" not in line


@pytest.mark.parametrize("implicit", [True, False])
def test_a_handshake_has_its_time(implicit, live, counter, clock, logged, in_a_thread):
    connect = live(implicit=implicit)
    plain = connect()
    if not implicit:
        plain.sendall(b"starttls\n")
    turn_while(lambda: not any(one._handshaking for one in counter.connections))
    [connection] = counter.connections
    clock.advance(29)
    plain.sendall(b"\x16\x03\x01")
    for _ in range(3):
        reactor.iterate(0)
    assert connection in counter.connections
    clock.advance(1)
    turn_while(lambda: counter.connections)
    assert any('why="timed out"' in line for line in logged)
    assert not clock.getDelayedCalls()
    plain.close()


def test_who_does_not_say_farewell_over_tls_is_cut_off(live, counter, trusting, in_a_thread, clock):
    connect = live(implicit=True)

    def client():
        secret = trusting.wrap_socket(connect(), server_hostname="localhost")
        assert heard(secret, 7) == b"hello\r\n"
        secret.sendall(b"bye\n")
        assert heard(secret, 3) == b"bye"
        return secret

    secret = in_a_thread(client)
    for _ in range(3):
        reactor.iterate(0)
    assert counter.connections
    clock.advance(LINGER_TLS)
    turn_while(lambda: counter.connections)
    secret.close()
