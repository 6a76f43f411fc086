"""The control socket: who is answered."""

from __future__ import annotations

import json
import os
import socket

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from postoffice.daemon.control_socket import _PEER, CLIENTS, PATIENCE, SLICE, Control


class Reactor(Clock):
    pass


class Handle:
    def __init__(self, user):
        self.user = user

    def getsockopt(self, level, option, size):
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_PEERCRED)
        return _PEER.pack(1, self.user, 0)


class Transport(StringTransport):
    aborted = False

    def __init__(self, user):
        super().__init__()
        self.handle = Handle(user)

    def getHandle(self):
        return self.handle

    def abortConnection(self):
        self.aborted = True


@pytest.fixture
def control(tmp_path):
    many = ({"number": number} for number in range(1000))
    return Control(str(tmp_path), Reactor(), {"many": lambda question: many})


def asked(control, user=0):
    transport = Transport(user)
    protocol = control.buildProtocol(None)
    protocol.callLater = control.reactor.callLater
    protocol.makeConnection(transport)
    return protocol


@pytest.mark.parametrize(("user", "answered"), [("root", True), ("own", True), ("other", False)])
def test_only_root_and_our_own_user_are_answered(control, user, answered, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    found = asked(control, {"root": 0, "own": 4711, "other": 4712}[user])
    assert found.transport.aborted != answered


def test_a_long_answer_comes_in_slices(control):
    found = asked(control)
    found.dataReceived(b'{"command": "many"}\n')
    assert found.transport.value().count(b"\n") == SLICE
    control.reactor.advance(0)
    lines = found.transport.value().splitlines()
    assert [json.loads(line) for line in lines] == [{"number": n} for n in range(1000)] + [
        {"done": 1000}
    ]
    assert found.transport.disconnecting


@pytest.mark.parametrize("there", [True, False])
def test_an_answer_may_take_long_and_its_client_may_go(tmp_path, there):
    working = Deferred()

    async def slow(question):
        return iter([{"found": await working}])

    control = Control(str(tmp_path), Reactor(), {"slow": slow})
    found = asked(control)
    found.dataReceived(b'{"command": "slow"}\n{"command": "slow"}\n')
    control.reactor.advance(PATIENCE * 3)
    assert not found.transport.aborted
    if not there:
        found.connectionLost()
    working.callback("much")
    answer = b'{"found": "much"}\n{"done": 1}\n'
    assert found.transport.value() == (answer if there else b"")


def test_a_client_that_asks_nothing_is_cut_off(control):
    found = asked(control)
    control.reactor.advance(PATIENCE)
    assert found.transport.aborted
    found.connectionLost()
    assert control.asking == 0


def test_not_everybody_asks_at_once(control):
    found = [asked(control) for _ in range(CLIENTS + 1)]
    assert [one.transport.aborted for one in found] == [False] * CLIENTS + [True]


def test_too_long_a_question_is_not_read(control):
    found = asked(control)
    found.dataReceived(b"x" * 5000)
    assert found.transport.disconnecting or found.transport.aborted
