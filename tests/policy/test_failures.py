"""What an attack on the policies has found: each was a fault once."""

from __future__ import annotations

import gc

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import TimeoutError  # noqa: A004
from twisted.internet.task import Clock

from postoffice.model.errors import TemporaryFailure
from postoffice.policy.dnsbl import FAILED, Zone, ZoneLookup
from postoffice.policy.greylist import GreylistPolicy
from postoffice.policy.greylist_db import GreylistTimes, Triplets
from postoffice.testing import ManualExecutor, finish


class Silent:
    """A resolver that answers when the test says so."""

    def __init__(self):
        self.asked = []

    def lookupAddress(self, name, timeout):
        self.asked.append(Deferred())
        return self.asked[-1]

    def give_up(self):
        for one in self.asked:
            if not one.called:
                one.errback(TimeoutError())


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def resolver():
    return Silent()


@pytest.fixture
def lists(resolver, clock):
    return ZoneLookup([Zone("list.example")], resolver, clock.seconds)


def test_no_answer_about_a_client_that_has_gone_is_no_fault_of_ours(lists, resolver):
    lists.begin("8.8.4.4")
    resolver.give_up()
    gc.collect()  # a failure that nobody took would be logged now


def test_all_who_wait_for_a_list_that_fails_are_told_so(lists, resolver):
    waiting = [Deferred.fromCoroutine(lists.listed("8.8.4.4")) for _ in range(3)]
    resolver.give_up()
    assert len(resolver.asked) == 1
    for one in waiting:
        one.addErrback(lambda failure: failure.check(TemporaryFailure))
        assert one.result is TemporaryFailure


def test_a_list_that_is_dead_is_waited_for_once_in_a_while(lists, resolver, clock):
    lists.begin("8.8.4.4")
    resolver.give_up()
    for _ in range(10):
        with pytest.raises(TemporaryFailure, match=r"list\.example: TimeoutError"):
            finish(lists.listed("8.8.4.4"))
    clock.advance(FAILED)
    lists.begin("8.8.4.4")
    assert len(resolver.asked) == 2


def test_who_goes_while_a_list_is_silent_is_no_failure_of_the_list(lists):
    going = Deferred.fromCoroutine(lists.listed("8.8.4.4"))
    going.addErrback(lambda failure: failure.check(CancelledError))
    going.cancel()
    assert going.result is CancelledError


def test_a_locked_greylist_holds_one_thread_and_not_all(tmp_path, envelope, recipient):
    executor = ManualExecutor()
    triplets = Triplets(str(tmp_path / "greylist.db"), GreylistTimes(300, 7200, 86400, 2))
    policy = GreylistPolicy(triplets, executor, Clock(), lambda: 1_000_000.0)
    starting = Deferred.fromCoroutine(policy.start())
    executor.work_on()
    assert starting.called
    asked = [
        Deferred.fromCoroutine(policy.recipient(envelope(f"8.8.{n}.4"), recipient()))
        for n in range(5)
    ]
    assert len(executor.waiting) == 1
    for gone in asked[:2]:  # one that is asked about, and one that waits
        gone.addErrback(lambda _: None)
        gone.cancel()
    assert len(executor.waiting) == 1
    executor.work_on()
    assert [one.result.code for one in asked[2:]] == [451] * 3
    stopping = Deferred.fromCoroutine(policy.stop())
    executor.work_on()
    assert stopping.called
