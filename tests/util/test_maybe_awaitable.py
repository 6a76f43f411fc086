"""Answers that are known at once, and those that must be waited for."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from postoffice.util.maybe_awaitable import at_once, later, then, waits


async def after(deferred):
    try:
        return await deferred + 1
    except CancelledError:
        return "cancelled"


async def known():
    return 1


async def fails():
    raise ZeroDivisionError


def outcome(answer):
    """What a Deferred that runs this answer has got."""
    got = []
    Deferred.fromCoroutine(later(answer)).addBoth(got.append)
    return got


def test_a_value_and_a_coroutine_that_need_not_wait_are_known():
    assert at_once(1) == 1
    assert at_once(known()) == 1
    assert not waits(at_once(known()))
    with pytest.raises(ZeroDivisionError):
        at_once(fails())


def test_a_coroutine_that_waits_goes_on_where_it_stopped():
    deferred = Deferred()
    started = at_once(after(deferred))
    assert waits(started)
    got = outcome(started)
    assert not got
    deferred.callback(1)
    assert got == [2]


def test_a_coroutine_that_waits_can_be_cancelled():
    running = Deferred.fromCoroutine(later(at_once(after(Deferred()))))
    got = []
    running.addBoth(got.append)
    running.cancel()
    assert got == ["cancelled"]


def test_what_is_done_with_an_answer_waits_for_it_only_where_it_must():
    assert then(known(), lambda answer: answer + 1) == 2
    assert then(1, lambda answer: answer + 1) == 2
    first, second = Deferred(), Deferred()
    got = outcome(then(first, lambda answer: after(second)))
    first.callback(None)
    assert not got
    second.callback(3)
    assert got == [4]
