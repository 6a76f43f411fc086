"""Deliveries that wait, are given up, or whose maildrops go away under them."""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue

import pytest
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock

from postoffice.daemon.thread_executor import ThreadExecutor
from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import MaildropLocked, TemporaryFailure
from postoffice.store import batcher, cleanup, drafts, files, maildrop_folders
from postoffice.store import commit as commit_module
from postoffice.store import delivery as delivery_module
from postoffice.store.maildir_store import MaildirStore
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish

JOE, ANN = "joe@example.net", "ann@example.net"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def executor():
    return ManualExecutor()


@pytest.fixture
def store(root, executor):
    """A store that has both maildrops, and does what it is asked when the test says so."""
    store = MaildirStore(
        str(root), executor, hostname="mail.example.net", clock=Clock(), durability="files"
    )
    begun(store.start(), executor)
    done(store, executor, JOE, ANN)
    executor.work_on()
    return store


def begun(coroutine, executor):
    """Begin, and work as long as there is something to do."""
    deferred = Deferred.fromCoroutine(coroutine)
    executor.work_on()
    return deferred.result


def envelope(*names):
    recipients = [Recipient(Address.parse(name), Account(name, name)) for name in names]
    return Envelope("id.1", Client(), recipients=recipients)


def done(store, executor, *names):
    """A delivery that has begun."""
    return begun(store.begin(envelope(*names)), executor)


def committing(store, executor, text=b"x\r\n", *names):
    """The outcome, one day, of a delivery."""
    delivery = done(store, executor, *(names or (JOE,)))
    finish(delivery.write(text))
    outcome = Deferred.fromCoroutine(delivery.commit())
    outcome.addErrback(lambda failure: failure.value)
    return outcome


def mail(root, name=JOE):
    """What is to be seen of a maildrop, read without the store."""
    local, _, domain = name.partition("@")
    folder = root / domain / local / "new"
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []


def litter(root):
    return list(root.rglob("tmp/*"))


# -- together ------------------------------------------------------------------------


def test_messages_that_wait_are_committed_together(store, executor, root):
    outcomes = [committing(store, executor, b"0\r\n")]
    assert len(executor.waiting) == 1, "the first goes at once"
    waiting = [finish(store.begin(envelope(JOE, ANN))) for _ in range(batcher.BATCH + 5)]
    for delivery in waiting:
        finish(delivery.write(b"x\r\n"))
        outcomes.append(Deferred.fromCoroutine(delivery.commit()))
    assert len(executor.waiting) == batcher.BATCHES
    executor.work()
    sizes = [
        len(args[0])
        for _, function, args in executor.waiting
        if function is commit_module.commit_batch
    ]
    assert sizes == [batcher.BATCH, 4]
    executor.work_on()
    assert all(outcome.called and outcome.result is None for outcome in outcomes)
    assert len(mail(root)) == len(outcomes)
    assert litter(root) == []


def test_one_that_fails_costs_the_group_nothing(store, executor, root, monkeypatch):
    first = committing(store, executor)
    second = committing(store, executor)
    bad, good = (finish(store.begin(envelope(JOE))) for _ in range(2))
    finish(bad.write(b"bad\r\n"))
    finish(good.write(b"good\r\n"))
    bad, good = (Deferred.fromCoroutine(one.commit()) for one in (bad, good))
    bad.addErrback(lambda failure: failure.value)
    link = os.link

    def failing(source, target, **named):
        if ",S=5," in target:
            raise ValueError("a bug")
        return link(source, target, **named)

    monkeypatch.setattr(os, "link", failing)
    executor.work_on()
    assert first.result is second.result is good.result is None
    assert isinstance(bad.result, ValueError)
    assert b"bad\r\n" not in mail(root)
    assert b"good\r\n" in mail(root)
    assert litter(root) == []


def test_a_large_message_keeps_no_small_one_waiting(store, executor):
    large = [done(store, executor, JOE) for _ in range(batcher.LARGE + 1)]
    for delivery in large:
        finish(delivery.write(b"x" * delivery_module.BUFFER))
    executor.work_on()
    for delivery in large:
        Deferred.fromCoroutine(delivery.commit())
    assert len(executor.waiting) == batcher.LARGE
    delivery = finish(store.begin(envelope(JOE)))
    finish(delivery.write(b"small\r\n"))
    Deferred.fromCoroutine(delivery.commit())
    assert len(executor.waiting) == batcher.LARGE + 1
    executor.work_on()


def test_a_slow_disk_makes_the_writer_wait(store, executor):
    delivery = done(store, executor, JOE)
    half = b"x" * (delivery_module.BUFFER // 2)
    for _ in range(3):
        finish(delivery.write(half))  # a buffer on its way to disk, and half of the next
    waiting = Deferred.fromCoroutine(delivery.write(half))
    assert not waiting.called
    executor.work()
    assert waiting.called
    executor.work()
    assert finish(delivery.write(half)) is None
    delivery.abort()
    executor.work_on()


def test_stopping_waits_for_what_is_being_committed(store, executor, root):
    outcome = committing(store, executor)
    stopping = Deferred.fromCoroutine(store.stop())
    assert not stopping.called
    executor.work_on()
    assert stopping.called
    assert outcome.result is None
    assert mail(root) == [b"x\r\n"]


# -- given up ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, delivery_module.BUFFER + 10])
def test_a_commit_that_nobody_waits_for_places_nothing(store, executor, root, size):
    delivery = done(store, executor, JOE, ANN)
    finish(delivery.write(b"x" * size))
    executor.work_on()
    outcome = Deferred.fromCoroutine(delivery.commit())
    outcome.addErrback(lambda failure: failure.trap(CancelledError))
    outcome.cancel()
    delivery.abort()
    executor.work_on()
    assert mail(root) == mail(root, ANN) == []
    assert litter(root) == []


def test_a_delivery_is_given_up_while_it_is_written(store, executor, root):
    delivery = done(store, executor, JOE)
    for _ in range(2):
        writing = Deferred.fromCoroutine(delivery.write(b"x" * delivery_module.BUFFER))
    writing.addErrback(lambda failure: failure.trap(CancelledError))
    writing.cancel()
    delivery.abort()
    executor.waiting.reverse()  # threads need not begin in the order in which they were asked
    executor.work_on()
    assert litter(root) == []


# -- maildrops that go away ------------------------------------------------------------


def discarded(root, keep):
    return cleanup.discard(str(root), "example.net/joe", keep)


@pytest.mark.parametrize("again", [False, True], ids=["gone", "there is a new one"])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("size", [10, delivery_module.BUFFER + 10])
def test_what_was_meant_for_the_old_maildrop_comes_to_no_new_one(
    store, executor, root, keep, again, size
):
    delivery = done(store, executor, JOE, ANN)
    finish(delivery.write(b"x" * size))
    executor.work_on()
    discarded(root, keep)
    if again:
        files.make(str(root / "example.net" / "joe"))
    failure = begun(_failing(delivery.commit()), executor)
    assert isinstance(failure, TemporaryFailure)
    assert "joe" in str(failure)
    assert mail(root) == mail(root, ANN) == []
    assert again or not (root / "example.net" / "joe").exists()
    outcome = committing(store, executor, b"for the new one\r\n", JOE)
    executor.work_on()
    assert outcome.result is None
    assert mail(root) == [b"for the new one\r\n"]


async def _failing(commit):
    with pytest.raises(TemporaryFailure) as raised:
        await commit
    return raised.value


def test_a_maildrop_that_goes_while_its_mail_is_linked_does_not_take_it_along(
    store, executor, root, monkeypatch
):
    aside = []
    link = os.link

    def linking(*args, **named):
        link(*args, **named)
        if not aside:
            aside.append(root / "aside")
            os.rename(root / "example.net" / "joe", aside[0])

    monkeypatch.setattr(os, "link", linking)
    outcome = committing(store, executor, b"x\r\n", JOE, ANN)
    executor.work_on()
    assert isinstance(outcome.result, TemporaryFailure)
    assert not list((aside[0] / "new").iterdir())
    assert mail(root, ANN) == []


def test_what_is_set_aside_is_whole_and_an_empty_maildrop_leaves_nothing(root):
    store = MaildirStore(
        str(root), ImmediateExecutor(), hostname="h", clock=Clock(), durability="files"
    )
    finish(store.start())
    delivery = finish(store.begin(envelope(JOE, ANN)))
    finish(delivery.write(b"x\r\n"))
    finish(delivery.commit())
    maildrop = store.maildrop(ANN)
    finish(maildrop.remove(finish(maildrop.open()).entries))
    maildrop.release()
    aside = finish(store.discard(JOE, keep=True))
    assert aside.startswith(str(root / ".removed"))
    assert len(os.listdir(f"{aside}/new")) == 1
    assert finish(store.discard(ANN, keep=True)) == ""
    assert [str(path) for path in (root / ".removed").glob("*/*/*/*")] == [
        f"{aside}/new/{name}" for name in os.listdir(f"{aside}/new")
    ]
    assert os.listdir(root / "example.net") == []


@pytest.mark.parametrize("own_disk", [False, True])
def test_the_last_of_a_deleted_maildrop_goes_when_no_delivery_remembers_it(root, own_disk):
    store = MaildirStore(
        str(root), ImmediateExecutor(), hostname="h", clock=Clock(), durability="files"
    )
    finish(store.start())
    for name in (JOE, ANN):
        delivery = finish(store.begin(envelope(name)))
        finish(delivery.write(b"x\r\n"))
        finish(delivery.commit())
        assert bool(finish(store.discard(name, keep=name == ANN))) is (name == ANN)
    if own_disk:
        os.rename(root / ".removed" / "example.net", root / "example.net" / ".removed")
    folders = [path for path in root.rglob("*") if path.name[:3] in ("joe", "ann")]
    assert len(folders) == 2
    finish(store.sweep())
    assert all(path.exists() for path in folders)
    for path in folders:
        os.utime(path, (1, 1))
    finish(store.sweep())
    assert [path.name[:3] for path in folders if path.exists()] == ["ann"]


def test_a_domain_on_a_disk_of_its_own_sets_aside_there(root, monkeypatch):
    store = MaildirStore(
        str(root), ImmediateExecutor(), hostname="h", clock=Clock(), durability="files"
    )
    finish(store.start())
    delivery = finish(store.begin(envelope(JOE)))
    finish(delivery.write(b"x\r\n"))
    finish(delivery.commit())
    rename = os.rename

    def renaming(source, target):
        if not str(target).startswith(str(root / "example.net")):
            raise OSError(18, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", renaming)
    aside = finish(store.discard(JOE, keep=True))
    assert aside.startswith(str(root / "example.net" / ".removed"))
    assert len(os.listdir(f"{aside}/new")) == 1
    assert maildrop_folders.maildrops(str(root)) == []


def test_mail_that_is_held_by_a_session_is_not_discarded(root):
    store = MaildirStore(
        str(root), ImmediateExecutor(), hostname="h", clock=Clock(), durability="files"
    )
    finish(store.start())
    maildrop = store.maildrop(JOE)
    finish(maildrop.open())
    with pytest.raises(MaildropLocked):
        discarded(root, keep=False)
    maildrop.release()
    discarded(root, keep=False)


# -- the draft itself --------------------------------------------------------------------


def test_a_draft_that_is_swept_before_it_is_locked_is_made_again(root, monkeypatch):
    store = MaildirStore(
        str(root), ImmediateExecutor(), hostname="h", clock=Clock(), durability="files"
    )
    finish(store.start())
    delivery = finish(store.begin(envelope(JOE)))
    swept = []
    flock = drafts.flock

    def sweeping(fd, how):
        if not swept:
            swept.append(cleanup.sweep(str(root / "example.net" / "joe"), 0))
        flock(fd, how)

    monkeypatch.setattr(drafts, "flock", sweeping)
    finish(delivery.write(b"x\r\n"))
    finish(delivery.commit())
    assert swept == [1]
    assert mail(root) == [b"x\r\n"]
    assert litter(root) == []


@pytest.mark.parametrize("umask", [0, 0o077, 0o777], ids=oct)
def test_modes_do_not_depend_on_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        store = MaildirStore(
            str(tmp_path / "a" / "store"),
            ImmediateExecutor(),
            hostname="h",
            clock=Clock(),
            durability="files",
        )
        finish(store.start())
        delivery = finish(store.begin(envelope(JOE)))
        finish(delivery.write(b"x\r\n"))
        finish(delivery.commit())
        finish(store.maildrop(JOE).open())
    finally:
        os.umask(before)
    for path in (tmp_path / "a").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_text_whose_last_line_does_not_end_says_so_in_its_name(root):
    store = MaildirStore(
        str(root), ImmediateExecutor(), hostname="h", clock=Clock(), durability="files"
    )
    finish(store.start())
    for text in (b"", b"a\r\n", b"a", b"a\r"):
        delivery = finish(store.begin(envelope(JOE)))
        for octet in text:
            finish(delivery.write(bytes([octet])))
        finish(delivery.commit())
    names = sorted(path.name for path in (root / "example.net" / "joe" / "new").iterdir())
    assert [name.partition(",")[2] for name in names] == [
        "S=0,W=0",
        "S=3,W=3",
        "S=1,W=3",
        "S=2,W=4",
    ]


# -- on threads ----------------------------------------------------------------------------


class Reactor:
    """The one thing that workers ask of a reactor; its thread is the test's."""

    def __init__(self):
        self.calls = SimpleQueue()

    def callFromThread(self, function):
        self.calls.put(function)

    def result(self, coroutine):
        deferred = Deferred.fromCoroutine(coroutine)
        while not deferred.called:
            self.calls.get(timeout=60)()
        outcome = []
        deferred.addBoth(outcome.append)
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]


def test_many_deliveries_and_logins_at_once(root):
    reactor = Reactor()
    executor = ThreadExecutor(reactor, 6)
    executor.start()
    threads = threading.active_count()
    store = MaildirStore(
        str(root), executor, hostname="mail.example.net", clock=Clock(), durability="files"
    )
    names = [f"u{number}@example.net" for number in range(5)]
    collected = {name: [] for name in names}

    async def post(poster):
        for number in range(8):
            delivery = await store.begin(envelope(*names))
            text = b"%d %d " % (poster, number) + b"x" * (300_000 if number == 3 else 10)
            for start in range(0, len(text), 100_000):
                await delivery.write(text[start : start + 100_000])
            await delivery.write(b"\r\n")
            await delivery.commit()

    async def collect(name):
        maildrop = store.maildrop(name)
        for entry in (entries := (await maildrop.open()).entries):
            text = await maildrop.fetch(entry)
            octets = b""
            while piece := await text.read():
                octets += piece
            text.close()
            assert len(octets) == entry.size
            collected[name].append(octets[:3])
        await maildrop.remove(entries)
        maildrop.release()

    async def keep_collecting(name):
        for _ in range(10):
            await collect(name)

    async def all_of_it():
        await store.start()
        work = [post(poster) for poster in range(10)] + [keep_collecting(name) for name in names]
        await gatherResults(map(Deferred.fromCoroutine, work))
        for name in names:
            await collect(name)
        await store.stop()

    try:
        reactor.result(all_of_it())
    finally:
        reactor.result(executor.stop())
    sent = sorted(b"%d %d" % (poster, number) for poster in range(10) for number in range(8))
    for name in names:
        assert sorted(collected[name]) == sent
        assert mail(root, name) == []
    assert litter(root) == []
    assert threading.active_count() == threads - 6


def test_a_place_that_is_forgotten_while_another_is_found_is_still_known(store, executor, root):
    places = delivery_module.MaildropCache(executor)
    joe, ann, bob = (str(root / "example.net" / name) for name in ("joe", "ann", "bob"))
    known = begun(places.find([joe, ann]), executor)
    for folders in ([joe, bob], [bob, joe], [ann, bob, joe, ann]):
        places.forget(bob)
        finding = Deferred.fromCoroutine(places.find(folders))
        for folder in (joe, ann, bob):
            places.forget(folder)  # a delivery to it has failed meanwhile
        executor.work_on()
        assert [place.path for place in finding.result] == folders
        assert set(begun(places.find([joe, ann]), executor)) == set(known)
