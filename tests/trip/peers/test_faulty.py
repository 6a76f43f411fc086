"""Servers that break off, written as dialogues: no message is lost, returned or sent twice."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Thread

import pytest

from tests.trip.peers.conftest import mail_host
from tests.trip.peers.test_postfix import TEXT

HELLO = "250-x\r\n250 ENHANCEDSTATUSCODES\r\n"
YES, GO_ON, TAKEN = "250 2.0.0 Yes\r\n", "354 Go on\r\n", "250 2.0.0 Taken\r\n"
#: Instead of a reply, or behind a part of it.
CUT = "\0"
WELL = ["220 x\r\n", HELLO, YES, YES, GO_ON, TAKEN, YES, YES, GO_ON, TAKEN, YES, YES, GO_ON, TAKEN]


class Faulty:
    """
    A server with a script for each connection, the last one for all others.

    A script has the greeting, and a reply for each command and each text.
    """

    def __init__(self, where: str, *scripts: list[str]) -> None:
        self.texts: list[str] = []
        self.connections: list[socket.socket] = []
        self._scripts = list(scripts)
        self._listening = socket.create_server((where, 25))
        self._threads = [Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections.append(connection)
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            thread = Thread(target=self._talk, args=(connection, list(script)))
            self._threads.append(thread)
            thread.start()

    def _talk(self, connection: socket.socket, script: list[str]) -> None:
        with suppress(OSError), connection, connection.makefile("rwb") as stream:
            reply = script.pop(0)
            while True:
                stream.write(reply.removesuffix(CUT).encode())
                stream.flush()
                if reply.endswith(CUT):
                    return
                line = stream.readline()
                if reply == GO_ON:
                    self.texts.append(b"".join([line, *iter(stream.readline, b".\r\n")]).decode())
                if not line or line == b"QUIT\r\n":
                    return
                reply = script.pop(0) if script else "502 5.5.1 Out of script\r\n"

    def stop(self) -> None:
        for one in [self._listening, *self.connections]:
            with suppress(OSError):  # it is closed
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listening.close()


@pytest.fixture
def faulty(request, zone):
    """Starts a server for a domain of its own: the server and the domain."""
    started = []

    def faulty(*scripts: list[str]) -> tuple[Faulty, str]:
        faulty.count += 1
        domain = f"faulty{faulty.count}.example"
        mail_host(zone, domain, f"11.0.2.{faulty.count}")
        started.append(Faulty(f"11.0.2.{faulty.count}", *scripts))
        return started[-1], domain

    faulty.count = request.session.stash.get(COUNT, 0)
    yield faulty
    request.session.stash[COUNT] = faulty.count
    for one in started:
        one.stop()


COUNT = pytest.StashKey[int]()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ([CUT], "connection was lost.*phase=greeting"),
        (["220 x" + CUT], "connection was lost.*phase=greeting"),
        (["220 x\r\n", "250-half\r\n" + CUT], "connection was lost.*phase=hello"),
        (["220 x\r\n", "421 4.3.2 Closing\r\n" + CUT], "421 4.3.2.*phase=hello"),
        ([*WELL[:2], CUT], "connection was lost.*phase=mail"),
        ([*WELL[:2], "nonsense\r\n"], "phase=mail"),
        ([*WELL[:3], "421 4.3.2 Closing\r\n" + CUT], "421 4.3.2.*phase=rcpt"),
        ([*WELL[:3], "354 What?\r\n"], "out of step.*phase=rcpt"),
        ([*WELL[:4], CUT], "connection was lost.*phase=data"),
        ([*WELL[:5], CUT], "connection was lost.*phase=end"),
        ([*WELL[:5], "250 2.0.0 hal" + CUT], "connection was lost.*phase=end"),
        ([*WELL[:5], "421 4.3.2 Closing\r\n" + CUT], "421 4.3.2.*phase=end"),
        ([*WELL[:5], "354 Go on\r\n"], "out of step.*phase=end"),
    ],
)
def test_the_message_waits_and_is_sent_later(office, faulty, submit, ann, queue, script, why):
    server, domain = faulty(script, WELL)
    submit(TEXT, f"joe@{domain}")
    office.wait_for(rf" deferred .*to=<joe@{domain}> .*{why}")
    before = len(server.texts)
    queue("retry", "--to", domain)
    office.wait_for(rf" sent .*to=<joe@{domain}> ")
    assert len(server.texts) == before + 1, "once after the one that may have been lost"
    assert office.collect(ann) == []


@pytest.mark.parametrize("end", ["421 4.3.2 Enough\r\n" + CUT, CUT])
def test_a_server_that_ends_between_messages(office, faulty, submit, ann, end):
    """What was taken is not sent again, and the next message takes another connection at once."""
    server, domain = faulty([*WELL[:6], end], WELL)
    for name in ("first", "second"):
        submit(TEXT, f"{name}@{domain}")
        office.wait_for(rf" (sent|deferred) .*to=<{name}@{domain}> ")
    sent = [line for line in office.err + office.out if " sent " in line and domain in line]
    assert len(sent) == 2
    assert len(server.texts) == 2
    assert len(server.connections) == 2
    assert office.collect(ann) == []


@pytest.mark.parametrize("rset", ["502 5.5.1 RSET?\r\n", "250 2.0" + CUT, CUT])
def test_a_server_that_does_not_reset(office, faulty, submit, ann, rset):
    """Its refusal counts; the connection is left, and the next message takes another one."""
    server, domain = faulty([*WELL[:3], "550 5.1.1 No such user\r\n", rset], WELL)
    message = submit(TEXT, f"nobody@{domain}")
    office.wait_for(f" left-queue id={message} ")
    assert len(office.collect(ann)) == 1
    submit(TEXT, f"joe@{domain}")
    office.wait_for(rf" sent .*to=<joe@{domain}> ")
    assert len(server.texts) == 1
    assert len(server.connections) == 2
