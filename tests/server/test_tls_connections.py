"""TLS on a connection: it begins, fails, times out and is closed."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
from contextlib import suppress

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.cli import self_signed
from postoffice.server.certificates import CertificateFiles, Certificates
from postoffice.server.connection import (
    LINGER_TLS,
    READ_AHEAD,
)
from postoffice.server.listener_options import ListenerOptions
from postoffice.testing import ImmediateExecutor
from tests.server.echoes import FOR_A_CLIENT, for_client, lose, said

#: Seconds after which something will never happen.
NEVER = 60

# -- TLS --------------------------------------------------------------------------------


def test_a_refused_client_of_implicit_tls_gets_nothing_in_clear(
    proxied, factory, connection_limits
):
    factory.listener_options = ListenerOptions(
        proxies=factory.listener_options.proxies, implicit=True
    )
    for number in range(3):
        connection_limits.admit(f"192.0.2.{number}")
    kept_out = [proxied(peer="203.0.113.2")]
    connection_limits.leave("192.0.2.2")
    kept_out.append(proxied(for_client(1)))
    for client in kept_out:
        assert said(client) == b""
        assert client.transport.disconnecting


def test_a_client_that_was_not_read_is_heard_again_when_tls_begins(client, factory, clock):
    client.transport.deliver(b"wait\n")
    client.transport.deliver(b"a\n" * READ_AHEAD + b"starttls\n")
    assert client.transport.producerState == "paused"
    client.waiting[0].callback(b"!")
    clock.advance(0)
    assert client.session.upgrading
    assert client.transport.producerState == "producing"


def test_nothing_is_said_in_clear_once_tls_was_promised(client, factory):
    client.dataReceived(b"starttls\n")
    assert said(client) == b"hello\r\ngo"
    Deferred.fromCoroutine(factory.close(30))
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
def live(factory, files):
    """The factory on a real port of loopback, with a certificate; its conversations stay known."""
    certificates = Certificates([CertificateFiles(**files)], ImmediateExecutor(), Clock())
    certificates.load_now()
    ports = []

    def live(**listener_options):
        factory.listener_options = ListenerOptions(
            certificates=certificates, handshake=30, **listener_options
        )
        ports.append(reactor.listenTCP(0, factory, interface="127.0.0.1"))
        address = ("127.0.0.1", ports[-1].getHost().port)
        return lambda: socket.create_connection(address, timeout=NEVER)

    yield live
    for port in ports:
        port.stopListening()
    for connection in factory.connections:
        connection.abort()
    turn_while(lambda: factory.connections)
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


def test_tls_begins_in_the_middle(live, factory, trusting, in_a_thread, clock):
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
                known.extend(factory.connections)
                secret.sendall(b"bye\n")
                assert heard(secret, 10) == b"bye", "TLS is closed by its own farewell"
                return digest(secret), secret.version()

    shown, version = in_a_thread(client)
    [connection] = known
    turn_while(lambda: factory.connections)
    assert connection.renewed == 1
    assert connection.client.encrypted
    assert version == "TLSv1.3"
    assert set(connection.session.bindings) == {"tls-exporter", "tls-server-end-point"}
    assert connection.session.bindings["tls-server-end-point"] == shown
    assert connection._tls.startswith("TLSv1.3 ")
    assert not clock.getDelayedCalls()


def test_only_new_tls_has_the_binding_of_the_exporter(live, factory, trusting, in_a_thread):
    connect = live(implicit=True)
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2

    def client():
        with connect() as plain, trusting.wrap_socket(plain, server_hostname="localhost") as secret:
            assert heard(secret, 7) == b"hello\r\n"
            [connection] = factory.connections
            return connection

    connection = in_a_thread(client)
    assert set(connection._bindings) == {"tls-server-end-point"}
    assert connection.renewed == 0


def test_a_header_and_tls_may_come_in_one_piece(live, factory, trusting, in_a_thread):
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
                    [connection] = factory.connections
                    return greeting, connection.client

    greeting, client = in_a_thread(client)
    assert greeting == b"hello\r\n"
    assert (client.address, client.port, client.encrypted) == ("192.0.2.1", 4000, True)


def test_a_handshake_of_garbage_is_told(live, factory, in_a_thread, logged):
    connect = live(implicit=True)

    def client():
        with connect() as plain:
            plain.sendall(b"EHLO pc.example.org\r\n")
            while plain.recv(100):
                pass

    in_a_thread(client)
    turn_while(lambda: factory.connections)
    [line] = [line for line in logged if line.startswith("tls-failed ")]
    assert " client=127.0.0.1 why=" in line
    assert "too long" not in line


@pytest.mark.parametrize("implicit", [True, False])
def test_a_handshake_has_its_time(implicit, live, factory, clock, logged, in_a_thread):
    connect = live(implicit=implicit)
    plain = connect()
    if not implicit:
        plain.sendall(b"starttls\n")
    turn_while(lambda: not any(one._handshaking for one in factory.connections))
    [connection] = factory.connections
    clock.advance(29)
    plain.sendall(b"\x16\x03\x01")
    for _ in range(3):
        reactor.iterate(0)
    assert connection in factory.connections
    clock.advance(1)
    turn_while(lambda: factory.connections)
    assert any('why="timed out"' in line for line in logged)
    assert not clock.getDelayedCalls()
    plain.close()


def test_a_client_without_close_notify_is_cut_off(live, factory, trusting, in_a_thread, clock):
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
    assert factory.connections
    clock.advance(LINGER_TLS)
    turn_while(lambda: factory.connections)
    secret.close()
