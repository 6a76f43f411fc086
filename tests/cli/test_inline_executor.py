"""Workers of a program that does one thing at a time."""

from __future__ import annotations

import os
import signal

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool

from postoffice.cli.inline_executor import InlineExecutor


@pytest.fixture
def reactor():
    """One that no other test uses: it can be run only once."""
    reactor = SelectReactor()
    yield reactor
    for reader in reactor.removeAll():
        reader.connectionLost(None)


@pytest.fixture
def workers(reactor):
    return InlineExecutor(reactor)


def test_work_is_done_in_the_order_in_which_it_was_asked_for(workers):
    async def ask():
        first = workers.run(lambda: "first")
        return await workers.run(lambda: "second"), await first

    assert workers.finish(ask()) == ("second", "first")


def test_what_goes_wrong_is_raised(workers):
    async def ask():
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        return await workers.run(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        workers.finish(ask())


def test_what_nobody_waits_for_is_not_done(workers):
    done = []

    async def ask():
        workers.run(done.append, "before")
        await workers.run(done.append, "wanted")
        workers.run(done.append, "behind")

    workers.finish(ask())
    assert done == ["before", "wanted"]


def test_what_was_cancelled_is_not_done(workers):
    done = []

    async def ask():
        cancelled = workers.run(done.append, "cancelled")
        cancelled.cancel()
        with pytest.raises(CancelledError):
            await cancelled
        await workers.run(done.append, "wanted")

    workers.finish(ask())
    assert done == ["wanted"]


def test_what_waits_for_nothing_else_needs_no_reactor(workers, reactor):
    async def ask():
        return await workers.run(lambda: "done")

    assert workers.finish(ask()) == "done"
    assert not reactor._startedBefore


def later(reactor):
    return deferLater(reactor, 0.001, lambda: None)


def on_its_threads(reactor):
    return deferToThreadPool(reactor, reactor.getThreadPool(), lambda: None)


def when_it_runs(reactor):
    started: Deferred[None] = Deferred()
    reactor.callWhenRunning(started.callback, None)
    return started


@pytest.mark.parametrize("something", [later, on_its_threads, when_it_runs])
def test_where_something_else_must_happen_first_the_reactor_runs(something, workers, reactor):
    async def ask():
        first = await workers.run(lambda: "first")
        await something(reactor)
        second = await workers.run(lambda: "second")
        await something(reactor)
        return first, second

    assert workers.finish(ask()) == ("first", "second")
    assert not reactor.running


def test_who_waits_for_ever_can_be_interrupted(workers, reactor):
    reactor.callLater(0, os.kill, os.getpid(), signal.SIGTERM)  # its handlers are there by then

    async def ask():
        await Deferred()

    with pytest.raises(KeyboardInterrupt):
        workers.finish(ask())
