"""Whether there is room in a maildrop, counted exactly whoever else is at it."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from dataclasses import replace
from fcntl import LOCK_NB, LOCK_SH, flock

import pytest
from twisted.internet.task import Clock

from postoffice.model.address import Quota
from postoffice.model.errors import MaildropFullNow, TemporaryFailure
from postoffice.store import cleanup, commit, files, maildir, names
from postoffice.store.drafts import Draft
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.pace import Pace
from postoffice.store.quota import maildirsize, open_count, usage_file
from postoffice.store.quota.admission import LIFETIME, Admission, usage
from postoffice.store.quota.enforcement import QuotaEnforcement
from postoffice.testing import ImmediateExecutor, finish

LIMIT = Quota(1000, 2, "reject")


@pytest.mark.parametrize("made", [(), ("",), ("", "/tmp"), ("", "/tmp", "/new")])
def test_a_maildrop_that_is_just_being_made_has_room(tmp_path, made):
    folder = f"{tmp_path}/joe"
    for name in made:
        os.mkdir(folder + name)
    assert usage(folder, LIMIT, 1000) == (0, 0)
    files.make(folder)
    assert usage(folder, LIMIT, 1000) == (0, 0)


@pytest.fixture
def folder(tmp_path):
    files.make(f"{tmp_path}/example.net/joe")
    fd = os.open(tmp_path / "example.net" / "joe", os.O_RDONLY)
    yield fd
    os.close(fd)


def is_free(folder, name):
    """Whether somebody could share this with others."""
    fd = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        flock(fd, LOCK_SH | LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def test_a_count_waits_for_deliveries_and_keeps_others_out(folder, monkeypatch):
    maildirsize.recount(folder, LIMIT)
    batcher = ExitStack()
    batcher.enter_context(maildirsize.reserving(folder))
    assert maildirsize.reserve(folder, LIMIT, [600]) == ([True], (600, 1))
    waited = []

    def sleep(_):
        assert not is_free(folder, "tmp"), "who comes now to place waits"
        waited.append(maildirsize.usage(folder, LIMIT))
        os.close(os.open("new/1,S=600", os.O_CREAT, dir_fd=folder))
        batcher.close()

    monkeypatch.setattr(maildirsize.time, "sleep", sleep)
    assert maildirsize.recount(folder, LIMIT) == ((600, 1), True)
    assert waited == [(600, 1)]
    assert is_free(folder, "tmp")
    assert is_free(folder, "new")


def test_a_count_does_not_wait_for_ever(folder, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(maildirsize.time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(maildirsize.time, "sleep", lambda _: None)
    with maildirsize.reserving(folder):
        assert maildirsize.recount(folder, LIMIT) == ((0, 0), True)
    assert maildirsize.PATIENCE < next(now) < 20


def test_a_count_that_is_just_written_is_no_leftover(tmp_path, folder, monkeypatch):
    rename = os.rename

    def sweep_first(*args, **named):
        assert cleanup.sweep(f"{tmp_path}/example.net/joe", 0.0) == 0
        rename(*args, **named)

    monkeypatch.setattr(os, "rename", sweep_first)
    maildirsize.recount(folder, LIMIT)
    assert maildirsize.is_kept(folder)


def test_several_maildrops_are_taken_in_one_order(tmp_path, monkeypatch):
    """Or two groups would wait for each other."""
    taken = []

    def reserve(count, limit, more):
        taken.append(os.readlink(f"/proc/self/fd/{count._folder}"))
        return more

    monkeypatch.setattr(open_count.OpenCount, "reserve", reserve)
    places = files.find([f"{tmp_path}/example.net/{one}" for one in ("joe", "ann", "bob")])
    wanted = [
        Draft(list(chosen), names.new_name("h"), "", dict.fromkeys(chosen, LIMIT))
        for chosen in (places, places[1:], places[::-1])
    ]
    for draft in wanted:
        draft.parts.append(b"x\r\n")
    assert commit.commit_batch(wanted) == [None] * 3
    assert [path.rpartition("/")[2] for path in taken] == ["ann", "bob", "joe"]


def test_limited_or_not_all_count_in_the_same_maildrop(tmp_path, folder):
    [place] = files.find([f"{tmp_path}/example.net/joe"])
    wanted = [Draft([place], names.new_name("h"), "", quotas) for quotas in ({place: LIMIT}, {})]
    for draft in wanted:
        draft.parts.append(b"x\r\n")
    assert commit.commit_batch(wanted) == [None, None]
    assert maildirsize.usage(folder, LIMIT) == (6, 2)
    assert is_free(folder, "new")


def test_a_count_that_is_never_right_is_a_temporary_failure(tmp_path, monkeypatch):
    """As where two processes have different limits for him; his sender is not turned away."""
    [place] = files.find([f"{tmp_path}/example.net/joe"])
    monkeypatch.setattr(maildirsize, "reserve", lambda *_, **how: None)
    monkeypatch.setattr(open_count.OpenCount, "reserve", lambda *_: None)
    draft = Draft([place], names.new_name("h"), "", {place: LIMIT})
    draft.parts.append(b"x\r\n")
    [why] = commit.commit_batch([draft])
    assert type(why) is TemporaryFailure


def test_mail_comes_where_nobody_can_tell_what_its_owner_was_told(tmp_path, folder):
    [place] = files.find([f"{tmp_path}/example.net/joe"])
    os.mkdir("postoffice.told", dir_fd=folder)
    draft = Draft([place], names.new_name("h"), "", {place: LIMIT})
    draft.parts.append(b"x" * 900)
    assert commit.commit_batch(
        [draft], None, QuotaEnforcement(None, MeasuredSizes(), levels=[80])
    ) == [None]
    assert maildirsize.usage(folder, LIMIT) == (900, 1)


def test_what_has_gone_is_counted_so_or_counted_anew(tmp_path, folder, monkeypatch):
    path = f"{tmp_path}/example.net/joe"
    with open(f"{path}/new/1", "wb") as file:
        file.write(b"x" * 600)
    assert maildirsize.recount(folder, LIMIT).usage == (600, 1)

    def full(fd, octets):
        raise OSError(errno.ENOSPC, "no space")

    entries = maildir.scan(path, MeasuredSizes()).entries
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        maildir.remove(path, entries)
    assert maildirsize.usage(folder, LIMIT) == (0, 0)


def test_nothing_is_taken_where_not_all_of_it_fits(folder):
    maildirsize.recount(folder, LIMIT)
    assert maildirsize.reserve(folder, LIMIT, [600, 600], all_of_them=True) is None
    assert maildirsize.usage(folder, LIMIT) == (0, 0)
    assert maildirsize.reserve(folder, LIMIT, [600, 600]) == ([True, False], (600, 1))


def admission(tmp_path, device):
    """Whether joe's maildrop takes so many octets; the Admission that says so, and its parts."""
    clock, asked = Clock(), []

    class Workers(ImmediateExecutor):
        def run(self, function, *args):
            asked.append(args)
            return super().run(function, *args)

    pace = Pace(clock.seconds, device)
    admitting = Admission(Workers(), clock.seconds, pace)
    path = f"{tmp_path}/example.net/joe"

    def admits(size):
        return finish(admitting.admits(path, LIMIT, size))

    return admits, admitting, clock, asked, pace


def test_the_disk_is_asked_no_more_than_it_must_be_whether_there_is_room(tmp_path, folder):
    admits, admitting, clock, asked, _ = admission(tmp_path, device=-1)
    path = f"{tmp_path}/example.net/joe"
    assert admits(600)
    assert admits(1000)
    assert len(asked) == 1
    os.close(os.open("new/1,S=600", os.O_CREAT, dir_fd=folder))
    maildirsize.add(folder, 600, 1)
    assert admits(600), "for a moment; whoever commits is told"
    clock.advance(LIFETIME)
    assert not admits(600)
    assert admits(400)
    admitting.came(path, 300)
    assert len(asked) == 2
    assert admits(400), "of what came it is only known that it did"
    assert len(asked) == 3
    os.unlink("new/1,S=600", dir_fd=folder)
    maildirsize.forget(path)
    assert admits(600), "before somebody is turned away, the disk is asked"


def test_a_count_on_a_quick_disk_is_read_on_the_reactors_thread(tmp_path, folder):
    admits, _, clock, asked, pace = admission(tmp_path, tmp_path.stat().st_dev)
    os.close(os.open("new/1,S=600", os.O_CREAT, dir_fd=folder))
    assert admits(100), "counted on another thread, as it is on the first time"
    assert len(asked) == 1
    clock.advance(LIFETIME)
    assert admits(100)
    assert len(asked) == 1
    assert not admits(600), "before somebody is turned away, another thread counts"
    assert len(asked) == 2
    clock.advance(LIFETIME)
    maildirsize.forget(f"{tmp_path}/example.net/joe")
    assert admits(100), "without a count, another thread makes one"
    assert len(asked) == 3
    clock.advance(LIFETIME)
    pace.took(60.0, clock.seconds())
    assert admits(100), "a slow disk is left to other threads"
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("said", "held"),
    [
        ("1000S,2C\n0 0\n", (0, 0)),
        ("1000S,2C\n500 1\n-200 0\n12 1\n", (312, 2)),  # Courier's and Dovecot's lines
        ("1000S,2C\n  +500     +1\n", (500, 1)),
        ("1000S,2C\n" + "1 0\n" * 100, (100, 0)),
    ],
)
def test_the_lines_of_other_programs_are_added_up(folder, said, held):
    write(folder, said)
    assert maildirsize.usage(folder, LIMIT) == held
    assert maildirsize.reserve(folder, LIMIT, [10]) is not None


def write(folder, said):
    fd = os.open("maildirsize", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, dir_fd=folder)
    os.write(fd, said.encode())
    os.close(fd)


NOT_BELIEVED = {
    "another quota": "999S,2C\n0 0\n",
    "no quota": "0 0\n",
    "nothing": "",
    "no end of line": "1000S,2C\n500 1",
    "letters": "1000S,2C\nfive 1\n",
    "too many words": "1000S,2C\n1 1 1\n",
    "less than nothing": "1000S,2C\n-5 1\n",
    "very long": "1000S,2C\n" + "1 0\n" * 2000,
}


@pytest.mark.parametrize("said", NOT_BELIEVED.values(), ids=NOT_BELIEVED)
def test_what_cannot_be_believed_is_counted_anew(folder, said):
    os.close(os.open("new/1,S=600", os.O_CREAT, dir_fd=folder))
    os.close(os.open("cur/2,S=50:2,S", os.O_CREAT, dir_fd=folder))
    write(folder, said)
    assert maildirsize.reserve(folder, LIMIT, [1]) is None, "who delivers counts first"
    assert maildirsize.usage(folder, LIMIT) == (650, 2)
    with open("maildirsize", opener=lambda name, flags: os.open(name, flags, dir_fd=folder)) as at:
        assert at.read() == "1000S,2C\n650 2\n"


def test_what_another_program_has_put_there_or_taken_is_found_before_mail_is_refused(folder):
    write(folder, "1000S,2C\n900 1\n90 1\n")
    assert maildirsize.has_room(folder, LIMIT, usage_file.Usage(100, 1)) == (True, (0, 0))


def test_mail_is_not_counted_for_each_that_is_refused(folder, monkeypatch):
    for number in range(2):
        os.close(os.open(f"new/{number},S=10", os.O_CREAT, dir_fd=folder))
    assert maildirsize.has_room(folder, LIMIT, usage_file.Usage(1, 1)) == (False, (20, 2))
    monkeypatch.setattr(maildirsize, "_scan", None)
    assert maildirsize.has_room(folder, LIMIT, usage_file.Usage(1, 1)) == (False, (20, 2))


@pytest.mark.parametrize("durability", ["journal", "files"])
@pytest.mark.usefixtures("machine")
def test_it_is_exact_however_many_processes_deliver(root, child, durability):
    from tests.store.journaled import JOE, Served, envelope

    limit = Quota(0, 30, "defer")

    def post(parent):
        one = Served(root, durability=durability)
        to = envelope(JOE)
        to.recipients[0] = replace(
            to.recipients[0], account=replace(to.recipients[0].account, quota=limit)
        )
        parent.say("ready")
        parent.hear()
        taken = 0
        for _ in range(20):
            delivery = finish(one.store.begin(to))
            finish(delivery.write(b"x\r\n"))
            try:
                finish(delivery.commit())
                taken += 1
            except MaildropFullNow:
                pass
        parent.say(str(taken))
        one.stop()

    children = [child(post) for _ in range(3)]
    assert [one.hear() for one in children] == ["ready"] * 3
    for one in children:
        one.say("go")
    assert sum(int(one.hear()) for one in children) == 30
    assert [one.wait() for one in children] == [0] * 3
    assert len(os.listdir(root / "example.net" / "joe" / "new")) == 30
