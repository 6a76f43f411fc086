"""The queue of a store on disk: killed at any step, unreadable files, and who does not see it."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from zope.interface.verify import verifyObject

from postoffice.interfaces import IQueueRepair, PurgeCriteria
from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope
from postoffice.model.errors import TemporaryFailure
from postoffice.model.queued_message import QueuedRecipient
from postoffice.store import queue_files
from postoffice.testing import finish
from tests.store.journaled import (
    ANN,
    JOE,
    STEPS,
    Served,
    calling_first,
    dying_before,
    messages,
    set_aside,
)

FAR, AWAY = "far@example.org", "away@example.com"
SMALL, LARGE = b"small\r\n", b"large\r\n" * 2000

pytestmark = pytest.mark.usefixtures("machine")


@pytest.fixture(params=["journal", "files"])
def durability(request):
    return request.param


def envelope(local=(), remote=(FAR,), sender="ann@example.net") -> Envelope:
    parsed = Address.parse(sender) if sender else None
    letter = Envelope("id.1", Client(), sender=parsed)
    for name in local:
        letter.name(Address.parse(name), [Account(name, name, quota=Quota(0, 0, "reject"))])
    for name in remote:
        letter.name(Address.parse(name), [], [QueuedRecipient(address=name)])
    return letter


def begun(store, letter: Envelope, text: bytes):
    delivery = finish(store.begin(letter))
    try:
        finish(delivery.write(letter.trace("mail.example.net", datetime.now(UTC))))
        for start in range(0, len(text), 1500):
            finish(delivery.write(text[start : start + 1500]))
    except TemporaryFailure:
        delivery.abort()
        raise
    return delivery


def posted(store, letter: Envelope, text: bytes = SMALL) -> str:
    finish(begun(store, letter, text).commit())
    return finish(store.queue.names())[-1]


def text_of(store, name: str) -> bytes:
    text = finish(store.queue.text(name))
    octets = b""
    while piece := finish(text.read()):
        octets += piece
    text.close()
    return octets


def leftovers(root) -> list[str]:
    """What no message needs."""
    return [
        str(path.relative_to(root))
        for folder in ("messages/tmp", "marks/tmp", "intents")
        for path in root.glob(f".queue/{folder}/*")
    ]


def killed_at(step: int, child, act) -> bool:
    """Whether a process that acts so was killed before so many steps."""

    def work(parent):
        dying_before(step)
        act()

    return child(work).wait() == -signal.SIGKILL


# -- killed at any step --------------------------------------------------------------------


@pytest.mark.parametrize("text", [SMALL, LARGE], ids=["small", "large"])
def test_whenever_it_is_killed_a_message_is_in_both_or_in_none(tmp_path, child, durability, text):
    for step in range(1, 1000):
        root = tmp_path / str(step)

        def act(root=root):
            posted(Served(root, durability=durability).store, envelope([JOE]), text)

        killed = killed_at(step, child, act)
        served = Served(root, durability=durability)
        names = finish(served.store.queue.names())
        assert all(text_of(served.store, name).endswith(text) for name in names)
        if durability == "journal":
            assert len(messages(root)) == len(names)
        else:  # the queue comes first
            assert len(messages(root)) <= len(names)
        assert finish(served.store.queue.usage())[0] == len(names)
        finish(served.store.sweep())
        assert leftovers(root) == []
        served.stop()
        if not killed:
            break
    assert len(names) == 1
    assert step > 20


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "marked"])
def test_whenever_it_is_killed_a_letter_is_there_once_with_its_mark(
    tmp_path, child, durability, whole
):
    for step in range(1, 1000):
        root = tmp_path / str(step)
        first = Served(root, durability=durability)
        name = posted(first.store, envelope([], [FAR, AWAY]))
        finish(first.store.queue.finish(name, [], [0], whole=False))
        first.stop()

        def end(store, name=name):
            letters = [
                begun(store, envelope([JOE, ANN], [], ""), SMALL),
                begun(store, envelope([JOE], [AWAY], ""), LARGE),
            ]
            finish(store.queue.finish(name, [0], letters=letters, whole=whole))

        def act(root=root, end=end):
            end(Served(root, durability=durability).store)

        killed = killed_at(step, child, act)
        served = Served(root, durability=durability)
        for _ in range(2):
            [message] = finish(served.store.queue.read([name]))
            ended = message is None if whole else message.done == {0}
            others = [one for one in finish(served.store.queue.names()) if one != name]
            there = len(messages(root)), len(messages(root, ANN)), len(others)
            assert there == ((2, 1, 1) if ended else (0, 0, 0)), f"killed before step {step}"
            if message is not None:
                assert message.told == {0}
            finish(served.store.sweep())
            assert leftovers(root) == []
            if not ended:
                end(served.store)  # the next attempt
        served.stop()
        if not killed:
            break
    assert step > 20


def test_whenever_it_is_killed_a_sent_message_is_there_with_its_marks_or_gone(
    tmp_path, child, durability
):
    for step in range(1, 1000):
        root = tmp_path / str(step)
        first = Served(root, durability=durability)
        name = posted(first.store, envelope([], [FAR, AWAY]))
        finish(first.store.queue.finish(name, [0], whole=False))
        first.stop()

        def act(root=root, name=name):
            store = Served(root, durability=durability).store
            finish(store.queue.finish(name, [1], whole=True))

        killed = killed_at(step, child, act)
        served = Served(root, durability=durability)
        [message] = finish(served.store.queue.read([name]))
        if message is None:
            assert list(root.glob(".queue/marks/new/*")) == []
        else:
            assert message.done == {0}
        served.stop()
        if not killed:
            break
    assert message is None


def test_whenever_it_is_killed_a_message_that_is_set_aside_is_kept(tmp_path, child, durability):
    for step in range(1, 1000):
        root = tmp_path / str(step)
        first = Served(root, durability=durability)
        name = posted(first.store, envelope([], [FAR, AWAY]))
        finish(first.store.queue.finish(name, [0], whole=False))
        first.stop()

        def act(root=root, name=name):
            store = Served(root, durability=durability).store
            finish(store.queue.set_aside(name, "it makes us fail"))

        killed = killed_at(step, child, act)
        served = Served(root, durability=durability)
        [message] = finish(served.store.queue.read([name]))
        if message is None:
            aside = root / ".queue" / "aside" / name
            assert SMALL in aside.read_bytes()
            why = json.loads((root / ".queue" / "aside" / f"{name}.why").read_bytes())
            assert why == {"why": "it makes us fail", "done": [0], "told": []}
        else:
            assert message.done == {0}
        served.stop()
        if not killed:
            break
    assert message is None


# -- one odd file costs only itself --------------------------------------------------------


def spoil_end(path):
    path.write_bytes(path.read_bytes()[:-3])


def empty(path):
    path.write_bytes(b"")


def shorten(path):
    path.write_bytes(path.read_bytes()[10:])


def fill_with_zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("spoil", [spoil_end, empty, shorten, fill_with_zeros])
def test_one_that_cannot_be_read_is_set_aside_and_shown(served, root, durability, spoil, logged):
    one = served(durability=durability)
    names = [posted(one.store, envelope()) for _ in range(3)]
    spoil(root / ".queue" / "messages" / "new" / names[1])
    [found] = finish(one.store.strays())
    assert "cannot be read" in found.what
    messages = finish(one.store.queue.read(names))
    assert [message is None for message in messages] == [False, True, False]
    assert finish(one.store.queue.names()) == [names[0], names[2]]
    assert finish(one.store.queue.usage())[0] == 2
    [found] = finish(one.store.strays())
    assert found.path.endswith(f".queue/aside/{names[1]}")
    assert "set aside" in found.what
    assert any("set aside" in line and names[1] in line for line in logged)


def test_a_mark_that_cannot_be_read_says_nothing(served, root, durability):
    one = served(durability=durability)
    name = posted(one.store, envelope([], [FAR, AWAY]))
    finish(one.store.queue.finish(name, [0], whole=False))
    finish(one.store.queue.finish(name, [1], whole=False))
    mark = min(root.glob(".queue/marks/new/*"))
    said = json.loads(mark.read_bytes())["done"]
    mark.write_bytes(b"")
    [message] = finish(one.store.queue.read([name]))
    assert message.done == {0, 1} - set(said)


def test_marks_without_a_message_go_at_a_start(served, root, durability):
    one = served(durability=durability)
    name = posted(one.store, envelope([], [FAR, AWAY]))
    finish(one.store.queue.finish(name, [0, 1], whole=True))
    finish(one.store.queue.finish(name, [0], whole=False))  # late
    assert len(list(root.glob(".queue/marks/new/*"))) == 1
    one.stop()
    served(durability=durability)
    assert list(root.glob(".queue/marks/new/*")) == []


def test_a_start_leaves_the_marks_of_a_message_that_comes_meanwhile(
    served, root, monkeypatch, durability
):
    """A command opens the store while the daemon takes in mail, and sends it."""
    daemon = served(durability=durability)
    posted(daemon.store, envelope([], [FAR, AWAY]))
    came = []
    listed = queue_files._names

    def names(folder):
        found = listed(folder)
        if not came:  # as soon as one of the folders was listed
            came.append("")
            came[0] = posted(daemon.store, envelope([], [FAR, AWAY]))
            finish(daemon.store.queue.finish(came[0], [0], whole=False))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(queue_files, "_names", names)
        served(durability=durability)
    assert finish(daemon.store.queue.read(came))[0].done == {0}


def test_the_marks_of_a_message_that_is_set_aside_by_a_recovery_stay(served, root):
    one = served()
    name = posted(one.store, envelope([], [FAR, AWAY]))
    finish(one.store.queue.finish(name, [0], whole=False))
    one.stop()
    home = root / ".journal" / "set-aside" / ".queue" / "messages" / "place"
    home.mkdir(parents=True)
    os.rename(root / ".queue" / "messages" / "new" / name, home / name)
    contents = queue_files.contents(str(root))
    assert contents.sizes == {}
    assert finish(served().store.queue.read([name]))[0].done == {0}


def test_a_removal_that_fails_is_hidden_and_tried_again(served, root, monkeypatch):
    one = served()
    name = posted(one.store, envelope())
    unlink = os.unlink

    def refuse(path, *args, **named):
        if str(path).endswith(name):
            raise PermissionError(1, "it is immutable", str(path))
        unlink(path, *args, **named)

    monkeypatch.setattr(os, "unlink", refuse)
    finish(one.store.queue.finish(name, [0], whole=True))
    one.checkpoint()
    assert finish(one.store.queue.names()) == []
    assert finish(one.store.strays())
    one.stop()
    monkeypatch.setattr(os, "unlink", unlink)
    again = served()
    assert finish(again.store.queue.names()) == []
    assert finish(again.store.strays()) == []
    assert list(root.glob(".queue/messages/new/*")) == []


def test_files_that_cannot_be_removed_are_told(served, root, monkeypatch):
    one = served(durability="files")
    name = posted(one.store, envelope())
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError(1, "")))
        with pytest.raises((TemporaryFailure, OSError)):
            finish(one.store.queue.finish(name, [0], whole=True))
    assert finish(one.store.queue.names()) == [name]


def test_what_a_store_process_committed_before_it_died_is_told_of(served, durability, monkeypatch):
    one = served(durability=durability)
    came = []
    one.store.queue.watch(lambda name, message: came.append(name))
    small = one.store._batcher._small.committer
    commit_batch = type(small).commit_batch

    def dies(committer, wanted, removals=()):
        finish(commit_batch(committer, wanted))
        raise TemporaryFailure("the process has died")

    with monkeypatch.context() as patch:
        patch.setattr(type(small), "commit_batch", dies)
        with pytest.raises(TemporaryFailure):
            posted(one.store, envelope([JOE]))
        one.checkpoint()
    assert came == finish(one.store.queue.names())
    assert len(came) == finish(one.store.queue.usage())[0] == 1

    def dies_at_once(committer, wanted, removals=()):
        raise TemporaryFailure("the process has died")

    with monkeypatch.context() as patch:
        patch.setattr(type(small), "commit_batch", dies_at_once)
        with pytest.raises(TemporaryFailure):
            posted(one.store, envelope([JOE]))
    for _ in range(5):
        one.checkpoint()
    assert came == finish(one.store.queue.names())


# -- it is no maildrop ---------------------------------------------------------------------


def test_a_small_text_is_read_at_once_while_the_disk_is_quick(served, monkeypatch):
    one = served()
    small = posted(one.store, envelope())
    large = posted(one.store, envelope(), b"large\r\n" * 20_000)
    elsewhere = []
    run = one.store.queue._executor.run

    def noted(function, *args):
        elsewhere.append(function)
        return run(function, *args)

    monkeypatch.setattr(one.store.queue._executor, "run", noted)
    files = open_files()
    assert text_of(one.store, small).endswith(SMALL)
    assert not elsewhere
    assert text_of(one.store, large).endswith(b"large\r\n" * 20_000)
    assert len(elsewhere) == 1
    for _ in range(20):  # the disk is slow now
        one.store._context.pace.took(1.0, one.clock.seconds())
    assert text_of(one.store, small).endswith(SMALL)
    assert len(elsewhere) == 2
    assert open_files() == files


def test_nobody_takes_the_queue_for_a_maildrop(served, root, durability):
    one = served(durability=durability)
    name = posted(one.store, envelope([JOE]))
    finish(one.store.queue.finish(name, [], [0], whole=False))
    assert [holding.name for holding in finish(one.store.holdings())] == [JOE]
    assert finish(one.store.strays()) == []
    assert finish(one.store.count("messages@.queue")) == (0, 0)
    assert finish(one.store.purge("messages@.queue", PurgeCriteria(), False)) == (0, 0)
    finish(one.store.sweep())
    assert finish(one.store.queue.names()) == [name]
    assert finish(one.store.queue.read([name]))[0].told == {0}


def test_what_a_crash_left_in_its_folders_is_swept(served, root):
    one = served()
    name = posted(one.store, envelope([JOE]))
    for folder in ("messages", "marks"):
        finish(one.store.queue.finish(name, [], [0], whole=False))
        (root / ".queue" / folder / "tmp" / name).write_bytes(b"half")
    finish(one.store.sweep())
    assert leftovers(root) == []


def test_a_message_that_recovery_could_not_put_there_comes_at_the_next_start(served, root):
    """Its place is as a maildrop's: what cannot be applied is set aside, and tried again."""
    one = served()
    posted(one.store, envelope())
    [path] = root.glob(".queue/messages/new/*")
    home = root / ".journal" / "set-aside" / ".queue" / "messages" / "place"
    home.mkdir(parents=True)
    os.rename(path, home / path.name)
    assert any("set aside" in found.what for found in finish(one.store.strays()))
    one.stop()
    again = served()
    assert finish(again.store.queue.names()) == [path.name]
    assert set_aside(root, "place", "messages@.queue") == []
    assert queue_files.findings(str(root)) == []


def test_repair_tries_again_what_could_not_be_put_there(served, root):
    one = served()
    posted(one.store, envelope())
    [path] = root.glob(".queue/messages/new/*")
    home = root / ".journal" / "set-aside" / ".queue" / "messages" / "place"
    home.mkdir(parents=True)
    os.rename(path, home / path.name)
    assert verifyObject(IQueueRepair, one.store.queue)
    [mended] = finish(one.store.queue.repair())
    assert mended.mended
    assert "message" in mended.what
    assert path.exists()
    assert finish(one.store.strays()) == []
    assert finish(one.store.queue.repair()) == []


# -- whatever fails ------------------------------------------------------------------------

CALLS = (*STEPS, "open", "pread", "stat", "fstat")


@contextmanager
def failing(step: int, error: int, *, lasting: bool):
    """The call of this number fails, or all from there on do; yields whether it came to that."""
    left, failed = [step], []
    with pytest.MonkeyPatch.context() as patch:

        def count(*args, **named):
            left[0] -= 1
            if not left[0] or (lasting and left[0] < 0):
                failed.append(True)
                raise OSError(error, os.strerror(error))

        for name in CALLS:
            calling_first(patch, os, name, count)
        yield failed


def open_files() -> int:
    gc.collect(0)
    return len(os.listdir("/proc/self/fd"))


def outcome(act) -> bool:
    """Whether it went well; nothing but a temporary failure is known here."""
    try:
        act()
    except TemporaryFailure:
        return False
    return True


FAULTS = [(errno.EIO, False), (errno.ENOSPC, True)]


@pytest.mark.parametrize("text", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(("error", "lasting"), FAULTS, ids=["one EIO", "no space for long"])
def test_whatever_fails_a_message_is_in_both_or_in_none(tmp_path, durability, text, error, lasting):
    for step in range(1, 1000):
        served = Served(tmp_path / str(step), durability=durability)
        store = served.store
        posted(store, envelope([JOE]))
        before = open_files()
        with failing(step, error, lasting=lasting) as failed:
            well = outcome(lambda store=store: finish(begun(store, envelope([JOE]), text).commit()))
        names, mail = finish(store.queue.names()), messages(served.root)
        if well or not lasting:  # what lasts may keep it from being undone
            assert len(names) == len(mail) == 1 + well, f"call {step}"
        assert open_files() <= before + 1, f"call {step}"
        served.checkpoint()
        posted(store, envelope([JOE]))
        usage = finish(store.queue.usage())[0]
        served.stop()
        again = Served(tmp_path / str(step), durability=durability)
        now, mail = finish(again.store.queue.names()), messages(served.root)
        if well or not lasting:
            assert len(now) == len(mail) == 2 + well, f"call {step}"
            assert usage == len(now)
        assert 2 + well <= len(now) <= 3, f"call {step}"
        assert 2 + well <= len(mail) <= 3, f"call {step}"
        assert durability == "files" or len(now) == len(mail), f"call {step}"
        again.stop()
        if not failed:
            break
    assert step > 15


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "marked"])
@pytest.mark.parametrize(("error", "lasting"), FAULTS, ids=["one EIO", "no space for long"])
def test_whatever_fails_letters_are_there_with_the_end_or_not_at_all(
    tmp_path, durability, whole, error, lasting
):
    for step in range(1, 1000):
        served = Served(tmp_path / str(step), durability=durability)
        store = served.store
        name = posted(store, envelope([], [FAR, AWAY]))
        before = open_files()

        def end(store=store, name=name):
            letters = [
                begun(store, envelope([JOE, ANN], [], ""), SMALL),
                begun(store, envelope([JOE], [AWAY], ""), LARGE),
            ]
            finish(store.queue.finish(name, [0], letters=letters, whole=whole))

        with failing(step, error, lasting=lasting) as failed:
            well = outcome(end)
        served.checkpoint()
        there = len(messages(served.root)), len(messages(served.root, ANN))
        if well or not lasting:
            assert there == ((2, 1) if well else (0, 0)), f"call {step}"
        assert open_files() <= before + 2, f"call {step}"
        if not well:
            end()
        served.stop()
        again = Served(tmp_path / str(step), durability=durability)
        names = finish(again.store.queue.names())
        assert (name in names) is not whole, f"call {step}"
        there = len(messages(served.root)), len(messages(served.root, ANN)), len(names) + whole
        if well or not lasting:
            assert there == (2, 1, 2), f"call {step}"
        else:  # the first letters may have come after all
            assert (2, 1, 2) <= there <= (4, 2, 3), f"call {step}"
        again.stop()
        if not failed:
            break
    assert step > 30
