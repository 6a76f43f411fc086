"""The store's journal, rules 1 to 5: what is committed, and when."""

from __future__ import annotations

import errno
import os
import re
import signal

import pytest
from twisted.internet.defer import CancelledError, Deferred

from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import (
    MaildropFullNow,
    NoSpace,
    TemporaryFailure,
)
from postoffice.store import batcher
from postoffice.store import delivery as delivery_module
from postoffice.store.journal.records import BLOCK
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish
from tests.store.journaled import (
    ANN,
    JOE,
    Served,
    begun,
    calling_first,
    die,
    envelope,
    in_segments,
    is_free,
    is_segment,
    litter,
    messages,
    path_of,
    raising,
    state_of,
    text_of,
    there,
)

pytestmark = pytest.mark.usefixtures("machine")


# -- rule 1: the answer --------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["one", "large"])
def test_rule_1_it_is_taken_when_it_is_durable_and_every_maildrop_shows_it(
    root, served, monkeypatch, token
):
    one = served()
    one.post("before", JOE, ANN)
    syncs = []

    def syncing(fd):
        if is_segment(fd):
            syncs.append(there(root) + there(root, ANN))

    calling_first(monkeypatch, os, "fdatasync", syncing)
    one.post(token, JOE, ANN)
    assert syncs == [["before"] * 2]
    assert there(root) == there(root, ANN) == sorted(["before", token])


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
@pytest.mark.parametrize("token", ["one", "large"])
def test_rule_1_what_is_not_durable_is_neither_taken_nor_to_be_seen(
    root, served, monkeypatch, call, token
):
    one = served()
    one.post("before", JOE, ANN)
    with monkeypatch.context() as patch:
        calling_first(patch, os, call, raising(errno.EIO, is_segment))
        with pytest.raises(TemporaryFailure):
            one.post(token, JOE, ANN)
        assert there(root) == there(root, ANN) == ["before"]
    one.post("after", JOE, ANN)
    assert there(root) == there(root, ANN) == ["after", "before"]
    one.stop()
    assert litter(root) == []
    assert there(root) == ["after", "before"]


# -- rule 2: what can fail comes first -----------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    ("token", "call"),
    [("one", "open"), ("one", "write"), ("large", "open"), ("large", "write"), ("large", "fsync")],
)
def test_rule_2_what_cannot_be_written_is_not_committed(
    root, served, monkeypatch, call, token, error
):
    one = served()
    one.post("before", JOE, ANN)
    before = in_segments(root)

    def is_text(path, *_, **named):
        place = path if isinstance(path, str) else path_of(path)
        return re.search(r"/joe/tmp/|/\.journal/large", place)

    with monkeypatch.context() as patch:
        calling_first(patch, os, call, raising(error, is_text))
        with pytest.raises(TemporaryFailure) as raised:
            one.post(token, JOE, ANN)
    assert isinstance(raised.value, NoSpace) is (error != errno.EIO)
    assert in_segments(root) == before
    assert litter(root) == []
    one.post(token, JOE, ANN)
    assert there(root) == there(root, ANN) == sorted(["before", token])


@pytest.mark.parametrize("call", ["link", "rename"])
@pytest.mark.parametrize("token", ["one", "large"])
def test_rule_2_what_cannot_be_put_in_its_place_is_in_none_and_does_not_come_later(
    root, child, served, call, token
):
    people = (JOE, ANN) if call == "link" else (ANN,)
    if token == "large":
        call = "link"

    def post(parent):
        one = Served(root)
        with pytest.MonkeyPatch().context() as patch:
            calling_first(patch, os, call, raising(errno.EIO, is_new_in_anns))
            with pytest.raises(TemporaryFailure):
                one.post(token, *people)
        assert there(root) == there(root, ANN) == []
        one.post("after", JOE, ANN)
        die()

    assert child(post).wait() == -signal.SIGKILL
    again = served()
    assert there(root) == there(root, ANN) == ["after"]
    again.checkpoint()
    assert litter(root) == []


def is_new_in_anns(_, target, *, dst_dir_fd=None, **named):
    return dst_dir_fd is not None and path_of(dst_dir_fd).endswith("/ann")


@pytest.mark.parametrize("token", ["one", "large"])
def test_rule_2_where_each_stands_for_himself_only_one_misses_it(root, child, served, token):
    def post(parent):
        one = Served(root)
        delivery = one.begun(token, JOE, ANN)
        with pytest.MonkeyPatch().context() as patch:
            calling_first(patch, os, "link", raising(errno.EIO, is_new_in_anns))
            joes, anns = finish(delivery.commit_each())
        assert joes is None
        assert isinstance(anns, TemporaryFailure)
        die()

    assert child(post).wait() == -signal.SIGKILL
    served()
    assert there(root) == [token]
    assert there(root, ANN) == []


def test_rule_2_what_was_not_committed_is_not_taken_back(root, served, monkeypatch):
    one = served()
    appended = []
    calling_first(monkeypatch, one.journal, "append", lambda make: appended.append(make))
    limited = Account(ANN, ANN, quota=Quota(octets=1))
    to = [*envelope(JOE).recipients, Recipient(Address.parse(ANN), limited)]
    delivery = finish(one.store.begin(Envelope("id", Client(), recipients=to)))
    finish(delivery.write(text_of("one")))
    joes, anns = finish(delivery.commit_each())
    assert joes is None
    assert isinstance(anns, MaildropFullNow)
    assert len(appended) == 1


def test_rule_2_who_gave_up_before_it_was_in_its_place_gets_it_never(root, child, served):
    def post(parent):
        one = Served(root)
        executor = ManualExecutor()
        one.store._batcher._small.committer._executor = executor
        committing = Deferred.fromCoroutine(one.begun("one", JOE, ANN).commit())
        committing.addErrback(lambda failure: failure.trap(CancelledError))
        patch = pytest.MonkeyPatch()
        calling_first(patch, os, "fdatasync", lambda fd: committing.cancel())
        executor.work_on()
        assert there(root) == []
        die()

    assert child(post).wait() == -signal.SIGKILL
    served()
    assert there(root) == there(root, ANN) == []


# -- rule 3: one order ---------------------------------------------------------------------------


def test_rule_3_nobody_appends_while_another_syncs(root, child, served):
    def post(parent):
        one = Served(root)

        def wait(fd):
            if is_segment(fd):
                parent.say("syncing")
                parent.hear()

        calling_first(pytest.MonkeyPatch(), os, "fdatasync", wait)
        one.post("one")
        parent.say("posted")
        parent.hear()

    other = child(post)
    assert other.hear() == "syncing"
    assert not is_free(root / ".journal" / "append")
    state = state_of(root)
    assert (state.tail, state.counts[0]) == (0, 0), "the tail moves when it is durable"
    other.say("go on")
    assert other.hear() == "posted"
    assert is_free(root / ".journal" / "append")
    assert state_of(root).counts[0] == 1
    one = served()
    one.post("two")
    other.kill()
    assert one.listed() == ["one", "two"]


def test_rule_3_several_processes_lose_nothing_and_damage_nothing(root, child, served, logged):
    def post(parent):
        one = Served(root)
        for number in range(20):
            one.post(f"{parent.hear()}-{number}", JOE, ANN)
        parent.say("posted")
        parent.hear()
        die()

    children = [child(post) for _ in range(3)]
    for number, one in enumerate(children):
        for _ in range(20):
            one.say(f"{number}")
    assert [one.hear() for one in children] == ["posted"] * 3
    for one in children:
        one.say("die")
        assert one.wait() == -signal.SIGKILL
    for path in messages(root):
        path.unlink()
    served()
    wanted = sorted(f"{one}-{number}" for one in range(3) for number in range(20))
    assert there(root) == there(root, ANN) == wanted
    assert not [line for line in logged if "damaged" in line]


def test_rule_3_what_one_left_half_written_is_written_over(root, child, served, logged):
    def post(parent):
        one = Served(root)
        one.post("one")
        parent.say("posted")
        parent.hear()
        one.post("two")
        die()

    def post_half(parent):
        delivery_module.BUFFER = 1 << 20
        real = os.pwrite

        def write_half(fd, octets, offset):
            if is_segment(fd):
                real(fd, octets[: len(octets) // 2], offset)
                die()
            return real(fd, octets, offset)

        one = Served(root)
        pytest.MonkeyPatch().setattr(os, "pwrite", write_half)
        one.post("large", JOE)

    elder = child(post)
    assert elder.hear() == "posted"
    assert child(post_half).wait() == -signal.SIGKILL
    elder.say("go on")
    assert elder.wait() == -signal.SIGKILL
    served()
    assert there(root) == ["one", "two"]
    assert not [line for line in logged if "damaged" in line]


# -- rule 4: what was acknowledged is not written over -------------------------------------------


def test_rule_4_no_block_with_something_acknowledged_is_written_again_before_its_checkpoint(
    root, served, monkeypatch
):
    one = served()
    acknowledged = {}  # by segment: which generation, and where it ends
    sequence = []

    def watch(fd, octets, offset):
        if is_segment(fd):
            generation, end = acknowledged.get(path_of(fd), (0, 0))
            assert state_of(root).checkpointed >= generation or offset >= end
            assert offset % BLOCK == 0
            sequence.append((path_of(fd), offset))

    def post(token):
        one.post(token)
        state = state_of(root)
        path = f"{root}/.journal/seg.{state.current}"
        acknowledged[path] = (state.generation, state.tail)

    calling_first(monkeypatch, os, "pwrite", watch)
    for number in range(40):
        if number % 9 == 4:
            with monkeypatch.context() as patch:
                calling_first(patch, os, "fdatasync", raising(errno.EIO, is_segment))
                with pytest.raises(TemporaryFailure):
                    one.post("bad")
        post(f"{number}")
        if number == 25:
            one.checkpoint()
    assert len({path for path, _ in sequence}) > 3
    assert len(set(sequence)) < len(sequence), "what is checkpointed is used again"
    assert len(one.listed()) == 40


# -- rule 5: after an error ----------------------------------------------------------------------


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_rule_5_after_an_error_nothing_is_appended_to_that_generation(
    root, child, served, logged, call
):
    def post(parent):
        one = Served(root)
        one.post("one")
        before = state_of(root)
        with pytest.MonkeyPatch().context() as patch:
            calling_first(patch, os, call, raising(errno.EIO, is_segment))
            with pytest.raises(TemporaryFailure):
                one.post("bad", JOE, ANN)
        assert state_of(root).current == -1
        segment = in_segments(root)[0]
        one.post("two")
        assert in_segments(root)[0] == segment
        after = state_of(root)
        assert after.generation == before.generation + 1
        assert after.tail == BLOCK
        die()

    assert child(post).wait() == -signal.SIGKILL
    served()
    mail = there(root)
    assert set(mail) - {"bad"} == {"one", "two"}
    assert there(root, ANN) == (["bad"] if "bad" in mail else []), "or nobody gets it"


def test_rule_5_all_who_wait_for_the_same_sync_hear_of_its_error(root, served, monkeypatch):
    monkeypatch.setattr(batcher, "BATCHES", 1)
    executor = ManualExecutor()
    one = served()
    two = served(executor=executor)
    outcomes = []
    for number, delivery in enumerate(
        [begun(two.store.begin(envelope(JOE, ANN)), executor).result for _ in range(4)]
    ):
        finish(delivery.write(text_of(f"{number}")))
        outcomes.append(Deferred.fromCoroutine(delivery.commit()))
        outcomes[-1].addErrback(lambda failure: failure.value)
    executor.work()
    assert outcomes[0].called
    with monkeypatch.context() as patch:
        calling_first(patch, os, "fdatasync", raising(errno.EIO, is_segment))
        executor.work()
    assert [type(outcome.result) for outcome in outcomes[1:]] == [TemporaryFailure] * 3
    assert there(root) == there(root, ANN) == one.listed() == ["0"]
    executor.run = ImmediateExecutor().run
