"""A connection behind a load balancer: the PROXY header names the client."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from tests.server.echoes import BALANCER, FOR_A_CLIENT, connected, for_client, lose, reasons, said


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


def test_a_closing_counter_does_not_wait_for_a_header(proxied, factory):
    client = proxied()
    closed = Deferred.fromCoroutine(factory.close(30))
    assert client.transport.aborted
    lose(client)
    assert closed.called


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


def test_a_refused_client_behind_a_balancer_is_not_read_from(proxied, connection_limits, clock):
    first, again = proxied(for_client(1)), proxied(for_client(1) + b"a\n")
    again.dataReceived(b"b\n")
    assert said(again) == b"full\r\n"
    clock.advance(30)
    assert again.transport.aborted
    lose(again)
    assert again.gone == 0
    assert not first.transport.aborted


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


def test_a_refused_connection_is_logged(proxied, connection_limits, logged):
    proxied(for_client(1))
    lose(proxied(for_client(1)))
    assert reasons(logged) == ["too many connections"]


def test_a_flood_that_finds_no_room_leaves_some_lines(factory, connection_limits, logged):
    assert connected(factory).transport.value() == b"hello\r\n"
    for _ in range(500):
        assert connected(factory).transport.value() == b"full\r\n"
    refused = [line for line in logged if line.startswith("connection-refused ")]
    assert len(refused) == 60


def test_what_a_balancer_says_early_is_kept(proxied, factory, clock):
    factory.starting = True
    early = proxied(for_client(1) + b"b\n")
    assert said(early) == b""
    factory.open()
    assert said(early) == b"hello\r\nbb"
    assert early.client.address == "192.0.2.1"
