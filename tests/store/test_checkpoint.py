"""
The store's journal: rules 6 to 14 of those that make it right, and replay.

What is in its place and has reached the disk is retired; what is not is
replayed.  test_journal.py has the other rules.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from tests.store.journaled import (
    ANN,
    JOE,
    Served,
    calling_first,
    cut_power,
    die,
    dying_before,
    folder_of,
    in_segments,
    is_free,
    is_segment,
    litter,
    mark_of,
    messages,
    opened,
    path_of,
    posted_and_killed,
    raising,
    state_of,
    text_is_empty,
    text_of,
    there,
)
from twisted.internet.defer import Deferred

from postoffice.interfaces import PurgeCriteria
from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import NoSpace, StartupError, TemporaryFailure
from postoffice.store import cleanup, expunge, files, maildir, names
from postoffice.store.journal import journal, segments
from postoffice.store.maildir_store import CHECKPOINT_INTERVAL
from postoffice.testing import finish

pytestmark = pytest.mark.usefixtures("machine")


def pending(root) -> list[int]:
    """The generations that are not retired."""
    state = state_of(root)
    return [state.generations[number] for number in state.pending()]


def before_placing(act) -> None:
    """It happens in this process when a message is to be put in its place."""

    def into_new(_, target, **named):
        if target.startswith("new/"):
            act()

    calling_first(pytest.MonkeyPatch(), os, "rename", into_new)


def waiting_to_place(root, child):
    """Somebody who has promised "slow" to Joe, and has not put it in its place yet."""

    def post(parent):
        one = Served(root)

        def wait():
            parent.say("promised")
            parent.hear()

        before_placing(wait)
        one.post("slow")
        parent.say("posted")
        parent.hear()

    slow = child(post)
    assert slow.hear() == "promised"
    return slow


# -- rule 6: retired in order --------------------------------------------------------------------


def test_rule_6_first_all_is_placed_then_synced_then_the_mark_is_then_all_is_let_go(
    root, served, monkeypatch
):
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
    descriptor = one.journal._sync_fd
    for token in ("one", "two"):
        one.post(token)
        one.checkpoint()
    assert syncing == [descriptor] * 2


def test_rule_6_nothing_is_retired_before_it_is_in_its_place(
    root, child, served, monkeypatch, logged
):
    one = served()
    slow = waiting_to_place(root, child)
    monkeypatch.setattr(journal, "PATIENCE", 0.0)
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


def is_placed_anew(root, synced, before, *people) -> None:
    """All of it is in files that were not there before, and durable."""
    for person in people:
        for path in messages(root, person):
            assert path.stat().st_ino in synced.inodes
            assert path.stat().st_ino not in before
            assert str(path.parent) in synced.paths
    assert pending(root) == []


@pytest.mark.parametrize("token", ["one", "large"])
def test_rule_7_after_a_sync_that_failed_all_is_placed_anew_and_synced(
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
        is_placed_anew(root, synced, before, JOE, ANN)
    assert (there(root), there(root, ANN)) == ([token, "two"], [token])
    assert any("recovering all" in line for line in logged)


@pytest.mark.parametrize("who", ["ours", "another's"])
def test_rule_7_after_a_sync_that_never_ended_all_is_placed_anew_and_synced(
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
        is_placed_anew(root, synced, before, JOE, ANN)
    assert not state_of(root).syncing
    assert there(root) == there(root, ANN) == ["one"]


def test_rule_7_the_same_failure_again_keeps_everything(root, child, served):
    """Also where nothing can be placed anew: it waits, and is there after the next start."""

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


def test_rule_8_every_two_seconds_all_that_came_is_retired(root, served):
    one = served()
    assert CHECKPOINT_INTERVAL == 2.0
    for number in range(1, 4):
        one.post(f"{number}")
        assert len(pending(root)) == 1
        one.clock.advance(CHECKPOINT_INTERVAL)
        assert pending(root) == []
        assert mark_of(root) == state_of(root).generation


def test_rule_8_where_segments_are_full_who_delivers_retires_them(root, served, monkeypatch):
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
    slow = waiting_to_place(root, child)
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


# -- rule 9: names, and removals -----------------------------------------------------------------


def test_rule_9_no_two_processes_ever_make_the_same_name(child):
    def make(parent):
        for _ in range(50):
            parent.say(names.new_name("h"))
        parent.hear()

    children = [child(make) for _ in range(3)]
    made = [one.hear() for one in children for _ in range(50)]
    made += [names.new_name("h") for _ in range(50)]
    assert len(set(made)) == len({names.uidl_of_file(one) for one in made}) == 200


def quit_session(one):
    one.remove("one", "two")


def purge(one):
    assert finish(one.store.purge(JOE, PurgeCriteria(larger_than=0), False))[0] == 2


def make_room(one):
    quota = Quota(octets=0, messages=1, over="make-room")
    to = [Recipient(Address.parse(JOE), Account(JOE, JOE, quota=quota))]
    delivery = finish(one.store.begin(Envelope("id", Client(), recipients=to)))
    finish(delivery.write(text_of("three")))
    finish(delivery.commit())


def tokens_of(root) -> list[str]:
    """What is to be seen of our texts: there may be a letter to the owner, too."""
    subjects = [path.read_bytes().partition(b"\r\n")[0].decode() for path in messages(root)]
    return [one.removeprefix("Subject: ") for one in subjects if one.startswith("Subject: ")]


def test_a_pile_that_fits_into_no_segment_is_purged_all_the_same(root, served, monkeypatch):
    one = served()
    for number in range(7):
        one.post(f"{number}")
    monkeypatch.setattr(expunge, "AT_A_TIME", 3)
    appended = []
    calling_first(monkeypatch, one.journal, "append", lambda make: appended.append(make()))
    assert finish(one.store.purge(JOE, PurgeCriteria(larger_than=0), False))[0] == 7
    assert [len(removal.names[0][1]) for [removal] in appended] == [3, 3, 1]
    assert there(root) == []


@pytest.mark.parametrize("undelete", [0.0, 86400.0])
@pytest.mark.parametrize("remove", [quit_session, purge, make_room])
def test_rule_9_whoever_removes_it_does_not_come_back(
    root, child, served, tmp_path, remove, undelete
):
    def post_and_remove(parent):
        one = Served(root, undelete=undelete)
        one.post("one")
        one.post("two")
        for path in messages(root):
            os.link(path, tmp_path / path.name)
        remove(one)
        die()

    assert child(post_and_remove).wait() == -signal.SIGKILL
    for path in tmp_path.glob("*,S=*"):
        os.link(path, folder_of(root) / "new" / path.name)
    letters = {"three"} if remove is make_room else set()
    served(undelete=undelete)
    assert set(tokens_of(root)) == letters
    kept = list((root / "example.net" / ".vault" / "joe").glob("*/*"))
    assert len(kept) == (2 if undelete else 0)


# -- rule 10: what changes maildrops as a whole --------------------------------------------------


def test_rule_10_a_maildrop_that_goes_takes_what_the_journal_has_of_it(root, child, served):
    def discard(parent):
        one = Served(root)
        one.post("one", JOE, ANN)
        finish(one.store.discard(JOE, False))
        assert pending(root) == []
        one.post("two")
        die()

    assert child(discard).wait() == -signal.SIGKILL
    one = served()
    assert one.listed() == ["two"]
    assert one.listed(ANN) == ["one"]


def test_rule_10_what_was_brought_back_stays(root, child, served):
    def bring_back(parent):
        one = Served(root, undelete=86400.0)
        one.post("one")
        one.post("two")
        one.remove("one", "two")
        assert finish(one.store.undelete(JOE, "", 0.0)) == 2
        assert pending(root) == []
        one.remove("two")
        die()

    assert child(bring_back).wait() == -signal.SIGKILL
    assert served().listed() == ["one"]


def test_rule_10_deliveries_to_others_do_not_wait_until_its_files_are_gone(
    root, served, monkeypatch
):
    one = served()
    one.post("one")
    seen = []
    calling_first(
        monkeypatch,
        cleanup,
        "_empty",
        lambda _: seen.append((folder_of(root).exists(), is_free(root / ".journal" / "append"))),
    )
    assert finish(one.store.discard(JOE, False)) == ""
    assert seen == [(False, True)]


def test_rule_10_nobody_delivers_meanwhile(root, served, monkeypatch):
    one = served()
    one.post("one")
    seen = []
    calling_first(
        monkeypatch,
        os,
        "rename",
        lambda *_, **named: seen.append((is_free(root / ".journal" / "append"), pending(root))),
    )
    assert finish(one.store.discard(JOE, True))
    assert seen.count((False, [])) == len(seen) > 0


def test_rule_10_where_it_never_rests_nothing_is_done(root, child, served, monkeypatch):
    one = served()
    one.post("one")
    slow = waiting_to_place(root, child)
    monkeypatch.setattr(journal, "PATIENCE", 0.0)
    with pytest.raises(TemporaryFailure):
        finish(one.store.discard(JOE, False))
    assert there(root) == ["one"]
    slow.say("go on")
    assert slow.hear() == "posted"


@pytest.mark.parametrize("loss", ["unlink", "empty"])
def test_rule_10_another_durability_replays_first(root, child, served, loss):
    posted_and_killed(root, child, ("one", JOE, ANN), ("large", JOE))
    for path in messages(root) + messages(root, ANN):
        if loss == "unlink":
            path.unlink()
        elif b"large" not in path.read_bytes()[:20]:
            path.write_bytes(b"")
    one = served(durability="files")
    assert (there(root), there(root, ANN)) == (["large", "one"], ["one"])
    assert pending(root) == []
    one.post("two")
    assert pending(root) == []
    one.stop()
    other = served()
    other.post("three")
    assert len(pending(root)) == 1
    assert other.listed() == ["large", "one", "three", "two"]


def test_rule_10_a_second_process_with_another_durability_is_refused(root, served):
    one = served()
    one.post("one")
    with pytest.raises(StartupError, match="durability: journal"):
        Served(root, durability="files")
    one.stop()
    one = served(durability="files")
    with pytest.raises(StartupError, match="durability: files"):
        Served(root)


# -- rule 12: who lives --------------------------------------------------------------------------


def test_rule_12_who_is_not_alone_replays_nothing_of_those_who_live(root, child, served):
    slow = waiting_to_place(root, child)
    one = served()
    assert (mark_of(root), there(root)) == (0, [])
    assert [path.name for path in folder_of(root).glob("tmp/*")] != [], "nor sweeps it"
    slow.say("go on")
    assert slow.hear() == "posted"
    assert one.listed() == ["slow"]


def test_rule_12_who_is_alone_replays_before_it_serves(root, child, served, monkeypatch):
    posted_and_killed(root, child, ("one", JOE))
    seen = []

    def held(path, **_):
        seen.append(is_free(root / ".journal" / "open"))

    calling_first(monkeypatch, files, "make_folder", held)
    calling_first(monkeypatch, os, "rename", lambda source, *_, **named: held(source))
    one = served()
    assert seen
    assert not any(seen)
    assert not is_free(root / ".journal" / "open"), "and holds it as long as it lives"
    one.stop()
    assert is_free(root / ".journal" / "open")


def test_rule_12_whoever_comes_waits_for_who_replays_and_takes_over_when_he_dies(
    root, child, served
):
    posted_and_killed(root, child, ("one", JOE), ("two", JOE))

    def redo(parent):
        def wait(*_, **named):
            parent.say("replaying")
            parent.hear()

        calling_first(pytest.MonkeyPatch(), os, "rename", wait)
        Served(root)

    def come(parent):
        parent.say("coming")
        one = Served(root)
        parent.say("served" if there(root) == ["one", "two"] else "too early")
        parent.hear()
        one.checkpoint()
        parent.say("retired")

    first = child(redo)
    assert first.hear() == "replaying"
    second = child(come)
    assert second.hear() == "coming"
    first.kill()
    assert second.hear() == "served"
    second.say("go on")
    assert second.hear() == "retired"
    assert pending(root) == []


def test_rule_12_a_worker_that_was_killed_alone_is_stood_in_for(root, child, served):
    def post(parent):
        other = Served(root)
        parent.say("there")
        parent.hear()
        before_placing(die)
        other.post("one", JOE)

    other = child(post)
    assert other.hear() == "there"
    one = served()
    one.post("two")
    other.say("go on")
    assert other.wait() == -signal.SIGKILL
    assert there(root) == ["two"]
    for _ in range(5):
        one.checkpoint()
    assert there(root) == one.listed() == ["one", "two"]
    assert pending(root) == []


# -- rule 13: one file system --------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path):
    """A folder on another file system."""
    if os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is no other file system")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize("what", ["example.net", "example.net/joe"])
def test_rule_13_a_maildrop_on_another_file_system_is_told_at_the_start(
    root, served, elsewhere, what, logged
):
    (root / what).parent.mkdir(parents=True)
    (root / what).symlink_to(elsewhere)
    Served(root).stop()
    assert [line for line in logged if what in line and "mail for it is refused" in line]
    served(durability="")
    assert [line for line in logged if what in line and "durability: files is taken" in line]


def test_rule_13_one_that_comes_later_gets_no_mail(root, served, elsewhere):
    one = served()
    one.post("one", ANN)
    (folder_of(root)).symlink_to(elsewhere)
    before = in_segments(root)
    with pytest.raises(TemporaryFailure):
        one.post("two", JOE, ANN)
    assert in_segments(root) == before
    assert there(root, ANN) == ["one"]
    (folder_of(root)).unlink()
    one.post("two", JOE, ANN)
    assert there(root) == ["two"]


# -- rule 14: what is derived --------------------------------------------------------------------


def test_rule_14_counts_of_what_is_replayed_are_thrown_away(root, child, served):
    posted_and_killed(root, child, ("one", JOE), ("two", JOE), ("three", ANN))
    for person in (JOE, ANN):
        (folder_of(root, person) / "maildirsize").write_text("1000S\n7 1\n")
    (folder_of(root, "bob@example.net")).mkdir()
    bobs = folder_of(root, "bob@example.net") / "maildirsize"
    bobs.write_text("1000S\n0 0\n")
    served()
    assert not (folder_of(root) / "maildirsize").exists()
    assert not (folder_of(root, ANN) / "maildirsize").exists()
    assert bobs.exists(), "nothing of his was replayed"


def test_rule_14_a_listing_is_remembered_when_its_folders_have_settled(root, served, monkeypatch):
    one = served()
    one.post("one")
    folder, sizes = str(folder_of(root)), one.store._sizes
    changed = max((folder_of(root) / box).stat().st_mtime_ns for box in ("new", "cur"))
    assert maildir.SETTLED == 20_000_000
    monkeypatch.setattr(maildir.time, "time_ns", lambda: changed + maildir.SETTLED - 1)
    assert maildir.scan(folder, sizes).stamp is None
    monkeypatch.setattr(maildir.time, "time_ns", lambda: changed + maildir.SETTLED)
    assert maildir.scan(folder, sizes).stamp is not None


def test_rule_14_what_was_listed_before_a_replay_is_not_believed(root, child, served):
    def post(parent):
        other = Served(root)
        parent.say("there")
        parent.hear()
        before_placing(die)
        other.post("one", JOE)

    other = child(post)
    assert other.hear() == "there"
    one = served()
    one.post("two")
    for box in ("new", "cur"):
        os.utime(folder_of(root) / box, (1, 1))
    assert one.listed() == ["two"]
    other.say("go on")
    assert other.wait() == -signal.SIGKILL
    for _ in range(5):
        one.checkpoint()
    assert one.listed() == ["one", "two"]


# -- replay --------------------------------------------------------------------------------------


def test_who_finds_no_room_waits_for_those_whose_it_is(root, served, monkeypatch):
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
    assert inodes <= {path.stat().st_ino for path in messages(root)}, "nothing is placed anew"
    one.checkpoint()
    other.post("y")


def test_what_a_start_replays_is_retired_in_its_first_round(root, child, served, monkeypatch):
    posted_and_killed(root, child, ("one", JOE), ("large", JOE, ANN))
    synced = []
    monkeypatch.setattr(segments, "sync_all", synced.append)
    one = served()
    assert one.listed() == ["large", "one"], "the door is open, and nothing is synced yet"
    assert (mark_of(root), pending(root), synced) == (0, [1], [])
    assert len(litter(root)) == 1, "a replay may need the large text once more"
    one.checkpoint()
    assert (mark_of(root), pending(root)) == (state_of(root).generation, [])
    assert synced == [one.journal._sync_fd]
    assert litter(root) == []


def test_what_a_start_replayed_is_replayed_again_behind_a_cut_before_that(root, child, served):
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


def test_a_first_round_that_fails_places_all_anew(root, child, served, monkeypatch):
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


def test_a_replay_may_be_cut_anywhere_and_run_again(root, child, served):
    def fill(parent):
        one = Served(root, undelete=86400.0)
        one.post("one", JOE, ANN)
        one.post("large", JOE, ANN)
        one.post("two")
        one.remove("one", "two")
        die()

    assert child(fill).wait() == -signal.SIGKILL
    cut_power(root, text_is_empty)

    def redo(parent):
        dying_before(redo.step)
        Served(root, undelete=86400.0)

    for step in range(1, 100):
        redo.step = step
        if not child(redo).wait():
            break
    assert step > 10
    served(undelete=86400.0).checkpoint()
    assert there(root) == ["large"]
    assert there(root, ANN) == ["large", "one"]
    kept = (root / "example.net" / ".vault" / "joe").glob("*/*")
    assert sorted(path.read_bytes() for path in kept) == [text_of("one"), text_of("two")]
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


def test_what_is_damaged_is_told_and_the_rest_is_replayed(root, child, served, logged):
    posted_and_killed(root, child, ("one", JOE), ("two", JOE), ("three", JOE))
    [segment] = root.glob(".journal/seg.*")
    octets = bytearray(segment.read_bytes())
    at = octets.index(b"Subject: two")
    octets[at] ^= 1
    segment.write_bytes(bytes(octets))
    for path in messages(root):
        path.unlink()
    served()
    assert there(root) == ["one", "three"]
    assert [line for line in logged if "is damaged" in line and segment.name in line]


def test_a_start_says_what_it_had_to_do(root, child, served, logged):
    def post(parent):
        one = Served(root)
        for token in ("one", "two", "three"):
            one.post(token)
        one.remove("one")
        die()

    assert child(post).wait() == -signal.SIGKILL
    served()
    assert [line for line in logged if "recovered 3 messages and 1 removals" in line]


def test_deliveries_that_wait_for_the_store_to_stop_are_in_their_places(root, served):
    one = served()
    outcomes = []
    for token in ("one", "two"):
        outcomes.append(Deferred.fromCoroutine(one.begun(token, JOE).commit()))
    one.stop()
    assert all(outcome.called for outcome in outcomes)
    assert there(root) == ["one", "two"]


def test_beside_a_process_of_another_version_a_start_fails_and_says_so(root, served, monkeypatch):
    one = served()
    state = root / ".journal" / "state"
    ours = state.read_bytes()
    state.write_bytes(b"PostSta1" + ours[8:])
    monkeypatch.setattr(journal.time, "sleep", lambda _: None)
    with pytest.raises(StartupError, match="another version serves this store"):
        served()
    state.write_bytes(ours)
    one.post("t0")
    assert len(there(root)) == 1
