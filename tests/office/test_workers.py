"""Blocking functions on threads."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest
from twisted.internet.defer import CancelledError, Deferred

from postoffice.office.workers import ThreadWorkers


class Reactor:
    """The one thing that workers ask of a reactor; its thread is the test's."""

    def __init__(self):
        self.calls = SimpleQueue()
        self.woken = 0

    def callFromThread(self, function):
        self.calls.put(function)

    def turn_until(self, deferred):
        while not deferred.called:
            self.woken += 1
            self.calls.get(timeout=30)()


@pytest.fixture
def reactor():
    return Reactor()


@pytest.fixture
def workers(reactor):
    workers = ThreadWorkers(reactor, 3)
    workers.start()
    yield workers
    reactor.turn_until(Deferred.fromCoroutine(workers.stop()))
    assert not any(thread.is_alive() for thread in workers._threads)


def result(reactor, deferred):
    outcome = []
    deferred.addBoth(outcome.append)
    reactor.turn_until(deferred)
    return outcome[0]


def test_work_is_done_on_another_thread(reactor, workers):
    assert result(reactor, workers.run(threading.get_ident)) != threading.get_ident()
    assert result(reactor, workers.run(divmod, 7, 2)) == (3, 1)


def test_they_are_busy_until_all_results_have_come_back(reactor, workers):
    assert not workers.busy
    results = [workers.run(divmod, 7, 2), workers.run(divmod, 1, 0)]
    results[1].addErrback(lambda failure: failure.trap(ZeroDivisionError))
    assert workers.busy
    for one in results:
        reactor.turn_until(one)
    assert not workers.busy


def test_what_is_raised_comes_back(reactor, workers):
    failure = result(reactor, workers.run(divmod, 1, 0))
    assert isinstance(failure.value, ZeroDivisionError)


def test_several_work_at_once(reactor, workers):
    meeting = threading.Barrier(3, timeout=30)
    waiting = [workers.run(meeting.wait) for _ in range(3)]
    assert {result(reactor, deferred) for deferred in waiting} == {0, 1, 2}


def test_results_that_are_ready_together_come_in_one_turn(reactor, workers):
    done = threading.Semaphore(0)
    waiting = [workers.run(done.release) for _ in range(100)]
    for _ in waiting:
        assert done.acquire(timeout=30)
    for deferred in waiting:
        result(reactor, deferred)
    assert reactor.woken < 100


def test_who_is_cancelled_stops_waiting_and_the_work_goes_on(reactor, workers):
    gate, ended = threading.Event(), threading.Event()

    def work():
        gate.wait(30)
        ended.set()

    waiting = workers.run(work)
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    waiting.cancel()
    gate.set()
    assert ended.wait(30)
    assert result(reactor, workers.run(int)) == 0


def test_stopping_waits_for_what_was_asked(reactor):
    workers = ThreadWorkers(reactor, 2)
    workers.start()
    gate = threading.Event()
    waiting = [workers.run(gate.wait, 30) for _ in range(5)]
    stopping = Deferred.fromCoroutine(workers.stop())
    assert not stopping.called
    gate.set()
    reactor.turn_until(stopping)
    assert all(deferred.called for deferred in waiting)


def test_who_asks_after_the_end_hears_so(reactor):
    workers = ThreadWorkers(reactor, 1)
    workers.start()
    reactor.turn_until(Deferred.fromCoroutine(workers.stop()))
    assert isinstance(result(reactor, workers.run(int)).value, RuntimeError)
