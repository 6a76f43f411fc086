"""
The store's journal: each rule that makes it right, in the order of docs/reliability.rst.

Rules 1 to 5, and 11: what is promised, and kept.  test_journal_retired.py has the others.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections import Counter

import pytest
from tests.store.journaled import (
    ANN,
    JOE,
    LOSSES,
    Served,
    begun,
    calling_first,
    cut_power,
    die,
    dying_before,
    envelope,
    folder_of,
    in_segments,
    is_free,
    is_segment,
    litter,
    messages,
    opened,
    path_of,
    posted_and_killed,
    raising,
    state_of,
    text_of,
    there,
    token_in,
)
from twisted.internet.defer import CancelledError, Deferred

from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import (
    MaildropChanging,
    MaildropFullNow,
    NoSpace,
    NotAllRemoved,
    TemporaryFailure,
)
from postoffice.store import batcher, cleanup, expunge, files, mailbox
from postoffice.store import delivery as delivery_module
from postoffice.store.journal.records import BLOCK
from postoffice.store.pace import Pace
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish

pytestmark = pytest.mark.usefixtures("machine")


# -- the whole story, broken off at each step ---------------------------------------------------


def story(root):
    """What a client does, told as it goes."""

    def tell(child):
        served = Served(root)

        def done(word, *args, act, **named):
            child.say(f"{word}ing {' '.join(args)}")
            act(*args, **named)
            child.say(f"{word}ed {' '.join(args)}")

        dying_before(tell.step)
        done("post", "one", JOE, ANN, act=served.post)
        done("post", "large-1", JOE, ANN, act=served.post)
        done("post", "two", JOE, act=served.post)
        done("remov", "one", "large-1", act=served.remove)
        done("post", "three", JOE, act=served.post)
        done("remov", "two", act=served.remove)
        child.say("done")

    return tell


def heard(child):
    """What it said before it was killed."""
    words = []
    while word := child.hear():
        words.append(word)
    return words


def hold_what_was_promised(words, root):
    """What was acknowledged is so; what was not is so, or is not, for all at once."""
    posted = {tuple(line.split()[1:]) for line in words if line.startswith("posted")}
    posting = {tuple(line.split()[1:]) for line in words if line.startswith("posting")}
    removed = {one for line in words if line.startswith("removed") for one in line.split()[1:]}
    removing = {one for line in words if line.startswith("removing") for one in line.split()[1:]}
    found = {person: Counter(there(root, person)) for person in (JOE, ANN)}
    assert all(count == 1 for counter in found.values() for count in counter.values())
    for token, *people in posted:
        for person in people:
            if person != JOE or token not in removing:
                assert token in found[person]
    for token, *people in posting - posted:
        assert len({token in found[person] for person in people}) == 1
    assert not removed & set(found[JOE])
    assert len({token in found[JOE] for token in removing - removed}) < 2
    assert set(found[JOE]) | set(found[ANN]) <= {token for token, *_ in posting}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_was_acknowledged_is_kept_wherever_it_is_cut(root, child, loss):
    tell = story(root)
    for step in range(1 + LOSSES.index(loss), 200, len(LOSSES)):
        tell.step = step
        one = child(tell)
        words = heard(one)
        if words[-1:] == ["done"]:
            one.wait()
            assert step > 30
            break
        assert one.wait() == -signal.SIGKILL
        cut_power(root, loss)
        served = Served(root)
        hold_what_was_promised(words, root)
        assert served.listed() == there(root)
        served.stop()
        assert litter(root) == []
        for path in messages(root) + messages(root, ANN):
            path.unlink()
    else:
        raise AssertionError("the story has no end")


# -- rule 11: replay takes texts from the journal only -------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_rule_11_a_replay_believes_no_file_in_a_maildrop(root, child, served, loss):
    posted_and_killed(root, child, ("one", JOE), ("two", JOE, ANN), ("large", JOE, ANN))
    with opened(messages(root)) as before:
        cut_power(root, loss)
        served()
        assert there(root) == ["large", "one", "two"]
        assert there(root, ANN) == ["large", "two"]
        after = {path.stat().st_ino: token_in(path.read_bytes()) for path in messages(root)}
        assert {token for number, token in after.items() if number in before} <= {"large"}
    [two, other] = (p for p in messages(root) + messages(root, ANN) if b"two" in p.read_bytes())
    assert two.samefile(other), "one file has as many names as before"


@pytest.mark.parametrize("loss", LOSSES)
def test_a_replay_keeps_what_a_name_says_of_clients_without_utf8(root, child, served, loss):
    posted_and_killed(root, child, ("ü", JOE), ("large-ü", JOE))
    names = [path.name for path in messages(root)]
    cut_power(root, loss)
    served()
    assert [path.name for path in messages(root)] == names
    assert all(",H=" in name for name in names)
    assert there(root) == ["large-ü", "ü"]


def test_rule_11_another_text_of_the_same_size_is_not_taken_for_it(root, child, served):
    posted_and_killed(root, child, ("one", JOE))
    [path] = messages(root)
    path.write_bytes(path.read_bytes().replace(b"x", b"y"))
    served()
    assert there(root) == ["one"]


def test_rule_11_a_message_that_was_read_keeps_its_flags(root, child, served):
    posted_and_killed(root, child, ("one", JOE))
    [path] = messages(root)
    seen = folder_of(root) / "cur" / f"{path.name}:2,S"
    path.rename(seen)
    seen.write_bytes(b"")
    served()
    assert there(root) == ["one"]
    assert messages(root) == [seen]


def test_rule_11_a_large_text_that_is_lost_is_told_and_stops_nothing(root, child, served, logged):
    posted_and_killed(root, child, ("large", JOE), ("one", JOE))
    for path in [*messages(root), *root.glob(".journal/large/*")]:
        path.unlink()
    served()
    assert there(root) == ["one"]
    [line] = [line for line in logged if "is lost" in line]
    assert "example.net/joe" in line
    assert "/.journal/large/" in line


@pytest.mark.parametrize("token", ["one", "large"])
def test_a_message_that_is_just_replayed_is_no_leftover(root, child, served, monkeypatch, token):
    posted_and_killed(root, child, (token, JOE, ANN))
    rename, swept = os.rename, []

    def sweep_first(source, *more, **named):
        if len(swept) < 2:
            swept.append(cleanup.sweep(source.rpartition("/tmp/")[0], 0.0))
        rename(source, *more, **named)

    monkeypatch.setattr(os, "rename", sweep_first)
    served()
    assert sum(swept) > 0
    assert there(root) == there(root, ANN) == [token]


def test_a_maildrop_that_is_gone_is_made_again(root, child, served):
    posted_and_killed(root, child, ("one", JOE), ("two", JOE, ANN))
    os.rename(root / "example.net", root / "gone")
    served()
    assert there(root) == ["one", "two"]
    assert there(root, ANN) == ["two"]


@pytest.mark.parametrize("token", ["two", "large"])
def test_a_maildrop_that_cannot_be_written_to_keeps_nobody_waiting(
    root, child, served, logged, token
):
    posted_and_killed(root, child, ("one", ANN), (token, JOE, ANN), ("three", ANN))
    for path in messages(root, ANN) + messages(root):
        path.unlink()
    for box in ("tmp", "new", "cur"):
        (folder_of(root) / box).rmdir()
        (folder_of(root) / box).write_bytes(b"in the way")
    served()
    assert there(root, ANN) == sorted(["one", token, "three"])
    waiting = root.glob(".journal/set-aside/example.net/joe/place/*")
    assert [token_in(p.read_bytes()) for p in waiting] == [token]
    assert any("example.net/joe" in line and "set-aside" in line for line in logged)


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


def test_rule_1_names_go_when_the_removal_is_durable_and_under_a_marked_lock(
    root, served, monkeypatch
):
    one = served()
    one.post("one")
    one.post("two")
    seen = []
    lock = folder_of(root) / files.LOCK

    def look(fd):
        if is_segment(fd):
            seen.append((there(root), is_free(lock), lock.stat().st_size > 0))

    calling_first(monkeypatch, os, "fdatasync", look)
    one.remove("one")
    assert seen == [(["one", "two"], False, True)]
    assert there(root) == ["two"]
    assert is_free(lock)
    assert lock.stat().st_size == 0


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_rule_1_what_is_not_durably_removed_stays(root, served, monkeypatch, call):
    one = served()
    one.post("one")
    with monkeypatch.context() as patch:
        calling_first(patch, os, call, raising(errno.EIO, is_segment))
        with pytest.raises(TemporaryFailure):
            one.remove("one")
    assert one.listed() == ["one"]
    one.remove("one")
    assert one.listed() == []


@pytest.mark.parametrize("checkpointed", [False, True])
def test_rule_1_what_was_removed_does_not_come_back_where_its_name_does(
    root, child, served, checkpointed, tmp_path
):
    def remove(parent):
        one = Served(root)
        one.post("one")
        one.post("two")
        if checkpointed:
            one.checkpoint()
        for path in messages(root):
            os.link(path, tmp_path / path.name)
        one.remove("one")
        die()

    assert child(remove).wait() == -signal.SIGKILL
    for path in tmp_path.glob("*,S=*"):
        if not (folder_of(root) / "new" / path.name).exists():
            os.link(path, folder_of(root) / "new" / path.name)
    assert there(root) == ["one", "two"], "the names went, and the disk did not hear of it"
    one = served()
    assert there(root) == one.listed() == ["two"]


@pytest.fixture
def small_portions(monkeypatch):
    """More than a few do not fit into one promise."""
    monkeypatch.setattr(expunge, "TOGETHER", 3)


@pytest.mark.parametrize("at_once", [0, 100])
@pytest.mark.parametrize("undelete", [0.0, 86400.0])
def test_more_than_fit_together_go_in_portions(
    root, served, small_portions, monkeypatch, at_once, undelete
):
    monkeypatch.setattr(expunge, "AT_ONCE", at_once)
    one = served(undelete=undelete)
    tokens = [f"t{number}" for number in range(8)]
    for token in (*tokens, "stays"):
        one.post(token)
    one.remove(*tokens)
    assert there(root) == one.listed() == ["stays"]
    kept = (root / "example.net" / ".vault" / "joe").glob("*/*")
    assert sorted(token_in(path.read_bytes()) for path in kept) == (tokens if undelete else [])
    assert len(list((root / "example.net").glob(".vault/joe/*"))) == bool(undelete)
    one.checkpoint()
    assert state_of(root).pending() == []


def test_portions_that_went_before_a_crash_do_not_come_back(root, child, served, small_portions):
    tokens = [f"t{number}" for number in range(8)]

    def remove(parent):
        one = Served(root)
        for token in tokens:
            one.post(token)
        left = [2]

        def die_behind(fd):
            left[0] -= is_segment(fd)
            if not left[0]:
                die()

        calling_first(pytest.MonkeyPatch(), os, "fdatasync", die_behind)
        one.remove(*tokens)

    assert child(remove).wait() == -signal.SIGKILL
    one = served()
    assert there(root) == one.listed() == tokens[6:], "what was written outlives a kill"


def test_it_is_told_how_many_went_where_the_rest_did_not(root, served, small_portions, monkeypatch):
    one = served()
    tokens = [f"t{number}" for number in range(8)]
    for token in tokens:
        one.post(token)
    left = [2]

    def fails(fd):
        left[0] -= is_segment(fd)
        return not left[0]

    calling_first(monkeypatch, os, "fdatasync", raising(errno.EIO, fails))
    with pytest.raises(NotAllRemoved) as raised:
        one.remove(*tokens)
    assert raised.value.removed == 3
    assert there(root) == one.listed() == tokens[3:]


def removing_one_and_killed(root, child, started):
    """Somebody promised to remove "one" and was killed before its name went."""

    def remove(parent):
        served = Served(root)
        started(parent, served)
        calling_first(pytest.MonkeyPatch(), os, "unlink", die_at_its_name)
        served.remove("one")

    def die_at_its_name(path, **named):
        if "/new/" in path:
            die()

    return child(remove)


def test_rule_1_who_finds_the_mark_on_a_free_lock_replays_first(root, child, served):
    one = served()
    one.post("one")
    one.post("two")
    assert removing_one_and_killed(root, child, lambda *_: None).wait() == -signal.SIGKILL
    assert there(root) == ["one", "two"]
    assert one.listed() == ["two"]
    assert there(root) == ["two"]
    assert (folder_of(root) / files.LOCK).stat().st_size == 0


def post_and_wait(parent, served):
    served.post("one")
    served.post("two")
    parent.say("posted")
    parent.hear()


def test_rule_1_also_who_came_later_than_what_it_replays(root, child, served):
    elder = removing_one_and_killed(root, child, post_and_wait)
    assert elder.hear() == "posted"
    one = served()
    elder.say("go on")
    assert elder.wait() == -signal.SIGKILL
    assert there(root) == ["one", "two"]
    assert one.listed() == ["two"]


def test_rule_1_a_mark_without_a_removal_is_taken_off(root, child, served):
    def mark(parent):
        served = Served(root)
        served.post("one")
        calling_first(pytest.MonkeyPatch(), os, "pwrite", is_segment_and_die)
        served.remove("one")

    def is_segment_and_die(fd, *_):
        if is_segment(fd):
            die()

    one = served()
    assert child(mark).wait() == -signal.SIGKILL
    assert (folder_of(root) / files.LOCK).stat().st_size > 0
    assert one.listed() == ["one"]
    assert (folder_of(root) / files.LOCK).stat().st_size == 0


def test_rule_1_a_login_waits_while_names_go(root, served, monkeypatch):
    monkeypatch.setattr(expunge, "AT_ONCE", 0)
    monkeypatch.setattr(Pace, "quick", False)
    served().post("one")
    executor = ManualExecutor()
    one = served(executor=executor)
    first, second = one.store.maildrop(JOE), one.store.maildrop(JOE)
    listing = begun(first.open(), executor)
    removal = Deferred.fromCoroutine(first.remove(list(listing.result.entries)))
    executor.work()
    assert removal.called, "QUIT is answered as soon as it is promised"
    first.release()
    assert there(root) == ["one"]
    login = begun(second.open(), executor, rounds=0)
    [keeping, opening] = executor.waiting
    executor.waiting = [opening]
    executor.work()
    for _ in range(3):
        one.clock.advance(mailbox.TICK)
        executor.work()
        assert not login.called
    executor.waiting = [keeping]
    executor.work()
    one.clock.advance(mailbox.TICK)
    executor.work_on()
    assert list(login.result.entries) == there(root) == []
    second.release()
    executor.run = ImmediateExecutor().run


def test_rule_1_a_login_does_not_wait_for_ever(root, served):
    one = served()
    one.post("one")
    lock = files.lock(str(folder_of(root)))
    files.set_changing(lock, True)
    login = Deferred.fromCoroutine(one.store.maildrop(JOE).open())
    login.addErrback(lambda failure: failure.value)
    while not login.called:
        one.clock.advance(1.0)
    assert isinstance(login.result, MaildropChanging)
    assert mailbox.PATIENCE < one.clock.seconds() < mailbox.PATIENCE + 3
    os.close(lock)


# -- rule 2: what can fail comes first -----------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    ("token", "call"),
    [("one", "open"), ("one", "write"), ("large", "open"), ("large", "write"), ("large", "fsync")],
)
def test_rule_2_what_cannot_be_written_is_not_promised(
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


def test_rule_2_what_was_not_promised_is_not_taken_back(root, served, monkeypatch):
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


def test_rule_4_no_block_with_something_acknowledged_is_written_again_before_it_is_retired(
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
    assert len(set(sequence)) < len(sequence), "what is retired is used again"
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
