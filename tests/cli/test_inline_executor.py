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
def executor(reactor):
    return InlineExecutor(reactor)


def test_work_is_done_in_the_order_in_which_it_was_asked_for(executor):
    async def ask():
        first = executor.run(lambda: "first")
        return await executor.run(lambda: "second"), await first

    assert executor.finish(ask()) == ("second", "first")


def test_what_goes_wrong_is_raised(executor):
    async def ask():
        with pytest.raises(ZeroDivisionError):
            await executor.run(lambda: 1 // 0)
        return await executor.run(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        executor.finish(ask())


def test_what_nobody_waits_for_is_not_done(executor):
    done = []

    async def ask():
        executor.run(done.append, "before")
        await executor.run(done.append, "wanted")
        executor.run(done.append, "behind")

    executor.finish(ask())
    assert done == ["before", "wanted"]


def test_what_was_cancelled_is_not_done(executor):
    done = []

    async def ask():
        cancelled = executor.run(done.append, "cancelled")
        cancelled.cancel()
        with pytest.raises(CancelledError):
            await cancelled
        await executor.run(done.append, "wanted")

    executor.finish(ask())
    assert done == ["wanted"]


def test_what_waits_for_nothing_else_needs_no_reactor(executor, reactor):
    async def ask():
        return await executor.run(lambda: "done")

    assert executor.finish(ask()) == "done"
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
def test_where_something_else_must_happen_first_the_reactor_runs(something, executor, reactor):
    async def ask():
        first = await executor.run(lambda: "first")
        await something(reactor)
        second = await executor.run(lambda: "second")
        await something(reactor)
        return first, second

    assert executor.finish(ask()) == ("first", "second")
    assert not reactor.running


def test_endless_waiting_can_be_interrupted(executor, reactor):
    reactor.callLater(0, os.kill, os.getpid(), signal.SIGTERM)  # its handlers are there by then

    async def ask():
        await Deferred()

    with pytest.raises(KeyboardInterrupt):
        executor.finish(ask())
