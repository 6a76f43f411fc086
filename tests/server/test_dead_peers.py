"""Clients that are there no more, and did not say so, on real sockets."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from twisted.internet import reactor

from postoffice.server import tcp
from postoffice.server.tcp import KEEP_ALIVE
from postoffice.testing import finish
from tests.conftest import turn_until

#: Linux: a socket in this mode is closed without a word to the other end.
TCP_REPAIR = 19


@pytest.fixture
def connect(memory_office):
    """Collectors on sockets, logged in, with one message marked deleted."""
    memory_office.post(b"Subject: x\r\n\r\nx\r\n")
    port = reactor.listenTCP(0, memory_office.pop3, interface="127.0.0.1")
    clients = []

    def connect() -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
        client.setblocking(False)
        clients.append(client)
        client.sendall(b"USER joe@example.net\r\nPASS secret word\r\nDELE 1\r\n")
        heard = []

        def deleted():
            try:
                heard.append(client.recv(1000))
            except BlockingIOError:
                return False
            return b"message 1 deleted" in b"".join(heard)

        turn_until(deleted)
        return client

    yield connect
    for client in clients:
        client.close()
    port.stopListening()
    turn_until(lambda: not memory_office.pop3.connections)


def links(office) -> list[socket.socket]:
    return [one.transport.socket for one in office.pop3.connections]


def test_a_silent_client_is_asked_soon_whether_it_is_there(memory_office, connect):
    connect()
    [link] = links(memory_office)
    assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    for option, value in KEEP_ALIVE.items():
        assert link.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) == value


def test_a_client_that_has_vanished_is_found_out_and_removes_nothing(
    memory_office, connect, monkeypatch
):
    monkeypatch.setattr(tcp, "KEEP_ALIVE", dict.fromkeys(KEEP_ALIVE, 1))
    client = connect()
    try:
        client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    except OSError:
        pytest.skip("needs Linux, and the right to make a socket vanish")
    client.close()
    turn_until(lambda: not memory_office.pop3.connections)
    assert finish(memory_office.store.count("joe@example.net"))[0] == 1
    following = memory_office.client("pop3")
    assert b"+OK 1 messages" in following.say(b"USER joe@example.net\r\nPASS secret word\r\n")
    following.leave()


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_link_that_drops_frees_the_maildrop(memory_office, connect, how):
    client = connect()
    if how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    turn_until(lambda: not memory_office.pop3.connections)
    connect()
    assert finish(memory_office.store.count("joe@example.net"))[0] == 1


def test_what_a_client_does_not_take_is_known(memory_office, connect):
    memory_office.post(b"x" * 10_000_000 + b"\r\n")
    client = connect()
    [one] = memory_office.pop3.connections
    assert tcp.unacknowledged(one.transport) == 0
    client.sendall(b"RSET\r\nRETR 2\r\n")
    turn_until(lambda: tcp.unacknowledged(one.transport))

    def take() -> bool:
        with suppress(BlockingIOError):
            client.recv(1 << 20)
        return not tcp.unacknowledged(one.transport)

    turn_until(take)
