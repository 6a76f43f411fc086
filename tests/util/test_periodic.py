"""Steps every so often: never two at once, none after the stop."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.util.periodic import Periodic


class Steps:
    def __init__(self):
        self.clock = Clock()
        self.steps, self.failures = [], []
        self.periodic = Periodic(self.clock, 10, self.step, self.failures.append)

    def step(self):
        self.steps.append(Deferred())
        return self.steps[-1]

    def stop(self):
        stopped = []
        Deferred.fromCoroutine(self.periodic.stop()).addCallback(stopped.append)
        return stopped


@pytest.fixture
def steps():
    steps = Steps()
    steps.periodic.start()
    return steps


def test_the_next_step_waits_for_the_one_before(steps):
    steps.clock.advance(9)
    assert not steps.steps
    steps.clock.advance(1)
    steps.clock.pump([10] * 9)
    assert len(steps.steps) == 1
    steps.steps[0].callback(False)
    steps.clock.advance(10)
    assert len(steps.steps) == 2


def test_where_there_is_more_to_do_it_is_done_at_once(steps):
    steps.clock.advance(10)
    steps.steps[0].callback(True)
    assert len(steps.steps) == 2


def test_a_step_that_fails_is_told_and_the_next_one_comes(steps):
    steps.clock.advance(10)
    steps.steps[0].errback(KeyError("no"))
    assert [failure.type for failure in steps.failures] == [KeyError]
    steps.clock.advance(10)
    assert len(steps.steps) == 2


def test_a_stop_waits_for_the_step_and_there_is_no_other(steps):
    steps.clock.advance(10)
    stopped = steps.stop()
    assert not stopped
    steps.steps[0].callback(True)
    assert stopped == [None]
    assert len(steps.steps) == 1
    assert not steps.clock.getDelayedCalls()


def test_stopped_between_steps_it_waits_for_nothing(steps):
    assert steps.stop() == [None]
    assert not steps.clock.getDelayedCalls()


def test_the_first_step_may_come_at_once_and_a_stop_may_cancel_it():
    steps = Steps()
    steps.periodic.start(now=True)
    assert len(steps.steps) == 1
    Deferred.fromCoroutine(steps.periodic.stop(cancel=True))
    assert steps.steps[0].called
    assert not steps.failures
    steps.clock.advance(100)
    assert len(steps.steps) == 1
