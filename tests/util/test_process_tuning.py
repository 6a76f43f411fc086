"""The garbage of a process, the clock that the reactor's timers go by, and its loop."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.base import ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import LoopingCall

from postoffice.util.process_tuning import poll_without_context, steady
from postoffice.util.token_bucket import TokenBucket

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


class Pipe(FileDescriptor):
    """The reading end of a pipe, which calls ``read`` when it has octets."""

    def __init__(self, reactor, read):
        super().__init__(reactor)
        self.end, self.other = os.pipe()
        self.read = read
        self.lost = False
        os.write(self.other, b"x")
        self.startReading()

    def fileno(self):
        return self.end

    def doRead(self):
        os.read(self.end, 1)
        return self.read(self)

    def connectionLost(self, reason):
        self.lost = True
        os.close(self.end)
        os.close(self.other)


@pytest.fixture
def epoll():
    reactor = EPollReactor()
    poll_without_context(reactor)
    yield reactor
    for one in reactor.removeAll():
        one.connectionLost(None)
    reactor._poller.close()


def test_an_epoll_reactor_reads_without_a_log_context(epoll):
    read = []
    pipes = [Pipe(epoll, lambda pipe: read.append(pipe)) for _ in range(3)]
    epoll.doIteration(0)
    assert set(read) == set(pipes)
    assert not any(pipe.lost for pipe in pipes)
    epoll.doIteration(0)
    assert len(read) == len(pipes)


def test_a_bug_in_one_connection_costs_that_connection_alone(epoll, logged):
    def break_off(_):
        raise ZeroDivisionError

    broken, well = Pipe(epoll, break_off), Pipe(epoll, lambda _: None)
    epoll.doIteration(0)
    assert broken.lost
    assert not well.lost
    assert any("ZeroDivisionError" in line for line in logged)


def test_what_an_event_before_has_closed_is_not_read(epoll):
    pipes = []

    def close_the_other(pipe):
        other = pipes[1 - pipes.index(pipe)]
        other.stopReading()
        read.append(pipe)

    read = []
    pipes += [Pipe(epoll, close_the_other) for _ in range(2)]
    epoll.doIteration(0)
    assert len(read) == 1


def test_another_reactor_keeps_its_own_loop():
    reactor = Reactor()
    before = dict(vars(reactor))
    poll_without_context(reactor)
    assert vars(reactor) == before


def test_a_command_collects_nothing_at_its_end():
    program = """if True:
        import sys
        from postoffice.util.process_tuning import tune_command

        class Garbage:
            def __init__(self):
                self.me = self

            def __del__(self):
                print("collected")

        if sys.argv[1:]:
            tune_command()
        Garbage()
    """
    for tuned, said in (((), "collected\n"), (("tuned",), "")):
        command = [sys.executable, "-c", program, *tuned]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == said
