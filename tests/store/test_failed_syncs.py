"""A sync that has failed: what it may have lost is applied again, though later syncs succeed."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from postoffice.model.errors import TemporaryFailure
from postoffice.store import drafts
from postoffice.store.journal import segments
from postoffice.store.journal.records import BLOCK
from postoffice.store.journal.segments import CheckpointFile
from tests.store.journaled import (
    ANN,
    JOE,
    Served,
    calling_first,
    die,
    in_segments,
    is_segment,
    mark_of,
    messages,
    name_is_lost,
    path_of,
    raising,
    state_of,
    text_is_empty,
    there,
)

pytestmark = pytest.mark.usefixtures("machine")


@pytest.fixture
def one(root):
    one = Served(root)
    yield one
    one.stop()


def lose(root, *people) -> None:
    """What was written to maildrops, and not synced, is gone; the next sync succeeds."""
    synced = {path.stat().st_ino for path in root.glob(".journal/large/*")}
    for person in people or (JOE, ANN):
        for path in messages(root, person):
            (name_is_lost if path.stat().st_ino in synced else text_is_empty)(path)


def is_in(folder):
    return lambda fd: path_of(fd).endswith(folder)


def checkpointed(root) -> bool:
    return state_of(root).checkpointed == state_of(root).generation


# -- syncfs ------------------------------------------------------------------------------


@pytest.mark.parametrize("people", [(JOE,), (ANN,), (JOE, ANN)])
@pytest.mark.parametrize("token", ["meanwhile", "large-meanwhile"])
def test_what_came_during_a_sync_that_failed_is_applied_again(
    root, one, monkeypatch, people, token
):
    one.post("before", JOE, ANN)
    with monkeypatch.context() as patch:

        def fail(fd):
            one.post(token, *people)
            lose(root)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        calling_first(patch, segments, "sync_all", fail)
        one.checkpoint()
    one.post("after")
    one.checkpoint()
    one.checkpoint()
    assert checkpointed(root)
    both = ["before", token]
    assert there(root) == ["after", *(both if JOE in people else both[:1])]
    assert there(root, ANN) == (both if ANN in people else both[:1])


def test_a_doubt_ends_where_it_began(root, one, monkeypatch):
    """What came behind the sync that failed is believed, and is not applied twice."""
    one.post("before")
    with monkeypatch.context() as patch:
        calling_first(patch, segments, "sync_all", raising(errno.EIO))
        one.checkpoint()
    one.post("after")
    [after] = [path for path in messages(root) if b"after" in path.read_bytes()]
    inode = after.stat().st_ino
    one.checkpoint()
    assert checkpointed(root)
    assert after.stat().st_ino == inode


def test_what_another_process_heard_of_a_sync_counts_for_all(root, one, child, monkeypatch):
    """It has heard of the error, and is gone: our descriptor may be told nothing any more."""

    def fail_to_sync(parent):
        other = Served(root)
        parent.say("here")
        parent.hear()

        def fail(fd):
            parent.say("syncing")
            parent.hear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        calling_first(pytest.MonkeyPatch(), segments, "sync_all", fail)
        other.post("its-own")
        other.journal.checkpoint(now=True)
        die()

    other = child(fail_to_sync)
    assert other.hear() == "here"
    other.say("go on")
    assert other.hear() == "syncing"
    one.post("meanwhile")
    lose(root)
    other.say("go on")
    assert other.wait() == -signal.SIGKILL
    for _ in range(5):
        one.checkpoint()
    assert checkpointed(root)
    assert there(root) == ["its-own", "meanwhile"]


# -- other syncs -------------------------------------------------------------------------


def failing_sync(what):
    return {
        "the journal": ("fdatasync", lambda fd: is_segment(fd)),
        "a large text": ("fsync", lambda fd: "/large/" in path_of(fd)),
        "the folder of large texts": ("fsync", is_in("/.journal/large")),
    }[what]


SYNCS = ["the journal", "a large text", "the folder of large texts"]


@pytest.mark.parametrize("what", SYNCS)
def test_a_sync_that_failed_may_have_lost_what_was_applied_before(root, one, monkeypatch, what):
    """The device has dropped its cache, and says so once: to whoever syncs."""
    one.post("before", JOE, ANN)
    call, wanted = failing_sync(what)
    with monkeypatch.context() as patch:
        calling_first(patch, os, call, raising(errno.EIO, wanted))
        with pytest.raises(TemporaryFailure):
            one.post("large")
    lose(root)
    one.post("after")
    one.checkpoint()
    assert checkpointed(root)
    assert there(root) == ["after", "before"]
    assert there(root, ANN) == ["before"]


@pytest.mark.parametrize("what", SYNCS)
def test_also_where_others_are_just_syncing(root, one, monkeypatch, what):
    one.post("before")
    call, wanted = failing_sync(what)
    with monkeypatch.context() as patch:

        def fail_beside(fd):
            one.post("meanwhile")
            with monkeypatch.context() as inner:
                calling_first(inner, os, call, raising(errno.EIO, wanted))
                with pytest.raises(TemporaryFailure):
                    one.post("large")
            lose(root)

        calling_first(patch, segments, "sync_all", fail_beside)
        one.checkpoint()
    one.checkpoint()
    assert checkpointed(root)
    assert there(root) == ["before", "meanwhile"]


def test_a_recovery_that_could_not_sync_a_file_doubts_what_came_meanwhile(root, one, monkeypatch):
    one.post("before")
    with monkeypatch.context() as patch:

        def fail(fd):
            one.post("meanwhile")
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        calling_first(patch, segments, "sync_all", fail)
        calling_first(patch, os, "fsync", raising(errno.EIO, lambda fd: "/joe/tmp/" in path_of(fd)))
        one.checkpoint()
        lose(root)
    one.checkpoint()
    assert checkpointed(root)
    assert one.listed() == ["before", "meanwhile"]  # a login puts what was set aside in its place
    assert there(root) == ["before", "meanwhile"]


# -- what a start finds in memory, and the disk does not have ------------------------------


def test_a_start_believes_no_mark_that_may_be_in_memory_only(root, monkeypatch):
    one = Served(root)
    one.post("before")
    one.stop()
    synced = []
    calling_first(monkeypatch, os, "fdatasync", lambda fd: synced.append(path_of(fd)))
    again = Served(root)
    assert synced[0].endswith("/.journal/mark")
    again.stop()


@pytest.mark.parametrize("last", [0, 1, 2, 3])
@pytest.mark.parametrize("lost", ["no slot", "the last one", "what is affirmed"])
def test_a_mark_that_is_affirmed_is_on_the_disk(root, last, lost):
    os.makedirs(root / "folder")
    mark = CheckpointFile(f"{root}/folder/mark", b"key")
    for checkpointed in range(1, last + 1):
        mark.write(checkpointed, checkpointed - 1)
    before = (root / "folder" / "mark").read_bytes()
    mark.affirm()
    after = bytearray((root / "folder" / "mark").read_bytes())
    assert after[: 2 * BLOCK] == before[: 2 * BLOCK]
    if lost == "the last one":
        at = BLOCK * (last % 2)
        after[at : at + BLOCK] = bytes(BLOCK)
    if lost == "what is affirmed":
        after[2 * BLOCK :] = b"\xff" * BLOCK
    (root / "folder" / "mark").write_bytes(after)
    assert mark.read() == last
    for checkpointed in range(last + 1, last + 4):
        mark.write(checkpointed, checkpointed - 1)
        assert mark.read() == checkpointed
    mark.affirm()
    assert mark.read() == last + 3
    mark.close()


def test_a_segment_whose_name_was_not_synced_is_not_used(root, one, monkeypatch):
    """Neither now nor, where the process was killed before it was, later."""
    with monkeypatch.context() as patch:
        calling_first(patch, os, "fsync", raising(errno.EIO, is_in("/.journal")))
        for _ in range(2):
            with pytest.raises(TemporaryFailure):
                one.post("bad")
        assert not any(any(octets) for octets in in_segments(root))
    one.post("good")
    assert there(root) == ["good"]


def test_the_name_of_a_segment_that_another_made_is_synced_before_it_is_used(
    root, child, monkeypatch
):
    def killed_before_that(parent):
        one = Served(root)
        calling_first(
            pytest.MonkeyPatch(),
            os,
            "fsync",
            lambda fd: list(root.glob(".journal/seg.?")) and die(),
        )
        one.post("bad")

    assert child(killed_before_that).wait() == -signal.SIGKILL
    one = Served(root)
    done = []
    calling_first(monkeypatch, os, "fsync", lambda fd: done.append(path_of(fd)))
    calling_first(monkeypatch, os, "fdatasync", lambda fd: done.append(path_of(fd)))
    one.post("good")
    assert done.index(f"{root}/.journal") < done.index(f"{root}/.journal/seg.0")
    assert mark_of(root) == 0
    one.stop()


# -- a large text that gets fields in front -------------------------------------------------


def test_a_text_that_did_not_reach_the_disk_is_not_copied_as_if_it_had(root, monkeypatch):
    """The copy is made from the file: what the disk could not take may be gone from there."""
    os.makedirs(root / "large")
    draft = drafts.Draft([], "name", large=str(root / "large"), folder=str(root / "large"))
    drafts.append(draft, [b"text\r\n"])
    with monkeypatch.context() as patch:
        calling_first(patch, os, "fsync", raising(errno.EIO))
        with pytest.raises(TemporaryFailure):
            drafts.prepend(draft, b"Field: x\r\n")
    assert os.listdir(root / "large") == ["name"]
    drafts.drop(draft)
    assert os.listdir(root / "large") == []
