"""A connection to another server: in memory, with a clock that the tests move."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.python.failure import Failure

from postoffice.model.errors import TemporaryFailure
from postoffice.model.hop import NONE, VERIFY, PeerReply
from postoffice.protocol.wire import OUTPUT_QUANTUM
from postoffice.server.client_connection import ConnectFailed, HandshakeFailed
from tests.server.peers import HOP, Dialled, Text
from tests.smtp.client_peers import EHLO, TEXT, message

YES = b"250 2.0.0 Yes\r\n"
GO_ON = YES + YES + b"354 Go on\r\n"
TAKEN = b"250 2.0.0 Taken\r\n"
STUFFED = TEXT.replace(b"\r\n.", b"\r\n..") + b".\r\n"
OFFERS_TLS = b"250-mx.example.org\r\n250 STARTTLS\r\n"


def test_a_message_is_two_writes_and_the_connection_is_used_again():
    dialled = Dialled.greeted()
    for seconds in (0.0, 7.0):
        results = dialled.send(message())
        [envelope] = dialled.wire.take()
        assert envelope.startswith(b"MAIL FROM")
        assert envelope.endswith(b"DATA\r\n")
        assert dialled.hear(GO_ON) == [STUFFED]
        assert not dialled.connection.usable
        dialled.reactor.advance(seconds)
        dialled.hear(TAKEN)
        [result] = results
        assert result.replies == [PeerReply(250, "2.0.0", "Taken", "end")]
        assert result.usable
        assert result.times == (0.0, 0.0, seconds)
        assert dialled.connection.usable
        assert dialled.text.closed
    assert dialled.connection.name == "mx.example.org"
    assert dialled.connection.via == "mx.example.org[192.0.2.25]:25"
    assert dialled.connection.most == 50
    assert dialled.wire.options == {"nodelay": True, "keepalive": True}


def test_addresses_of_ours_are_by_family():
    for address, source in (("192.0.2.25", "192.0.2.1"), ("2001:db8::25", "2001:db8::1")):
        dialled = Dialled(
            replace(HOP, address=address, port=587), sources=("192.0.2.1", "2001:db8::1")
        )
        host, port, _, timeout, bind = dialled.reactor.tcpClients[0]
        assert (host, port, timeout, bind) == (address, 587, 30, (source, 0))
    assert Dialled().reactor.tcpClients[0][4] is None


def test_a_unix_socket_has_neither_tls_nor_options():
    hop = replace(HOP, address="/run/lmtp", lmtp=True, level=VERIFY)
    dialled = Dialled.greeted(hop, OFFERS_TLS)
    assert dialled.reactor.unixClients[0][0] == "/run/lmtp"
    assert dialled.wire.options == {}
    assert dialled.connection.usable


@pytest.mark.parametrize(
    ("error", "word"),
    [(ConnectError(111, "Connection refused"), "refused"), (error.TimeoutError(), "timed out")],
)
def test_a_connection_that_never_stands(error, word):
    dialled = Dialled()
    factory = dialled.reactor.tcpClients[0][2]
    factory.clientConnectionFailed(None, Failure(error))
    assert type(dialled.failed) is ConnectFailed
    assert dialled.failed.reply.phase == "connect"
    assert word in dialled.failed.reply.text


def test_an_attempt_is_cancelled():
    dialled = Dialled()
    dialled.reactor.connectors[0].stopConnecting = lambda: None
    dialled.attempt.cancel()
    assert isinstance(dialled.failed, CancelledError)
    dialled = Dialled()
    dialled.accept()
    dialled.attempt.cancel()
    assert dialled.wire.aborted
    dialled.lose()
    assert isinstance(dialled.failed, CancelledError)


@pytest.mark.parametrize("said", [b"554 5.7.1 Your address is bad\r\n", b"421 Busy\r\n"])
def test_a_server_that_does_not_welcome_us_is_quoted(said):
    dialled = Dialled()
    dialled.accept()
    dialled.hear(said)
    dialled.lose()
    assert dialled.failed.reply.code == int(said[:3])
    assert dialled.failed.reply.phase == "greeting"


# -- timeouts --------------------------------------------------------------------------------


def trickle(dialled, octet, seconds, step=10):
    """The server sends an octet now and then; return when we hang up."""
    passed = 0
    while not dialled.wire.aborted and passed < seconds * 3:
        dialled.reactor.advance(step)
        passed += step
        if not dialled.wire.aborted:
            dialled.protocol.dataReceived(octet)
    return passed


@pytest.mark.parametrize("octet", [b"", b"2"])
def test_a_server_that_never_greets(octet):
    dialled = Dialled()
    dialled.accept()
    if octet:
        dialled.hear(b"220-")
    assert trickle(dialled, octet, 300) == 300
    dialled.lose()
    assert "timed out" in dialled.failed.reply.text
    assert dialled.failed.reply.phase == "greeting"
    assert not dialled.reactor.getDelayedCalls()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [([], 300), ([YES], 300), ([YES, YES], 120), ([YES, YES, b"354 Go on\r\n"], 600)],
)
def test_each_command_has_its_time(said, seconds):
    dialled = Dialled.greeted()
    results = dialled.send(message())
    for burst in said:
        dialled.reactor.advance(7)
        dialled.hear(burst)
    dialled.hear(b"250-")
    assert trickle(dialled, b"x", seconds) == seconds
    dialled.lose()
    [result] = results
    assert "timed out" in result.replies[0].text
    assert not result.usable


def test_a_reply_after_minutes_counts():
    dialled = Dialled.greeted()
    results = dialled.send(message())
    dialled.hear(GO_ON)
    dialled.reactor.advance(599)
    dialled.hear(TAKEN)
    assert results[0].replies[0].sent


def test_reset_has_not_much_time():
    dialled = Dialled.greeted()
    results = dialled.send(message())
    dialled.hear(b"550 5.1.1 No\r\n" * 3)
    assert trickle(dialled, b"", 20, 5) == 20
    assert results[0].replies[0].code == 550
    assert not results[0].usable


def test_an_idle_connection_has_no_timer():
    dialled = Dialled.greeted()
    dialled.reactor.advance(20)
    assert not dialled.reactor.getDelayedCalls()
    assert dialled.connection.usable


# -- the text --------------------------------------------------------------------------------

PIECE = b"x" * (OUTPUT_QUANTUM - 2) + b"\r\n"


def test_a_slow_server_does_not_fill_the_memory():
    dialled = Dialled.greeted()
    results = dialled.send(message(), Text(*[PIECE] * 5))
    dialled.protocol.pauseProducing()
    dialled.hear(GO_ON)
    dialled.reactor.advance(0)
    assert dialled.text.read_so_far == len(PIECE)
    dialled.protocol.resumeProducing()
    for _ in range(6):
        dialled.reactor.advance(0)
    assert dialled.text.read_so_far == 5 * len(PIECE)
    dialled.hear(TAKEN)
    assert results[0].replies[0].sent


def test_a_fast_server_does_not_hold_the_reactor():
    dialled = Dialled.greeted()
    dialled.send(message(), Text(*[PIECE] * 3))
    dialled.hear(GO_ON)
    assert dialled.text.read_so_far == len(PIECE)
    dialled.reactor.advance(0)
    assert dialled.text.read_so_far == 3 * len(PIECE)


@pytest.mark.parametrize("step", [10, 100])
def test_a_server_that_takes_no_text_times_out(step):
    dialled = Dialled.greeted()
    results = dialled.send(message(), Text(*[PIECE] * 3))
    dialled.protocol.pauseProducing()
    dialled.hear(GO_ON)
    dialled.reactor.pump([step] * (180 // step + 1))
    assert dialled.wire.aborted
    dialled.lose()
    assert "timed out" in results[0].replies[0].text
    assert results[0].replies[0].phase == "data"
    assert dialled.text.closed
    assert not dialled.wire.value().endswith(b".\r\n")


def test_our_own_disk_may_take_its_time():
    piece = Deferred()
    dialled = Dialled.greeted()
    results = dialled.send(message(), Text(piece))
    dialled.hear(GO_ON)
    dialled.reactor.pump([100] * 10)
    piece.callback(TEXT)
    assert dialled.wire.take() == [STUFFED]
    dialled.hear(TAKEN)
    assert results[0].replies[0].sent


@pytest.mark.parametrize("late", [True, False])
def test_a_text_that_cannot_be_read_ends_the_connection_without_its_end(late):
    piece = Deferred()
    dialled = Dialled.greeted()
    failure = TemporaryFailure("input/output error")
    results = dialled.send(message(), Text(b"half\r\n", piece if late else failure))
    dialled.hear(GO_ON)
    if late:
        piece.errback(failure)
    assert "input/output error" in results[0].replies[0].text
    assert not results[0].replies[0].permanent
    assert dialled.wire.aborted
    assert not dialled.wire.value().endswith(b".\r\n")


@pytest.mark.parametrize("waits", ["text", "transport"])
def test_a_connection_that_is_lost_while_the_text_waits(waits):
    piece = Deferred()
    dialled = Dialled.greeted()
    results = dialled.send(message(), Text(PIECE, piece))
    if waits == "transport":
        dialled.protocol.pauseProducing()
    dialled.hear(GO_ON)
    dialled.reactor.advance(0)
    dialled.lose()
    dialled.reactor.advance(0)
    [result] = results
    assert result.replies == [PeerReply(0, "", "The connection was lost", "data")]
    assert dialled.text.closed
    assert not dialled.reactor.getDelayedCalls()


def test_a_refusal_in_the_middle_of_the_text_counts():
    dialled = Dialled.greeted()
    results = dialled.send(message(), Text(PIECE, Deferred()))
    dialled.hear(GO_ON)
    dialled.reactor.advance(0)
    dialled.hear(b"552 5.3.4 Too big\r\n")
    assert results[0].replies[0].code == 552
    assert dialled.wire.aborted


# -- ending ----------------------------------------------------------------------------------


def test_a_connection_that_is_cut_behind_the_dot_is_not_sent_and_not_refused():
    dialled = Dialled.greeted()
    results = dialled.send(message())
    dialled.hear(GO_ON)
    dialled.lose()
    assert results[0].replies == [PeerReply(0, "", "The connection was lost", "end")]
    assert results[0].begun


def test_half_a_reply_is_none():
    dialled = Dialled.greeted()
    results = dialled.send(message())
    dialled.hear(GO_ON, b"250 2.0.0 Tak")
    dialled.lose()
    assert results[0].replies[0].code == 0


@pytest.mark.parametrize("said", [b"421 4.3.2 Going down\r\n", b"250 Yes?\r\n", None])
def test_an_idle_connection_that_ends_is_noticed(said):
    dialled = Dialled.greeted()
    lost = []
    dialled.connection.on_lost = lambda: lost.append(True)
    if said is not None:
        dialled.hear(said)
        assert dialled.wire.aborted
        assert not dialled.connection.usable
    dialled.lose()
    assert lost == [True]
    results = dialled.send(message())
    [result] = results
    assert not result.begun
    assert not result.usable
    assert dialled.text.closed


def test_goodbye_does_not_take_long():
    dialled = Dialled.greeted()
    lost = []
    dialled.connection.on_lost = lambda: lost.append(True)
    gone = []
    dialled.connection.close().addCallback(gone.append)
    assert dialled.wire.take() == [b"QUIT\r\n"]
    assert not dialled.connection.usable
    dialled.hear(b"221 Bye\r\n")
    assert dialled.wire.disconnecting
    assert not dialled.wire.aborted
    assert gone == []
    dialled.lose()
    assert lost == [True]
    assert gone == [None]
    dialled.connection.close().addCallback(gone.append)
    assert gone == [None, None]
    silent = Dialled.greeted()
    silent.connection.close()
    silent.reactor.advance(5)
    assert silent.wire.disconnecting or silent.wire.aborted


def test_a_transaction_is_cancelled():
    dialled = Dialled.greeted()
    results = dialled.send(message())
    dialled.sending.cancel()
    assert dialled.wire.aborted
    dialled.lose()
    assert isinstance(results[0].value, CancelledError)
    assert dialled.text.closed


def test_what_is_refused_by_ourselves_costs_nothing():
    dialled = Dialled.greeted()
    results = dialled.send(message(size=1_000_000))
    assert results[0].replies[0].status == "5.3.4"
    assert dialled.text.closed
    assert dialled.wire.take() == []
    assert dialled.connection.usable


def test_limits_of_the_server_are_kept():
    limits = EHLO.replace(b"250 DSN", b"250 LIMITS MAILMAX=1 RCPTMAX=7")
    dialled = Dialled.greeted(ehlo=limits)
    assert dialled.connection.most == 7
    results = dialled.send(message())
    dialled.hear(GO_ON, TAKEN)
    assert results[0].replies[0].sent
    assert not dialled.connection.usable


# -- TLS -------------------------------------------------------------------------------------


def test_tls_begins_behind_the_reply():
    dialled = Dialled()
    dialled.accept()
    assert dialled.hear(b"220 x\r\n", OFFERS_TLS)[-1] == b"STARTTLS\r\n"
    assert dialled.wire.secured_by is None
    dialled.hear(b"220 Go on\r\n")
    assert dialled.wire.secured_by is not None


def test_tls_that_is_not_wanted_does_not_begin():
    assert Dialled.greeted(replace(HOP, level=NONE), OFFERS_TLS).connection.usable


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("silent", [True, False])
def test_a_handshake_that_fails_can_be_told_from_all_else(implicit, silent):
    dialled = Dialled(replace(HOP, implicit=implicit))
    dialled.accept()
    if not implicit:
        dialled.hear(b"220 x\r\n", OFFERS_TLS, b"220 Go on\r\n")
    assert dialled.wire.secured_by is not None
    if silent:
        dialled.reactor.advance(300)
        assert dialled.wire.aborted
    dialled.lose()
    assert isinstance(dialled.failed, HandshakeFailed)
    assert dialled.failed.reply.phase == "tls"
    assert dialled.failed.reply.status == "4.7.5"
    assert ("timed out" in dialled.failed.reply.text) is silent


def test_octets_in_clear_behind_the_reply_to_starttls_end_the_connection():
    dialled = Dialled()
    dialled.accept()
    dialled.hear(b"220 x\r\n", OFFERS_TLS, b"220 Go on\r\n" + EHLO)
    assert dialled.wire.secured_by is None
    assert dialled.wire.aborted
    dialled.lose()
    assert dialled.failed.reply.phase == "tls"
