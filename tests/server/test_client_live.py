"""A connection to other servers over sockets: ours, Postfix's smtp-sink, and faulty ones."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import replace

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from postoffice.cli import self_signed
from postoffice.model.hop import ENCRYPT, NONE, OPPORTUNISTIC, VERIFY, Hop
from postoffice.server.certificates import CertificateFiles, Certificates
from postoffice.server.client_connection import (
    ConnectFailed,
    ConnectOptions,
    HandshakeFailed,
    connect,
)
from postoffice.server.client_tls import ClientContexts
from postoffice.server.listener_options import ListenerOptions
from postoffice.server.smtp_factory import SMTPFactory
from postoffice.server.smtp_service import ServiceProfile
from postoffice.smtp.options import SMTPLimits
from postoffice.testing import ImmediateExecutor
from tests.conftest import turn_until
from tests.server.peers import Text
from tests.servers import free_port
from tests.smtp.client_peers import TEXT, message

JOE = "joe@example.net"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return self_signed.write(str(tmp_path_factory.mktemp("tls")), ["mail.example.net"])


def wait(coroutine):
    """What an awaitable returns, or raises, while the reactor turns."""
    outcome = []
    Deferred.fromCoroutine(_awaited(coroutine)).addBoth(outcome.append)
    turn_until(lambda: outcome)
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


async def _awaited(awaitable):
    return await awaitable


class Calls:
    """Connects, and closes its connections in the end."""

    def __init__(self, ca):
        self.options = ConnectOptions(
            reactor=reactor, hostname="pc.example.org", contexts=ClientContexts(ca)
        )
        self.connections = []
        self.ports = []

    def to(self, where, **hop):
        """A connection to a port of loopback, or to a path."""
        port, address = (25, where) if isinstance(where, str) else (where, "127.0.0.1")
        hop = Hop(**{"host": "mail.example.net", "address": address, "port": port} | hop)
        connection = wait(connect(hop, self.options))
        self.connections.append(connection)
        return connection

    def listen(self, factory, unix=None):
        listening = (
            reactor.listenUNIX(unix, factory)
            if unix
            else reactor.listenTCP(0, factory, interface="127.0.0.1")
        )
        self.ports.append(listening)
        return unix or listening.getHost().port

    def close(self):
        for connection in self.connections:
            connection.close()
        turn_until(lambda: all(connection.lost for connection in self.connections))
        for port in self.ports:
            wait(port.stopListening())


@pytest.fixture
def calls(files, tmp_path):  # its sockets are closed before their folder goes
    calls = Calls(files["certificate"])
    yield calls
    calls.close()


@pytest.fixture
def office(calls, files, memory_office):
    """Our own server on a port, or on a path."""
    certificates = Certificates([CertificateFiles(**files)], ImmediateExecutor(), Clock())
    certificates.load_now()
    factories = []

    def listen(unix=None, implicit=False, **profile):
        factory = SMTPFactory(
            memory_office.smtp.portal,
            hostname="mail.example.net",
            limits=SMTPLimits(),
            clock=reactor,
            listener_options=ListenerOptions("smtp", certificates, implicit=implicit),
            profile=ServiceProfile(**profile),
        )
        factories.append(factory)
        return calls.listen(factory, unix)

    yield listen
    open_ones = [one for factory in factories for one in factory.connections]
    for one in open_ones:
        one.abort()
    turn_until(lambda: all(one.lost for one in open_ones))


@pytest.fixture
def texts(memory_office):
    """The texts in joe's maildrop."""

    def texts():
        return list(memory_office.store.drop(JOE).texts.values())

    return texts


@pytest.mark.parametrize("level", [NONE, OPPORTUNISTIC, ENCRYPT, VERIFY])
def test_a_message_arrives_at_our_own_server(calls, office, texts, level):
    connection = calls.to(office(), level=level)
    result = wait(connection.send(message(JOE), Text()))
    assert result.replies[0].sent, result
    assert bool(result.tls) is (level != NONE)
    assert [text.endswith(TEXT) for text in texts()] == [True]
    again = wait(connection.send(message(JOE, "nobody@example.net"), Text()))
    assert [one.code for one in again.replies] == [250, 550]
    assert again.usable


def test_implicit_tls_and_a_login(calls, office, texts):
    port = office(implicit=True, submission=True, mechanisms=("PLAIN",))
    hop = {"implicit": True, "level": VERIFY, "host": "127.0.0.1"}
    connection = calls.to(port, login=JOE, password="secret word", **hop)
    sent = message(JOE, sender=JOE)
    assert wait(connection.send(sent, Text(b"From: joe@example.net\r\n" + TEXT))).replies[0].sent
    with pytest.raises(ConnectFailed) as failed:
        calls.to(port, login=JOE, password="wrong", **hop)
    assert failed.value.reply.code == 535


def test_lmtp_over_a_unix_socket(calls, office, tmp_path):
    path = office(unix=str(tmp_path / "lmtp"), lmtp=True)
    connection = calls.to(path, lmtp=True, level=VERIFY)
    result = wait(connection.send(message(JOE, "ann@example.net"), Text()))
    assert [one.code for one in result.replies] == [250, 250]


@pytest.mark.parametrize("level", [NONE, VERIFY])
def test_a_large_text_arrives_whole(calls, office, texts, level):
    pieces = [b"%06d\r\n..dots\r\n.\r\n" % n * 9000 for n in range(40)]
    connection = calls.to(office(), level=level)
    whole = b"".join(pieces)
    result = wait(connection.send(message(JOE, size=len(whole)), Text(*pieces)))
    assert result.replies[0].sent, result
    assert texts()[0].endswith(whole)


def test_a_certificate_for_another_name_fits_only_where_it_need_not(calls, office):
    port = office()
    with pytest.raises(HandshakeFailed) as failed:
        calls.to(port, level=VERIFY, host="mx.example.org")
    assert "not for mx.example.org" in failed.value.reply.text
    assert calls.to(port, level=ENCRYPT, host="mx.example.org").usable


def test_an_unknown_authority_counts_only_where_it_must(calls, office):
    port = office()
    calls.options = replace(calls.options, contexts=ClientContexts())
    with pytest.raises(HandshakeFailed) as failed:
        calls.to(port, level=VERIFY)
    assert "certificate verify failed" in failed.value.reply.text
    assert calls.to(port, level=OPPORTUNISTIC).tls.startswith("TLSv1.3")


def test_an_authority_of_ours_is_trusted_beside_those_of_the_system(
    calls, office, files, tmp_path, monkeypatch
):
    """The certificate is the system's (``SSL_CERT_FILE``), and ``ca`` is another one."""
    monkeypatch.setenv("SSL_CERT_FILE", files["certificate"])
    ours = self_signed.write(str(tmp_path), ["other.example.net"])["certificate"]
    calls.options = replace(calls.options, contexts=ClientContexts(ours))
    assert calls.to(office(), level=VERIFY).usable


def test_a_port_where_nobody_listens(calls, office):
    port = office()
    wait(calls.ports.pop().stopListening())
    with pytest.raises(ConnectFailed) as failed:
        calls.to(port)
    assert failed.value.reply.phase == "connect"
    assert "refused" in failed.value.reply.text


# -- faulty servers ----------------------------------------------------------------------


#: The end of an answer, or all of it: the connection is cut.
CUT = b"\0"


class Faulty(Protocol):
    """Answers each line with the next of its answers."""

    def connectionMade(self):
        self.lines = b""
        self.answers = list(self.factory.answers)
        self.say()

    def dataReceived(self, data):
        self.lines += data
        while b"\r\n" in self.lines and self.answers:
            self.lines = self.lines.partition(b"\r\n")[2]
            self.say()

    def say(self):
        answer = self.answers.pop(0)
        self.transport.write(answer.removesuffix(CUT))
        if answer.endswith(CUT):
            self.transport.loseConnection()


def faulty(*answers):
    factory = Factory.forProtocol(Faulty)
    factory.answers = [b"220 x\r\n", *answers]
    return factory


YES, GO_ON = b"250 Yes\r\n", b"354 Go on\r\n"
#: The text has four lines; the fifth is its end.
TEXT_LINES = [b""] * 4
WHOLE = [YES, YES, GO_ON, *TEXT_LINES]


@pytest.mark.parametrize(
    ("answers", "codes", "phase"),
    [
        ([YES, CUT], [0], "mail"),
        ([YES, YES, YES, CUT], [0], "data"),
        ([YES, *WHOLE, CUT], [0], "end"),
        ([YES, *WHOLE, b"250 half" + CUT], [0], "end"),
        ([YES, *WHOLE, b"421 Down\r\n"], [421], "end"),
        ([YES, YES, b"550 No\r\n", b"502 RSET?\r\n"], [550], "rcpt"),
        ([YES, YES, b"550 No\r\n", CUT], [550], "rcpt"),
    ],
)
def test_a_server_that_breaks_off(calls, answers, codes, phase):
    connection = calls.to(calls.listen(faulty(*answers)), level=NONE)
    result = wait(connection.send(message(), Text()))
    assert [one.code for one in result.replies] == codes, result
    assert result.replies[0].phase == phase
    assert not result.usable
    turn_until(lambda: connection.lost)


@pytest.mark.parametrize("end", [b"250 Taken\r\n421 Enough\r\n", b"250 Taken\r\n"])
def test_a_server_that_ends_between_two_messages_is_noticed(calls, end):
    connection = calls.to(calls.listen(faulty(YES, *WHOLE, end + CUT)), level=NONE)
    lost = []
    connection.on_lost = lambda: lost.append(True)
    result = wait(connection.send(message(), Text()))
    assert result.replies[0].sent
    second = wait(connection.send(message(), Text()))
    assert not second.begun
    turn_until(lambda: lost)


def test_a_server_whose_tls_is_broken_takes_the_message_in_clear(calls):
    offer = b"250-x\r\n250 STARTTLS\r\n"
    port = calls.listen(faulty(offer, b"220 Go on\r\n" + CUT))
    with pytest.raises(HandshakeFailed):
        calls.to(port)
    port = calls.listen(faulty(offer, *WHOLE, YES, b"221 Bye\r\n"))
    assert wait(calls.to(port, level=NONE).send(message(), Text())).replies[0].sent


# -- Postfix's smtp-sink ---------------------------------------------------------------------


def listens(port):
    """Whether somebody listens on this port of loopback."""
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def sink(tmp_path):
    """Starts smtp-sink with these options; its port."""
    program = shutil.which("smtp-sink", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        pytest.skip("smtp-sink is not installed")
    running = []

    def sink(*options):
        port = free_port()
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        words = [program, *user, *options, f"127.0.0.1:{port}", "100"]
        running.append(subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE))
        turn_until(lambda: running[-1].poll() is not None or listens(port))
        assert running[-1].poll() is None, running[-1].stderr.read()
        return port

    yield sink
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("options", [(), ("-p",), ("-e",), ("-8", "-p"), ("-L",)])
def test_many_messages_for_the_sink(calls, sink, options):
    lmtp = "-L" in options
    connection = calls.to(sink(*options), lmtp=lmtp)
    for n in range(1, 40):
        names = [f"joe{k}@example.org" for k in range(n % 4 + 1)]
        result = wait(connection.send(message(*names), Text(TEXT * n)))
        assert [one.code for one in result.replies] == [250] * len(names)
        assert result.usable


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
def test_a_sink_that_refuses(calls, sink, verb):
    connection = calls.to(sink("-r", verb))
    for _ in range(3):
        result = wait(connection.send(message(), Text()))
        assert 400 <= result.replies[0].code < 600
        assert result.usable
    hard = calls.to(sink("-f", verb))
    assert wait(hard.send(message(), Text())).replies[0].code >= 400


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
def test_a_sink_that_hangs_up(calls, sink, verb):
    connection = calls.to(sink("-q", verb))
    result = wait(connection.send(message(), Text()))
    assert not result.replies[0].sent
    assert not result.replies[0].permanent
    assert not result.usable
