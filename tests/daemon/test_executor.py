"""Blocking functions on threads."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from postoffice.daemon import executor as module
from postoffice.daemon.executor import ThreadExecutor


class Reactor(Clock):
    """What workers ask of a reactor; its thread is the test's."""

    def __init__(self):
        super().__init__()
        self.from_threads = SimpleQueue()
        self.woken = 0

    def callFromThread(self, function):
        self.from_threads.put(function)

    def turn_until(self, deferred):
        while not deferred.called:
            self.woken += 1
            self.from_threads.get(timeout=30)()


@pytest.fixture
def reactor():
    return Reactor()


@pytest.fixture
def workers(reactor):
    workers = ThreadExecutor(reactor, 3)
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
    workers = ThreadExecutor(reactor, 2)
    workers.start()
    gate = threading.Event()
    waiting = [workers.run(gate.wait, 30) for _ in range(5)]
    stopping = Deferred.fromCoroutine(workers.stop())
    assert not stopping.called
    gate.set()
    reactor.turn_until(stopping)
    assert all(deferred.called for deferred in waiting)


def test_who_asks_after_the_end_hears_so(reactor):
    workers = ThreadExecutor(reactor, 1)
    workers.start()
    reactor.turn_until(Deferred.fromCoroutine(workers.stop()))
    assert isinstance(result(reactor, workers.run(int)).value, RuntimeError)


class Busy:
    """Jobs that end when they are told to; how many are being done."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()

    def job(self):
        self.begun.release()
        self.gate.wait(30)

    def are(self, number):
        return all(self.begun.acquire(timeout=30) for _ in range(number))


@pytest.fixture
def busy(reactor, monkeypatch):
    """Workers of which one is there usually, and up to three; and jobs for them."""
    monkeypatch.setattr(module, "IDLE", 0.01)
    workers, jobs = ThreadExecutor(reactor, 3, usually=1), Busy()
    workers.start()
    yield workers, jobs
    jobs.gate.set()
    reactor.turn_until(Deferred.fromCoroutine(workers.stop()))
    assert not reactor.getDelayedCalls()


def test_another_thread_comes_for_what_waits_too_long_up_to_a_bound(reactor, busy):
    workers, jobs = busy
    for _ in range(5):
        workers.run(jobs.job)
    assert jobs.are(1)
    reactor.advance(module.PATIENCE)  # the first did not wait: now those behind it are looked at
    assert len(workers._threads) == 1
    for there in (2, 3):
        reactor.advance(module.PATIENCE)
        assert jobs.are(1)
        assert len(workers._threads) == there
    reactor.advance(10 * module.PATIENCE)
    assert len(workers._threads) == 3
    assert not reactor.getDelayedCalls()


def test_one_that_has_nothing_to_do_goes_again(reactor, busy):
    workers, jobs = busy
    waiting = [workers.run(jobs.job) for _ in range(2)]
    for _ in range(2):
        reactor.advance(module.PATIENCE)
    assert jobs.are(2)
    guest = workers._threads[1]
    jobs.gate.set()
    for one in waiting:
        reactor.turn_until(one)
    guest.join(30)
    assert len(workers._threads) == 1
    assert result(reactor, workers.run(divmod, 7, 2)) == (3, 1)


def test_nobody_comes_where_nothing_waits(reactor, busy):
    workers, _ = busy
    for _ in range(3):
        assert result(reactor, workers.run(divmod, 7, 2)) == (3, 1)
        reactor.advance(module.PATIENCE)
    assert len(workers._threads) == 1
    assert not reactor.getDelayedCalls()


def test_where_no_thread_is_to_be_had_it_is_asked_for_again_and_a_stop_ends(
    reactor, busy, monkeypatch
):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    workers, jobs = busy
    for _ in range(2):
        workers.run(jobs.job)
    assert jobs.are(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(5):
            reactor.advance(module.PATIENCE)
        assert len(workers._threads) == 1
    reactor.advance(module.PATIENCE)
    assert jobs.are(1)
    assert len(workers._threads) == 2
