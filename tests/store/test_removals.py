"""Rules 1 and 9: removals in the journal."""

from __future__ import annotations

import errno
import os
import signal

import pytest
from twisted.internet.defer import Deferred

from postoffice.interfaces import PurgeCriteria
from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import (
    MaildropChanging,
    NotAllRemoved,
    TemporaryFailure,
)
from postoffice.store import expunge, files, mailbox, names
from postoffice.store.pace import Pace
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish
from tests.store.journaled import (
    JOE,
    Served,
    begun,
    calling_first,
    die,
    folder_of,
    is_free,
    is_segment,
    messages,
    raising,
    state_of,
    text_of,
    there,
    token_in,
)

pytestmark = pytest.mark.usefixtures("machine")


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
    """More than a few do not fit into one batch."""
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
    """Somebody committed the removal of "one" and was killed before its name went."""

    def remove(parent):
        served = Served(root)
        started(parent, served)
        calling_first(pytest.MonkeyPatch(), os, "unlink", die_at_its_name)
        served.remove("one")

    def die_at_its_name(path, **named):
        if "/new/" in path:
            die()

    return child(remove)


def test_rule_1_who_finds_the_mark_on_a_free_lock_recovers_first(root, child, served):
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


def test_rule_1_also_who_came_later_than_what_it_recovers(root, child, served):
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
    assert removal.called, "QUIT is answered as soon as it is committed"
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
