"""Workers of a program that does one thing at a time."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from postoffice.office.solo import SoloWorkers


@pytest.fixture
def workers():
    return SoloWorkers(reactor)


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


def test_where_something_else_must_happen_first_the_reactor_turns(workers):
    async def ask():
        later: Deferred[None] = deferLater(reactor, 0.001, lambda: None)
        await later
        return await workers.run(lambda: "then")

    assert workers.finish(ask()) == "then"
