"""The store's journal, rules 6 to 8: when what it holds is let go."""

from __future__ import annotations

import errno
import os
import shutil
import signal

import pytest
from twisted.internet.defer import Deferred

from postoffice.model.errors import NoSpace, TemporaryFailure
from postoffice.store.journal import checkpoints, journal, segments
from postoffice.store.maildir_store import CHECKPOINT_INTERVAL
from tests.store.journaled import (
    ANN,
    JOE,
    Served,
    calling_first,
    cut_power,
    die,
    in_segments,
    is_segment,
    litter,
    mark_of,
    messages,
    opened,
    path_of,
    pending,
    posted_and_killed,
    raising,
    state_of,
    text_is_empty,
    there,
    waiting_to_apply,
)

pytestmark = pytest.mark.usefixtures("machine")


# -- rule 6: checkpointed in order ----------------------------------------------------------------


def test_rule_6_all_is_applied_then_synced_then_marked_then_let_go(root, served, monkeypatch):
    one = served()
    one.post("one", JOE, ANN)
    one.post("large", JOE, ANN)
    story = []

    def synced(fd):
        assert there(root) == there(root, ANN) == ["large", "one"]
        story.append("file system")

    def written(fd, octets, offset):
        if path_of(fd).endswith("/mark"):
            story.append("mark")

    def durable(fd):
        story.append(f"sync {os.path.basename(path_of(fd))}")

    def gone(path, **_):
        if "/large/" in path:
            assert mark_of(root) == 1
            story.append("large")

    calling_first(monkeypatch, segments, "sync_all", synced)
    calling_first(monkeypatch, os, "pwrite", written)
    calling_first(monkeypatch, os, "fdatasync", durable)
    calling_first(monkeypatch, os, "unlink", gone)
    assert (mark_of(root), pending(root)) == (0, [1])
    one.checkpoint()
    assert story == ["file system", "mark", "sync mark", "large"]
    assert (mark_of(root), pending(root)) == (1, [])
    assert litter(root) == []


def test_rule_6_the_descriptor_is_older_than_all_that_it_is_to_tell_of(root, served, monkeypatch):
    syncing = []
    calling_first(monkeypatch, segments, "sync_all", syncing.append)
    one = served()
    descriptor = one.journal._files.sync_fd
    for token in ("one", "two"):
        one.post(token)
        one.checkpoint()
    assert syncing == [descriptor] * 2


def test_rule_6_nothing_is_checkpointed_before_it_is_in_its_place(
    root, child, served, monkeypatch, logged
):
    one = served()
    slow = waiting_to_apply(root, child)
    monkeypatch.setattr(checkpoints, "PATIENCE", 0.0)
    one.checkpoint()
    assert (mark_of(root), there(root)) == (0, [])
    assert any("checkpoint timed out" in line for line in logged)
    slow.say("go on")
    assert slow.hear() == "posted"
    one.checkpoint()
    assert there(root) == ["slow"]
    assert pending(root) == []


def test_rule_6_a_segment_is_used_again_when_the_mark_says_so(root, served, monkeypatch):
    one = served()
    held = {}  # by segment: the last generation that was in it

    def watch(fd, octets, offset):
        if is_segment(fd):
            if offset == 0:
                assert held.get(path_of(fd), 0) <= mark_of(root)
            held[path_of(fd)] = state_of(root).generation

    calling_first(monkeypatch, os, "pwrite", watch)
    for number in range(60):
        one.post(f"{number}")
        if number % 7 == 3:
            one.checkpoint()
    assert mark_of(root) > len(held), "they were used again"


# -- rule 7: after a sync of the file system that failed -----------------------------------------


class Synced:
    """What was synced, one by one."""

    def __init__(self, patch) -> None:
        self.paths: set[str] = set()
        self.inodes: set[int] = set()
        calling_first(patch, os, "fsync", self.note)

    def note(self, fd) -> None:
        self.paths.add(path_of(fd))
        self.inodes.add(os.fstat(fd).st_ino)


def is_applied_again(root, synced, before, *people) -> None:
    """All of it is in files that were not there before, and durable."""
    for person in people:
        for path in messages(root, person):
            assert path.stat().st_ino in synced.inodes
            assert path.stat().st_ino not in before
            assert str(path.parent) in synced.paths
    assert pending(root) == []


@pytest.mark.parametrize("token", ["one", "large"])
def test_rule_7_after_a_sync_that_failed_all_is_applied_again_and_synced(
    root, served, monkeypatch, logged, token
):
    one = served()
    one.post(token, JOE, ANN)
    one.post("two")
    failing = [True]

    def fail(fd):
        if failing:
            failing.clear()
            raise OSError(errno.EIO, "the disk is ill")

    calling_first(monkeypatch, segments, "sync_all", fail)
    synced = Synced(monkeypatch)
    with opened(messages(root) + messages(root, ANN)) as before:
        one.checkpoint()
        is_applied_again(root, synced, before, JOE, ANN)
    assert (there(root), there(root, ANN)) == ([token, "two"], [token])
    assert any("recovering all" in line for line in logged)


@pytest.mark.parametrize("who", ["ours", "another's"])
def test_rule_7_after_a_sync_that_never_ended_all_is_applied_again_and_synced(
    root, child, served, monkeypatch, who
):
    def checkpoint(parent):
        elder = Served(root)
        elder.post("one", JOE, ANN)
        parent.say("posted")
        parent.hear()
        segments.sync_all = lambda fd: die()
        elder.checkpoint()

    elder = child(checkpoint)
    assert elder.hear() == "posted"
    one = served()
    elder.say("go on")
    assert elder.wait() == -signal.SIGKILL
    assert state_of(root).syncing
    synced = Synced(monkeypatch)
    with opened(messages(root) + messages(root, ANN)) as before:
        if who == "ours":
            one.journal.checkpoint(now=True)
        else:
            for _ in range(5):
                one.checkpoint()
        is_applied_again(root, synced, before, JOE, ANN)
    assert not state_of(root).syncing
    assert there(root) == there(root, ANN) == ["one"]


def test_rule_7_the_same_failure_again_keeps_everything(root, child, served):
    """Also where nothing can be applied again: it waits, and is there after the next start."""

    def post(parent):
        one = Served(root)
        one.post("one")
        with pytest.MonkeyPatch().context() as patch:
            patch.setattr(segments, "sync_all", raising(errno.EIO))
            patch.setattr(os, "fsync", raising(errno.EIO))
            one.checkpoint()
        assert (mark_of(root), pending(root)) == (0, [1])
        die()

    assert child(post).wait() == -signal.SIGKILL
    for path in messages(root):
        path.write_bytes(b"")
    again = served()
    assert there(root) == ["one"]
    again.checkpoint()
    assert pending(root) == []


# -- rule 8: nothing stays for long --------------------------------------------------------------


def test_rule_8_every_two_seconds_all_that_came_is_checkpointed(root, served):
    one = served()
    assert CHECKPOINT_INTERVAL == 2.0
    for number in range(1, 4):
        one.post(f"{number}")
        assert len(pending(root)) == 1
        one.clock.advance(CHECKPOINT_INTERVAL)
        assert pending(root) == []
        assert mark_of(root) == state_of(root).generation


def test_rule_8_where_segments_are_full_who_delivers_checkpoints_them(root, served, monkeypatch):
    monkeypatch.setattr(journal, "SEGMENTS", 2)
    one = served()
    for number in range(40):
        one.post(f"{number}")
    assert mark_of(root) > 0
    assert len(in_segments(root)) == 2
    assert len(one.listed()) == 40


def test_rule_8_where_that_does_not_help_they_come_later(root, child, served, monkeypatch):
    monkeypatch.setattr(journal, "SEGMENTS", 1)
    one = served()
    slow = waiting_to_apply(root, child)
    taken = []

    def post_on():
        while len(taken) < 16:
            one.post(f"{len(taken)}")
            taken.append(True)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "PATIENCE", 0.0)
        with pytest.raises(TemporaryFailure):
            post_on()
    slow.say("go on")
    assert slow.hear() == "posted"
    one.post("last")
    assert len(one.listed()) == len(taken) + 2


def test_rule_8_a_clean_stop_leaves_nothing(root, child, served):
    def post(parent):
        one = Served(root)
        one.post("large", JOE, ANN)
        one.remove("large")
        parent.say("posted")
        parent.hear()
        one.stop()

    other = child(post)
    assert other.hear() == "posted"
    one = served()
    one.post("one", JOE, ANN)
    one.stop()
    assert pending(root), "who is not the last leaves that to the others"
    other.say("stop")
    assert other.wait() == 0
    assert pending(root) == []
    assert mark_of(root) == state_of(root).generation
    assert litter(root) == []
    assert (there(root), there(root, ANN)) == (["one"], ["large", "one"])


# -- recovery ------------------------------------------------------------------------------------


def test_a_full_journal_waits_for_its_writers(root, served, monkeypatch):
    monkeypatch.setattr(journal, "PATIENCE", 0.3)
    one = served()
    while len(pending(root)) < segments.SEGMENTS:
        one.post("x")
    other = served()
    inodes = {path.stat().st_ino for path in messages(root)}

    def fill():
        while True:
            other.post("y")

    with pytest.raises(TemporaryFailure, match="the journal is full"):
        fill()
    assert inodes <= {path.stat().st_ino for path in messages(root)}, "nothing is applied again"
    one.checkpoint()
    other.post("y")


def test_what_a_start_recovers_is_checkpointed_in_its_first_round(root, child, served, monkeypatch):
    posted_and_killed(root, child, ("one", JOE), ("large", JOE, ANN))
    synced = []
    monkeypatch.setattr(segments, "sync_all", synced.append)
    one = served()
    assert one.listed() == ["large", "one"], "the door is open, and nothing is synced yet"
    assert (mark_of(root), pending(root), synced) == (0, [1], [])
    assert len(litter(root)) == 1, "a recovery may need the large text once more"
    one.checkpoint()
    assert (mark_of(root), pending(root)) == (state_of(root).generation, [])
    assert synced == [one.journal._files.sync_fd]
    assert litter(root) == []


def test_what_a_start_recovered_is_recovered_again_behind_a_cut_before_that(root, child, served):
    posted_and_killed(root, child, ("one", JOE), ("large", JOE, ANN))

    def start(parent):
        Served(root)
        die()

    for _ in range(2):
        assert child(start).wait() == -signal.SIGKILL
        cut_power(root, text_is_empty)
    served().checkpoint()
    assert there(root) == ["large", "one"]
    assert there(root, ANN) == ["large"]
    assert litter(root) == []


def test_a_first_round_that_fails_applies_all_again(root, child, served, monkeypatch):
    posted_and_killed(root, child, ("one", JOE))
    one = served()
    [before] = [path.stat().st_ino for path in messages(root)]
    calling_first(monkeypatch, segments, "sync_all", raising(errno.EIO))
    one.checkpoint()
    [after] = [path.stat().st_ino for path in messages(root)]
    assert after != before
    assert pending(root) == []


def test_a_start_with_files_leaves_nothing_in_the_journal(root, child, served):
    posted_and_killed(root, child, ("one", JOE), ("large", JOE, ANN))
    served(durability="files")
    assert there(root) == ["large", "one"]
    assert pending(root) == []
    assert litter(root) == []


def test_mail_that_has_no_room_waits_and_the_rest_goes_on(root, child, served, monkeypatch, logged):
    posted_and_killed(root, child, ("one", JOE), ("two", JOE), ("three", ANN))
    for path in messages(root):
        path.unlink()
    full = [True]

    def no_room(path, *_, **named):
        if full and isinstance(path, str) and "/tmp/" in path.removeprefix(str(root)):
            raise OSError(errno.ENOSPC, "no space")

    calling_first(monkeypatch, os, "open", no_room)
    one = served()
    assert [line for line in logged if "no space" in line]
    assert one.listed() == []
    with pytest.raises(NoSpace):
        one.post("four")
    one.checkpoint()
    assert mark_of(root) == 0
    full.clear()
    one.checkpoint()
    assert one.listed() == ["one", "two"]
    assert one.listed(ANN) == ["three"]
    one.post("four")
    assert one.listed() == ["four", "one", "two"]


def test_what_was_removed_waits_for_room_in_the_vault(root, child, served, monkeypatch):
    def remove(parent):
        one = Served(root, undelete=86400.0)
        one.post("one")
        one.checkpoint()
        with pytest.MonkeyPatch().context() as patch:
            patch.setattr(os, "rename", lambda *_, **named: die())
            one.remove("one")

    assert child(remove).wait() == -signal.SIGKILL
    shutil.rmtree(root / "example.net" / ".vault")  # which nobody has synced
    full = [True]

    def no_room(path, *_, **named):
        if full and "/.vault" in path:
            raise OSError(errno.ENOSPC, "no space")

    calling_first(monkeypatch, os, "mkdir", no_room)
    one = served(undelete=86400.0)
    with pytest.raises(NoSpace):
        one.post("two")
    full.clear()
    one.checkpoint()
    one.post("two")
    assert one.listed() == ["two"]
    assert len(list((root / "example.net" / ".vault" / "joe").glob("*/*"))) == 1


def test_deliveries_that_wait_for_the_store_to_stop_are_in_their_places(root, served):
    one = served()
    outcomes = []
    for token in ("one", "two"):
        outcomes.append(Deferred.fromCoroutine(one.begun(token, JOE).commit()))
    one.stop()
    assert all(outcome.called for outcome in outcomes)
    assert there(root) == ["one", "two"]
