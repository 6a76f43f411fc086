"""What an attack on the policies has found: each was a fault once."""

from __future__ import annotations

import gc

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from postoffice.model.dns_answer import DNSUnavailable
from postoffice.policy.dnsbl import Zone, ZoneLookup
from postoffice.policy.greylist import GreylistPolicy
from postoffice.policy.greylist_db import GreylistTimes, Triplets
from postoffice.testing import ManualExecutor


@pytest.fixture
def answer():
    """What the resolver waits for."""
    return Deferred()


@pytest.fixture
def lists(answer):
    async def ask(name, kind):
        return await answer

    return ZoneLookup([Zone("list.example")], ask)


def test_no_answer_about_a_client_that_has_gone_is_no_fault_of_ours(lists, answer):
    lists.begin("8.8.4.4")
    answer.errback(DNSUnavailable("timed out"))
    gc.collect()  # a failure that nobody took would be logged now


def test_a_client_that_leaves_while_a_list_is_silent_is_no_failure_of_the_list(lists):
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
