"""The queue of a store on disk: unreadable files, leftovers; and that it is no maildrop."""

from __future__ import annotations

import json
import os

import pytest
from zope.interface.verify import verifyObject

from postoffice.interfaces import IQueueRepair, PurgeCriteria
from postoffice.model.errors import TemporaryFailure
from postoffice.store import queue_files
from postoffice.testing import finish
from tests.store.journaled import (
    JOE,
    set_aside,
)
from tests.store.queued import (
    AWAY,
    FAR,
    SMALL,
    envelope,
    leftovers,
    open_files,
    posted,
    text_of,
)

pytestmark = pytest.mark.usefixtures("machine")


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
