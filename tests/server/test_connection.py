"""One client on a transport: order, back-pressure, timers, and what a lost link costs."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred

from postoffice.server.connection import (
    DISCARD_MAXIMUM,
    READ_AHEAD,
)
from postoffice.testing import finish
from postoffice.util.networks import client_address
from tests.server.echoes import connected, lose, said


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


def test_the_connection_closes_after_the_reply_to_a_goodbye(client):
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


def test_a_closing_counter_says_goodbye_when_all_is_done(factory, clock):
    idle, busy = connected(factory), connected(factory)
    busy.dataReceived(b"wait\n")
    closed = Deferred.fromCoroutine(factory.close(30))
    assert said(idle).endswith(b"closing")
    assert not busy.transport.disconnecting
    busy.waiting[0].callback(b"!")
    assert said(busy) == b"hello\r\n!closing"
    lose(idle)
    lose(busy)
    assert closed.called
    assert not clock.getDelayedCalls()


def test_a_closing_counter_does_not_wait_for_ever(factory, clock):
    client = connected(factory)
    client.dataReceived(b"wait\n")
    Deferred.fromCoroutine(factory.close(30))
    clock.advance(30)
    assert client.transport.aborted
    lose(client)


def test_an_empty_counter_closes_at_once(factory):
    finish(factory.close(30))


def test_doors_keep_clients_out_and_count_those_who_leave(clock, factory):
    class Doors:
        inside = []

        def admit(self, address, service):
            if self.inside:
                return False
            self.inside.append(address)
            return True

        def leave(self, address, service):
            self.inside.remove(address)

    factory._connection_limits = Doors()
    first = connected(factory)
    second = connected(factory)
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


def test_a_client_that_goes_on_trickling_is_cut_off(client, clock):
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
