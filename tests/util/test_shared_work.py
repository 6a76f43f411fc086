"""Work that is done once for all who ask for it at the same time."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed

from postoffice.testing import finish
from postoffice.util.shared_work import SharedWork


@pytest.fixture
def begun():
    """The works that were begun."""
    return []


@pytest.fixture
def get(begun):
    shared = SharedWork()

    def begin():
        begun.append(Deferred())
        return begun[-1].addErrback(lambda why: why.type)

    def get(key):
        return Deferred.fromCoroutine(shared.get(key, begin))

    get.shared = shared
    return get


def test_those_who_ask_meanwhile_get_the_same(get, begun):
    first, second, other = get("a"), get("a"), get("b")
    assert len(begun) == len(get.shared) == 2
    begun[0].callback("done")
    assert (first.result, second.result) == ("done", "done")
    assert not other.called
    assert "a" not in get.shared
    assert "b" in get.shared


def test_a_later_request_begins_the_work_again(get, begun):
    get("a")
    begun[0].callback(1)
    again = get("a")
    begun[1].callback(2)
    assert again.result == 2


def test_a_cancelled_wait_leaves_the_work_to_the_others(get, begun):
    first, second = get("a"), get("a")
    first.addErrback(lambda why: why.type)
    first.cancel()
    assert first.result is CancelledError
    begun[0].callback("done")
    assert second.result == "done"


def test_all_work_is_cancelled(get):
    waiting = [get("a"), get("b")]
    get.shared.cancel()
    assert [one.result for one in waiting] == [CancelledError, CancelledError]
    assert not len(get.shared)


def test_work_that_is_done_at_once_is_not_under_way():
    shared = SharedWork()
    assert finish(shared.get("a", lambda: succeed(1))) == 1
    assert not len(shared)
