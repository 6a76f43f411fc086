"""Rules 11 and 12: what a recovery applies again, and which process does it."""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter

import pytest

from postoffice.model.errors import StartupError
from postoffice.store import cleanup, files
from postoffice.store.journal import journal
from postoffice.testing import finish
from tests.store.journaled import (
    ANN,
    JOE,
    LOSSES,
    Served,
    before_applying,
    calling_first,
    cut_power,
    die,
    dying_before,
    folder_of,
    is_free,
    litter,
    mark_of,
    messages,
    opened,
    pending,
    posted_and_killed,
    text_is_empty,
    text_of,
    there,
    token_in,
    waiting_to_apply,
)

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


def hold_what_was_committed(words, root):
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
        hold_what_was_committed(words, root)
        assert served.listed() == there(root)
        served.stop()
        assert litter(root) == []
        for path in messages(root) + messages(root, ANN):
            path.unlink()
    else:
        raise AssertionError("the story has no end")


# -- rule 11: recovery takes texts from the journal only -------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_rule_11_a_recovery_believes_no_file_in_a_maildrop(root, child, served, loss):
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
def test_a_recovery_keeps_what_a_name_says_of_clients_without_utf8(root, child, served, loss):
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
def test_a_message_that_is_just_recovered_is_no_leftover(root, child, served, monkeypatch, token):
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


@pytest.mark.parametrize("loss", ["unlink", "empty"])
def test_rule_10_another_durability_recovers_first(root, child, served, loss):
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
def test_rule_12_who_is_not_alone_recovers_nothing_of_those_who_live(root, child, served):
    slow = waiting_to_apply(root, child)
    one = served()
    assert (mark_of(root), there(root)) == (0, [])
    assert [path.name for path in folder_of(root).glob("tmp/*")] != [], "nor sweeps it"
    slow.say("go on")
    assert slow.hear() == "posted"
    assert one.listed() == ["slow"]


def test_rule_12_who_is_alone_recovers_before_it_serves(root, child, served, monkeypatch):
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


def test_rule_12_a_second_process_waits_for_the_recovery_and_takes_over_if_the_first_dies(
    root, child, served
):
    posted_and_killed(root, child, ("one", JOE), ("two", JOE))

    def redo(parent):
        def wait(*_, **named):
            parent.say("recovering")
            parent.hear()

        calling_first(pytest.MonkeyPatch(), os, "rename", wait)
        Served(root)

    def come(parent):
        parent.say("coming")
        one = Served(root)
        parent.say("served" if there(root) == ["one", "two"] else "too early")
        parent.hear()
        one.checkpoint()
        parent.say("checkpointed")

    first = child(redo)
    assert first.hear() == "recovering"
    second = child(come)
    assert second.hear() == "coming"
    first.kill()
    assert second.hear() == "served"
    second.say("go on")
    assert second.hear() == "checkpointed"
    assert pending(root) == []


def test_rule_12_a_worker_that_was_killed_alone_is_stood_in_for(root, child, served):
    def post(parent):
        other = Served(root)
        parent.say("there")
        parent.hear()
        before_applying(die)
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


def test_a_recovery_may_be_cut_anywhere_and_run_again(root, child, served):
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


def test_what_is_damaged_is_told_and_the_rest_is_recovered(root, child, served, logged):
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


@pytest.fixture
def bad_blocks(monkeypatch):
    """Blocks that the disk fails to read: (part of the path, offset)."""
    bad = []
    real = os.pread

    def pread(fd, size, offset):
        path = os.readlink(f"/proc/self/fd/{fd}")
        if any(part in path and offset <= at < offset + size for part, at in bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    return bad


def test_a_segment_that_cannot_be_read_costs_only_what_was_in_its_bad_blocks(
    root, child, served, logged, bad_blocks
):
    posted_and_killed(root, child, ("one", JOE), ("two", JOE), ("three", JOE))
    [segment] = root.glob(".journal/seg.*")
    bad_blocks.append((segment.name, segment.read_bytes().index(b"Subject: two")))
    for path in messages(root):
        path.unlink()
    one = served()
    assert there(root) == ["one", "three"]
    assert [line for line in logged if "failed to read 1 of 16 blocks" in line]
    [away] = root.glob(".journal/unreadable/*")
    assert (away / segment.name).exists()
    assert [str(away)] == [
        finding.path for finding in finish(one.store.strays()) if "failed to read" in finding.what
    ]
    for number in range(40):  # it is used no more, and all segments are made anew
        one.post(f"more-{number}")
        one.checkpoint()
    one.stop()
    served()
    assert {"one", "three", "more-39"} < set(there(root))


def test_nobody_knows_whose_a_large_text_was_in_bad_blocks_so_it_is_kept(
    root, child, served, bad_blocks
):
    posted_and_killed(root, child, ("large", JOE))
    [segment] = root.glob(".journal/seg.*")
    [text] = root.glob(".journal/large/*")
    octets = text.read_bytes()
    bad_blocks.append((segment.name, 0))
    served()
    assert [
        path.read_bytes()
        for path in root.glob(".journal/unreadable/*/*")
        if path.name[:4] != "seg."
    ] == [octets]


def test_a_segment_that_cannot_be_read_fails_a_checkpoint_and_no_delivery(
    root, served, bad_blocks, monkeypatch, logged
):
    one = served()
    one.post("one")
    [segment] = root.glob(".journal/seg.*")
    bad_blocks.append((segment.name, 0))
    one.journal.note_failed_sync()
    with pytest.raises(OSError, match="Input/output"):
        one.journal.checkpoint()
    one.post("two")
    assert there(root) == ["one", "two"]
    bad_blocks.clear()
    one.journal.checkpoint()


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
