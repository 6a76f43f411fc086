"""Turns: no client keeps the others waiting, however fast it is answered."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from postoffice.pop3.options import POP3Limits
from postoffice.protocol.wire import STEPS
from postoffice.server.fair_share import COMMANDS, SHARE, TURN, ClientShare, ReactorShares

#: What is answered at once, by POP3 before and behind a login, and by SMTP.
QUICK = [
    ("pop3", b"", b"CAPA\r\n", b"IMPLEMENTATION"),
    ("pop3", b"", b"NOOP\r\n", b"-ERR"),
    ("pop3", b"", b"LANG\r\n", b"+OK"),
    ("pop3", b"", b"x\r\n", b"-ERR"),
    ("pop3", b"USER joe@example.net\r\nPASS secret word\r\n", b"NOOP\r\n", b"+OK"),
    ("pop3", b"USER joe@example.net\r\nPASS secret word\r\n", b"STAT\r\n", b"+OK"),
    ("pop3", b"USER joe@example.net\r\nPASS secret word\r\n", b"CAPA\r\n", b"IMPLEMENTATION"),
    ("smtp", b"EHLO x\r\n", b"NOOP\r\n", b"250"),
    ("smtp", b"EHLO x\r\n", b"RSET\r\n", b"250"),
    ("smtp", b"EHLO x\r\n", b"MAIL FROM:<>\r\nRSET\r\n", b"2.1.0"),
    ("smtp", b"", b"HELP\r\n", b"214 2.0.0"),
]


def turn(clock):
    """One turn of a reactor: what is asked for meanwhile comes in the next (a Clock's does not)."""
    for call in [call for call in clock.calls if call.getTime() <= clock.seconds()]:
        clock.calls.remove(call)
        call.called = 1
        call.func(*call.args, **call.kw)


@pytest.fixture
def generous(memory_office):
    """A post office that ends no session for its errors."""
    memory_office.pop3.limits = POP3Limits(errors=10_000, commands=10_000)
    limits = memory_office.smtp.limits
    memory_office.smtp.limits = type(limits)(errors=10_000, commands=10_000, tarpit=0)
    return memory_office


@pytest.mark.parametrize(("service", "before", "command", "answer"), QUICK)
def test_commands_that_are_answered_at_once_take_turns(generous, service, before, command, answer):
    client = generous.client(service)
    client.say(before)
    heard = client.say(command * 1000)
    reactor_shares = 0
    while client.connection.loop.running:
        assert heard.count(answer) <= COMMANDS + STEPS
        client.connection.resumeProducing()
        turn(generous.clock)
        heard = client.hear()
        reactor_shares += 1
    assert reactor_shares >= 1000 // (COMMANDS + STEPS)
    assert client.say(b"QUIT\r\n").startswith((b"+OK", b"221"))


def test_all_that_was_asked_is_answered_in_its_order(memory_office):
    for _ in range(3):
        memory_office.post(b"Subject: x\r\n\r\nx\r\n")
    asked = [b"LIST %d\r\n" % (number % 5) for number in range(500)]
    expected = b"".join(
        b"+OK %d 179\r\n" % (n % 5) if 0 < n % 5 < 4 else b"-ERR no such message\r\n"
        for n in range(500)
    )
    memory_office.pop3.limits = POP3Limits(errors=10_000)
    client = memory_office.client("pop3")
    client.say(b"USER joe@example.net\r\nPASS secret word\r\n")
    heard = client.say(b"".join(asked))
    while client.connection.loop.running:
        memory_office.clock.advance(0)
        heard += client.hear()
    assert heard.split(b"\r\n") == expected.split(b"\r\n")


@pytest.mark.parametrize("command", [b"CAPA", b"NOOP", b"LANG", b"USER joe", b"XYZ", b"CAPA x"])
def test_commands_before_a_login_are_counted(memory_office, command):
    memory_office.pop3.limits = POP3Limits(errors=10_000)
    client = memory_office.client("pop3")
    client.say((command + b"\r\n") * 90)
    memory_office.clock.advance(0)
    client.say((command + b"\r\n") * 90)
    memory_office.clock.advance(0)
    assert not client.transport.disconnecting
    heard = client.say((command + b"\r\n") * 30)
    assert heard.endswith(b"-ERR too many commands without a login\r\n")
    assert client.transport.disconnecting


def test_commands_behind_a_login_are_not_counted(memory_office):
    client = memory_office.client("pop3")
    client.say(b"USER joe@example.net\r\nPASS secret word\r\n")
    for _ in range(50):
        assert client.say(b"NOOP\r\n" * 10) == b"+OK\r\n" * 10
        memory_office.clock.advance(0)


# -- turns and shares, without a client ------------------------------------------------------


def test_a_share_is_used_up_by_count_or_by_time():
    clock = Clock()
    share = ClientShare(ReactorShares(clock))
    assert not share.had(COMMANDS - 1)
    assert share.had(1)
    share = ClientShare(ReactorShares(clock))
    clock.advance(SHARE / 2)
    assert not share.had(1)
    share.stop()
    clock.advance(60)  # it waits for the disk, which is nobody's share
    share.go_on()
    assert not share.had(1)
    clock.advance(SHARE)
    assert share.had(1)


def test_waiting_work_goes_on_in_the_next_turn_while_there_is_time():
    clock = Clock()
    reactor_shares = ReactorShares(clock)
    went = []
    for name in range(5):
        reactor_shares.wait().addCallback(
            lambda _, name=name: (went.append(name), reactor_shares.use(TURN / 2))
        )
    assert went == []
    for expected in ([0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
        turn(clock)
        assert went == expected


def test_a_client_that_begins_goes_before_those_that_had_a_share():
    clock = Clock()
    reactor_shares = ReactorShares(clock)
    went = []
    reactor_shares.use(TURN)
    assert reactor_shares.used_up
    reactor_shares.wait().addCallback(lambda _: went.append("long"))
    reactor_shares.wait(new=True).addCallback(lambda _: went.append("new"))
    clock.advance(0)
    assert went == ["new", "long"]
    assert not reactor_shares.used_up


def test_a_client_that_waits_and_leaves_is_forgotten():
    clock = Clock()
    reactor_shares = ReactorShares(clock)
    went = []
    gone = reactor_shares.wait()
    reactor_shares.wait().addCallback(went.append)
    gone.addErrback(lambda _: None)
    gone.cancel()
    clock.advance(0)
    assert went == [None]
    assert not clock.getDelayedCalls()


def test_little_work_needs_no_look_at_the_turns():
    clock = Clock()
    reactor_shares = ReactorShares(clock)
    reactor_shares.use(0.0001)
    assert not clock.getDelayedCalls()


def test_a_client_that_leaves_in_the_middle_of_its_commands(memory_office, failures):
    client = memory_office.client("pop3")
    client.say(b"CAPA\r\n" * 150)
    client.leave()
    memory_office.clock.advance(0)
    assert not client.connection.loop.running
    assert not failures
