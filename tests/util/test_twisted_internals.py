"""The clock that the reactor's timers go by."""

from __future__ import annotations

import time

import pytest
from twisted.internet.base import ReactorBase
from twisted.internet.task import LoopingCall

from postoffice.util.token_bucket import TokenBucket
from postoffice.util.twisted_internals import steady

DAY = 86400


class Reactor(ReactorBase):
    """Twisted's own timers, without a network."""

    def installWaker(self):
        pass


class Times:
    """The time of day, and how long the machine has been up."""

    def __init__(self):
        self.of_day = 1_800_000_000.0
        self.up = 300.0

    def pass_by(self, seconds):
        self.of_day += seconds
        self.up += seconds


@pytest.fixture
def times():
    return Times()


@pytest.fixture
def reactor(times):
    reactor = Reactor()
    reactor.seconds = lambda: times.of_day
    return reactor


@pytest.mark.parametrize("jump", [-DAY, -3600, 3600, DAY])
@pytest.mark.parametrize("scheduled", ["before", "afterwards"])
def test_a_timer_rings_when_its_time_has_passed_however_the_clock_is_set(
    reactor, times, jump, scheduled
):
    rung = []
    if scheduled == "before":
        reactor.callLater(10, rung.append, "ring")
    steady(reactor, lambda: times.up)
    if scheduled == "afterwards":
        reactor.callLater(10, rung.append, "ring")
    times.of_day += jump
    times.pass_by(9)
    reactor.runUntilCurrent()
    assert not rung
    assert reactor.timeout() == 1
    times.pass_by(1)
    reactor.runUntilCurrent()
    assert rung == ["ring"]


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_what_is_done_again_and_again_goes_on(reactor, times, jump):
    """As the journal's retiring, and the sweeping, do."""
    steady(reactor, lambda: times.up)
    done = []
    loop = LoopingCall(lambda: done.append(times.up))
    loop.clock = reactor
    loop.start(2, now=False)
    for _ in range(5):
        times.of_day += jump
        times.pass_by(2)
        reactor.runUntilCurrent()
    assert len(done) == 5
    loop.stop()


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_budgets_fill_as_time_passes(reactor, times, jump):
    steady(reactor, lambda: times.up)
    budget = TokenBucket(10, 100, reactor.seconds)
    assert budget.spend("x", 10)
    times.of_day += jump
    times.pass_by(50)
    assert budget.wait("x", 10) == pytest.approx(50)


def test_the_clock_is_the_systems_that_nobody_sets(reactor):
    steady(reactor)
    assert reactor.seconds is time.monotonic
