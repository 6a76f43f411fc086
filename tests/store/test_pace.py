"""A quick disk is waited for on the reactor's thread, and a slow one is not."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from contextlib import suppress

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.model.errors import MaildropLocked, TemporaryFailure
from postoffice.store import expunge, files, maildir
from postoffice.store.pace import (
    LIMIT,
    PAUSE,
    PAUSE_MAXIMUM,
    SMALL_FOLDER,
    WEIGHT,
    Pace,
    TakesLong,
)
from postoffice.store.removal_commits import RemovalCommits
from postoffice.testing import ImmediateExecutor, ManualExecutor
from tests.store.journaled import JOE, folder_of, there


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pace(clock):
    return Pace(clock.seconds, 1)


def work(pace, clock, seconds):
    with pace.short():
        clock.advance(seconds)


STALL = 2 * WEIGHT * LIMIT


def test_one_slow_piece_of_work_is_no_slow_disk(pace, clock):
    work(pace, clock, WEIGHT * LIMIT)
    assert pace.quick
    for _ in range(WEIGHT):
        work(pace, clock, 0)
    work(pace, clock, WEIGHT * LIMIT / 2)
    assert pace.quick


def test_one_long_stall_is_enough_and_so_is_work_that_is_always_slow(pace, clock):
    work(pace, clock, STALL)
    assert not pace.quick
    another = Pace(clock.seconds, 1)
    for _ in range(WEIGHT):
        work(another, clock, 2 * LIMIT)
    assert not another.quick


def test_after_slow_work_it_is_tried_again_ever_later_up_to_a_bound(pace, clock):
    work(pace, clock, STALL)
    clock.advance(PAUSE)
    pause = 2 * PAUSE
    for _ in range(10):
        work(pace, clock, 2 * LIMIT)
        clock.advance(pause - 0.001)
        assert not pace.quick
        clock.advance(0.002)
        assert pace.quick
        pause = min(2 * pause, PAUSE_MAXIMUM)


def test_after_quick_work_it_trusts_the_disk_again(pace, clock):
    for _ in range(8):
        work(pace, clock, STALL)
        clock.advance(PAUSE_MAXIMUM)
    for _ in range(10):
        work(pace, clock, LIMIT / 2)
    work(pace, clock, STALL)
    clock.advance(PAUSE)
    assert pace.quick


def test_slow_work_that_fails_counts_too(pace, clock):
    with suppress(OSError), pace.short():
        clock.advance(1)
        raise OSError("no")
    assert not pace.quick


def test_work_breaks_off_when_its_time_is_over(pace, clock):
    with pace.short() as limit:
        limit.look()
        clock.advance(2 * LIMIT)
        with pytest.raises(TakesLong):
            limit.look()


class Slow:
    """A disk on which each look at a name takes so many seconds."""

    def __init__(self, monkeypatch, clock, seconds):
        self.looks = 0
        real = maildir.names.uidl_of_file

        def uidl_of_file(name):
            self.looks += 1
            clock.advance(seconds)
            return real(name)

        monkeypatch.setattr(maildir.names, "uidl_of_file", uidl_of_file)


@pytest.fixture
def box(served):
    """Joe's maildrop with ten messages, and workers that wait until they are told."""
    one = served()
    for number in range(10):
        one.post(f"t{number}")
    one.checkpoint()
    one.stop()
    executor = ManualExecutor()
    other = served(executor=executor)
    other.store._context.pace.get_to_know(str(folder_of(one.root)))
    yield other, executor
    executor.work_on()
    executor.run = ImmediateExecutor().run


def begun(coroutine):
    waiting = Deferred.fromCoroutine(coroutine)
    waiting.addErrback(lambda failure: failure.value)
    return waiting


def login(one):
    maildrop = one.store.maildrop(JOE)
    return maildrop, begun(maildrop.open())


def test_a_session_of_a_small_maildrop_waits_elsewhere_for_the_sync_only(box, root):
    one, executor = box
    maildrop, opening = login(one)
    entries = list(opening.result.entries)
    assert all(begun(maildrop.fetch(entry)).called for entry in entries)
    removal = begun(maildrop.remove(entries[:3]))
    [(_, function, _)] = executor.waiting
    assert isinstance(function.__self__, RemovalCommits)
    assert not removal.called
    assert len(there(root)) == 10, "nothing goes before it is committed"
    executor.work()
    assert removal.called
    assert len(there(root)) == 7
    maildrop.release()


def test_a_listing_that_takes_long_is_made_on_another_thread(box, monkeypatch):
    one, executor = box
    slow = Slow(monkeypatch, one.clock, STALL)
    _, opening = login(one)
    assert not opening.called
    assert slow.looks < 4, "it broke off"
    files.lock(str(folder_of(one.root)))  # and holds nothing meanwhile
    _, second = login(one)
    assert len(executor.waiting) == 2, "the next is not even tried here"
    executor.work()
    assert isinstance(opening.result, MaildropLocked)
    assert isinstance(second.result, MaildropLocked)


def test_a_maildrop_is_first_opened_on_another_thread(box, root):
    one, executor = box
    one.store._context.pace._near.clear()
    for elsewhere in (True, False):
        maildrop, opening = login(one)
        assert opening.called != elsewhere
        executor.work()
        assert opening.result.entries
        maildrop.release()


@pytest.fixture
def elsewhere(tmp_path):
    if os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("temporary files are in memory already")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield folder


def test_a_maildrop_on_another_file_system_never_waits_here(box, root, elsewhere):
    one, executor = box
    folder_of(root).rename(folder_of(root).with_name("moved"))
    folder_of(root).symlink_to(elsewhere)
    one.store._context.pace._near.clear()
    for _ in range(2):
        maildrop, opening = login(one)
        assert not opening.called
        executor.work()
        assert opening.called
        maildrop.release()


@pytest.mark.parametrize("where", [".vault", ".vault/joe"])
def test_nor_does_one_whose_vault_is_on_another_to_which_texts_are_copied(
    box, root, elsewhere, where
):
    one, executor = box
    path = folder_of(root).parent / where
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(elsewhere)
    one.store._context.pace._near.clear()
    for _ in range(2):
        maildrop, opening = login(one)
        assert not opening.called
        executor.work()
        assert opening.called
        maildrop.release()


@pytest.mark.parametrize("what", ["a large folder", "a file to be measured", "a removal to end"])
def test_what_may_take_long_is_not_begun_here(box, root, what):
    one, executor = box
    folder = folder_of(root)
    if what == "a large folder":
        number = 0
        while (folder / "cur").stat().st_size <= SMALL_FOLDER:
            number += 1
            (folder / "cur" / f"{number:0100d}").touch()
    elif what == "a file to be measured":
        (folder / "new" / "1.of.another").write_bytes(b"Subject: x\n\n")
    else:
        lock = files.lock(str(folder))
        files.set_changing(lock, True)
        os.close(lock)
    maildrop, opening = login(one)
    assert not opening.called
    executor.work()
    assert len(opening.result.entries) >= 10
    maildrop.release()


def test_a_large_maildrop_that_has_not_changed_is_opened_here(box, root, monkeypatch):
    one, executor = box
    number = 0
    while (folder_of(root) / "cur").stat().st_size <= SMALL_FOLDER:
        number += 1
        (folder_of(root) / "cur" / f"{number:0100d}").touch()
    for box in ("new", "cur"):
        os.utime(folder_of(root) / box, (1e9, 1e9 + 0.5))
    maildrop, opening = login(one)
    executor.work()
    maildrop.release()
    again, opening_again = login(one)
    assert len(opening_again.result.entries) == len(opening.result.entries) > 10
    again.release()


def test_texts_that_take_long_to_read_are_read_one_by_one_and_then_elsewhere(box, monkeypatch):
    one, executor = box
    maildrop, opening = login(one)
    entries = opening.result.entries
    real = maildir._read_small

    def slow(*args):
        one.clock.advance(STALL)
        return real(*args)

    monkeypatch.setattr(maildir, "_read_small", slow)
    first = begun(maildrop.fetch(entries[0]))
    assert first.called, "one was read"
    second = begun(maildrop.fetch(entries[1]))
    assert not second.called
    executor.work()
    assert second.called
    maildrop.release()


def test_names_do_not_go_here_while_somebody_counts(box, root):
    one, executor = box
    maildrop, opening = login(one)
    removal = begun(maildrop.remove(list(opening.result.entries[:3])))
    counting = os.open(folder_of(root) / "new", os.O_RDONLY)
    fcntl.flock(counting, fcntl.LOCK_EX)
    executor.work()
    assert not removal.called
    assert len(there(root)) == 10
    os.close(counting)
    executor.work()
    assert removal.called
    assert len(there(root)) == 7
    maildrop.release()


def test_a_lock_that_cannot_be_looked_at_fails_for_now(tmp_path, monkeypatch, clock):
    def broken(lock):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(expunge, "is_changing", broken)
    pace = Pace(clock.seconds, 1)
    with pace.short() as limit, pytest.raises(TemporaryFailure, match="Input/output error"):
        expunge.lock(None, str(tmp_path), limit)
    monkeypatch.undo()
    os.close(expunge.lock(None, str(tmp_path)))  # nobody holds it
