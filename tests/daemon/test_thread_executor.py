"""Blocking functions on threads."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from postoffice.daemon import thread_executor as module
from postoffice.daemon.thread_executor import ThreadExecutor


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
def executor(reactor):
    executor = ThreadExecutor(reactor, 3)
    executor.start()
    yield executor
    reactor.turn_until(Deferred.fromCoroutine(executor.stop()))
    assert not any(thread.is_alive() for thread in executor._threads)


def result(reactor, deferred):
    outcome = []
    deferred.addBoth(outcome.append)
    reactor.turn_until(deferred)
    return outcome[0]


def test_work_is_done_on_another_thread(reactor, executor):
    assert result(reactor, executor.run(threading.get_ident)) != threading.get_ident()
    assert result(reactor, executor.run(divmod, 7, 2)) == (3, 1)


def test_they_are_busy_until_all_results_have_come_back(reactor, executor):
    assert not executor.busy
    results = [executor.run(divmod, 7, 2), executor.run(divmod, 1, 0)]
    results[1].addErrback(lambda failure: failure.trap(ZeroDivisionError))
    assert executor.busy
    for one in results:
        reactor.turn_until(one)
    assert not executor.busy


def test_what_is_raised_comes_back(reactor, executor):
    failure = result(reactor, executor.run(divmod, 1, 0))
    assert isinstance(failure.value, ZeroDivisionError)


def test_several_work_at_once(reactor, executor):
    meeting = threading.Barrier(3, timeout=30)
    waiting = [executor.run(meeting.wait) for _ in range(3)]
    assert {result(reactor, deferred) for deferred in waiting} == {0, 1, 2}


def test_results_that_are_ready_together_come_in_one_turn(reactor, executor):
    done = threading.Semaphore(0)
    waiting = [executor.run(done.release) for _ in range(100)]
    for _ in waiting:
        assert done.acquire(timeout=30)
    for deferred in waiting:
        result(reactor, deferred)
    assert reactor.woken < 100


def test_a_cancelled_wait_ends_and_the_work_goes_on(reactor, executor):
    gate, ended = threading.Event(), threading.Event()

    def work():
        gate.wait(30)
        ended.set()

    waiting = executor.run(work)
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    waiting.cancel()
    gate.set()
    assert ended.wait(30)
    assert result(reactor, executor.run(int)) == 0


def test_stopping_waits_for_what_was_asked(reactor):
    executor = ThreadExecutor(reactor, 2)
    executor.start()
    gate = threading.Event()
    waiting = [executor.run(gate.wait, 30) for _ in range(5)]
    stopping = Deferred.fromCoroutine(executor.stop())
    assert not stopping.called
    gate.set()
    reactor.turn_until(stopping)
    assert all(deferred.called for deferred in waiting)


def test_a_call_after_the_stop_fails(reactor):
    executor = ThreadExecutor(reactor, 1)
    executor.start()
    reactor.turn_until(Deferred.fromCoroutine(executor.stop()))
    assert isinstance(result(reactor, executor.run(int)).value, RuntimeError)


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
    executor, jobs = ThreadExecutor(reactor, 3, usually=1), Busy()
    executor.start()
    yield executor, jobs
    jobs.gate.set()
    reactor.turn_until(Deferred.fromCoroutine(executor.stop()))
    assert not reactor.getDelayedCalls()


def test_another_thread_comes_for_what_waits_too_long_up_to_a_bound(reactor, busy):
    executor, jobs = busy
    for _ in range(5):
        executor.run(jobs.job)
    assert jobs.are(1)
    reactor.advance(module.PATIENCE)  # the first did not wait: now those behind it are looked at
    assert len(executor._threads) == 1
    for there in (2, 3):
        reactor.advance(module.PATIENCE)
        assert jobs.are(1)
        assert len(executor._threads) == there
    reactor.advance(10 * module.PATIENCE)
    assert len(executor._threads) == 3
    assert not reactor.getDelayedCalls()


def test_one_that_has_nothing_to_do_goes_again(reactor, busy):
    executor, jobs = busy
    waiting = [executor.run(jobs.job) for _ in range(2)]
    for _ in range(2):
        reactor.advance(module.PATIENCE)
    assert jobs.are(2)
    guest = executor._threads[1]
    jobs.gate.set()
    for one in waiting:
        reactor.turn_until(one)
    guest.join(30)
    assert len(executor._threads) == 1
    assert result(reactor, executor.run(divmod, 7, 2)) == (3, 1)


def test_nobody_comes_where_nothing_waits(reactor, busy):
    executor, _ = busy
    for _ in range(3):
        assert result(reactor, executor.run(divmod, 7, 2)) == (3, 1)
        reactor.advance(module.PATIENCE)
    assert len(executor._threads) == 1
    assert not reactor.getDelayedCalls()


def test_where_no_thread_is_to_be_had_it_is_asked_for_again_and_a_stop_ends(
    reactor, busy, monkeypatch
):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    executor, jobs = busy
    for _ in range(2):
        executor.run(jobs.job)
    assert jobs.are(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(5):
            reactor.advance(module.PATIENCE)
        assert len(executor._threads) == 1
    reactor.advance(module.PATIENCE)
    assert jobs.are(1)
    assert len(executor._threads) == 2
