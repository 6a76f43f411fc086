"""A server that is down is not asked again and again, and what it said lately is served."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.accounts.circuit_breaker import (
    LONGEST_PAUSE,
    PAUSE,
    Breaker,
    StaleAnswers,
    Unavailable,
)
from postoffice.model.address import Account
from postoffice.model.alias import Domain, Found
from postoffice.model.errors import TemporaryFailure
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish

NET = Domain("example.net")
JOE = Found(NET, Account("joe@example.net", "joe@example.net"))


class Server:
    """Answers, or raises what it is told to; counts the calls."""

    def __init__(self):
        self.calls = 0
        self.error = None
        self.answer = JOE

    def ask(self, name=""):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.answer


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def breaker(clock):
    return Breaker(ImmediateExecutor(), clock, "the server", 5)


def fails(breaker, server, **how):
    with pytest.raises(Unavailable, **how):
        finish(breaker.run(server.ask))


def test_a_server_that_fails_is_not_asked_for_a_while(breaker, server, clock, logged):
    server.error = Unavailable("connection refused")
    fails(breaker, server)
    for _ in range(100):
        fails(breaker, server, match="connection refused; the server is not asked again yet")
    assert server.calls == 1
    server.error = None
    clock.advance(PAUSE)
    assert finish(breaker.run(server.ask)) == JOE
    assert finish(breaker.run(server.ask)) == JOE
    assert server.calls == 3
    assert logged == [
        "connection refused; retrying",
        "the server answers again",
    ]


def test_the_pause_doubles_up_to_a_bound(breaker, server, clock, logged):
    server.error = Unavailable("gone")
    pause = PAUSE
    for number in range(1, 12):
        fails(breaker, server)
        assert server.calls == number
        clock.advance(pause * 0.9)
        fails(breaker, server)
        assert server.calls == number
        clock.advance(pause * 0.11)
        pause = min(pause * 2, LONGEST_PAUSE)
    assert len(logged) == 1


def test_one_call_finds_out_whether_it_is_back(server, clock):
    executor = ManualExecutor()
    breaker = Breaker(executor, clock, "the server", 5)
    server.error = Unavailable("gone")
    first = Deferred.fromCoroutine(breaker.run(server.ask))
    first.addErrback(lambda failure: failure.trap(Unavailable))
    executor.work()
    clock.advance(PAUSE)
    trying = Deferred.fromCoroutine(breaker.run(server.ask))
    fails(breaker, server)
    server.error = None
    executor.work()
    assert trying.result == JOE
    assert server.calls == 2


def test_a_try_whose_client_has_gone_does_not_keep_others_out(server, clock):
    executor = ManualExecutor()
    breaker = Breaker(executor, clock, "the server", 5)
    server.error = Unavailable("gone")
    first = Deferred.fromCoroutine(breaker.run(server.ask))
    first.addErrback(lambda failure: failure.trap(Unavailable))
    executor.work()
    clock.advance(PAUSE)
    trying = Deferred.fromCoroutine(breaker.run(server.ask))
    trying.addErrback(lambda failure: None)
    trying.cancel()
    server.error = None
    again = Deferred.fromCoroutine(breaker.run(server.ask))
    executor.work()
    assert again.result == JOE


def test_a_server_that_is_slow_is_down(server, clock):
    executor, cut = ManualExecutor(), []
    breaker = Breaker(executor, clock, "the server", 5, lambda: cut.append(True))
    waiting = [Deferred.fromCoroutine(breaker.run(server.ask)) for _ in range(3)]
    failed = []
    for one in waiting:
        one.addErrback(lambda failure: failed.append(str(failure.value)))
    clock.advance(4.9)
    assert not failed
    clock.advance(0.2)
    assert failed == ["the server failed: no answer within 5 s: timed out"] * 3
    assert cut
    fails(breaker, server, match="no answer within 5 s")
    assert server.calls == 0
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("error", [TemporaryFailure("two entries"), LookupError("no domain")])
def test_whatever_else_it_says_it_is_not_down(breaker, server, error):
    server.error = error
    for _ in range(2):
        with pytest.raises(type(error)):
            finish(breaker.run(server.ask))
    assert server.calls == 2


def test_positive_answers_are_served_while_it_is_down(server, clock):
    stale = StaleAnswers(3600, clock)

    async def ask():
        return server.ask()

    assert finish(stale.ask("joe@example.net", ask)) == JOE
    server.error = Unavailable("gone")
    clock.advance(3599)
    assert finish(stale.ask("joe@example.net", ask)) == JOE
    clock.advance(1)
    with pytest.raises(Unavailable):
        finish(stale.ask("joe@example.net", ask))


def test_what_is_gone_is_not_served(server, clock):
    stale = StaleAnswers(3600, clock)

    async def ask():
        return server.ask()

    finish(stale.ask("joe@example.net", ask))
    server.answer = Found(NET)
    assert finish(stale.ask("joe@example.net", ask)) == Found(NET)
    server.error = Unavailable("gone")
    with pytest.raises(Unavailable):
        finish(stale.ask("joe@example.net", ask))


def test_nonsense_is_no_reason_for_an_old_answer(server, clock):
    stale = StaleAnswers(3600, clock)

    async def ask():
        return server.ask()

    finish(stale.ask("joe@example.net", ask))
    server.error = TemporaryFailure("two entries")
    with pytest.raises(TemporaryFailure, match="two entries"):
        finish(stale.ask("joe@example.net", ask))


def test_a_domain_is_served_too_and_nothing_where_that_is_switched_off(server, clock):
    server.answer = Found(NET)

    async def ask():
        return server.ask()

    stale, never = StaleAnswers(3600, clock), StaleAnswers(0, clock)
    for one in (stale, never):
        assert finish(one.ask("@example.net", ask)) == Found(NET)
    server.error = Unavailable("gone")
    assert finish(stale.ask("@example.net", ask)) == Found(NET)
    with pytest.raises(Unavailable):
        finish(never.ask("@example.net", ask))
