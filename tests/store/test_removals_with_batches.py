"""What was sent leaves the queue with a batch that comes in: it needs no sync of its own."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.store.batcher import FILES, PATIENCE, REMOVALS, Batcher
from postoffice.store.drafts import Draft, QueueRemoval
from postoffice.testing import finish
from tests.store.journaled import JOE, Served
from tests.store.queued import begun, envelope, posted

pytestmark = pytest.mark.usefixtures("machine")


class Committer:
    """Commits when a test says so, and as it says."""

    def __init__(self):
        self.batches = []

    def commit_batch(self, wanted, removals=()):
        done = Deferred()
        self.batches.append((list(wanted), list(removals), done))
        return done

    def end(self, number, committed=True, error=None):
        wanted, removals, done = self.batches[number]
        for removal in removals:
            removal.committed = committed
        if error is None:
            done.callback([None] * len(wanted))
        else:
            done.errback(error)


@pytest.fixture
def batcher():
    committer = Committer()
    made = Batcher(committer, committer, lambda _: None, lambda _: None)
    return SimpleNamespace(batcher=made, committer=committer)


def draft():
    return Draft([], "name")


def removal(files=1):
    return QueueRemoval(None, ("path",) * files)


def outcomes(waiting):
    found = []
    for one in waiting:
        one.addBoth(found.append)
    return found


def test_removals_go_with_the_next_batch(batcher):
    for _ in range(3):
        batcher.batcher.commit(draft())
    waiting = [batcher.batcher.remove_too(removal()) for _ in range(3)]
    assert [len(removals) for _, removals, _ in batcher.committer.batches] == [0, 0]
    batcher.committer.end(0)
    assert [len(removals) for _, removals, _ in batcher.committer.batches] == [0, 0, 3]
    assert outcomes(waiting) == []
    batcher.committer.end(2)
    assert [one.result for one in waiting] == [None] * 3
    batcher.committer.end(1)


def test_without_a_batch_nobody_waits(batcher):
    """With none under way, or none that follows those under way."""
    assert batcher.batcher.remove_too(removal()).result is False
    batcher.batcher.commit(draft())
    assert batcher.batcher.remove_too(removal(FILES + 1)).result is False
    found = outcomes([batcher.batcher.remove_too(removal())])
    assert found == []
    batcher.committer.end(0)
    assert found == [False]


@pytest.mark.parametrize("error", [None, ValueError("the process has died")])
def test_a_removal_that_was_not_committed_is_told(batcher, error):
    for _ in range(3):
        batcher.batcher.commit(draft()).addErrback(lambda _: None)
    found = outcomes([batcher.batcher.remove_too(removal())])
    batcher.committer.end(0)
    batcher.committer.end(2, committed=False, error=error)
    assert found == [False]
    batcher.committer.end(1)


def test_a_batch_has_so_many_at_most_and_the_rest_goes_with_the_next(batcher):
    for _ in range(40):
        batcher.batcher.commit(draft())
    found = outcomes([batcher.batcher.remove_too(removal()) for _ in range(REMOVALS + 10)])
    batcher.committer.end(0)
    batcher.committer.end(1)
    assert [len(removals) for _, removals, _ in batcher.committer.batches] == [0, 0, REMOVALS, 10]
    batcher.committer.end(2)
    batcher.committer.end(3)
    assert found == [True] * (REMOVALS + 10)


async def _committed(committer, small, *removals):
    return await committer.commit_batch([small], removals)


def _counting(monkeypatch):
    syncs = []
    fdatasync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (syncs.append(fd), fdatasync(fd)))
    return syncs


def test_a_batch_and_removals_are_synced_once(tmp_path, monkeypatch):
    served = Served(tmp_path)
    queue = served.store.queue
    names = [posted(served.store, envelope()) for _ in range(5)]
    finish(queue.finish(names[0], [0], told=[0], whole=False))  # it has a mark, which goes too
    delivery = begun(served.store, envelope([JOE], remote=()), b"x\r\n")
    removals = [queue._removal(name) for name in names]
    [small] = finish(delivery.complete())
    syncs = _counting(monkeypatch)
    committer = served.store._batcher._small.committer
    assert finish(_committed(committer, small, *removals)) == [None]
    assert len(syncs) == 1
    assert all(one.committed and one.there for one in removals)
    assert list(tmp_path.glob(".queue/*/new/*")) == []
    delivery.end()


def test_a_message_that_cannot_be_unlinked_is_removed_by_a_checkpoint(tmp_path, monkeypatch):
    served = Served(tmp_path)
    name = posted(served.store, envelope())
    delivery = begun(served.store, envelope([JOE], remote=()), b"x\r\n")
    [small] = finish(delivery.complete())
    removal = served.store.queue._removal(name)
    unlink = os.unlink

    def refuse(path, *args, **named):
        if str(path).endswith(name):
            raise OSError(5, "an error of the disk", str(path))
        unlink(path, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        committer = served.store._batcher._small.committer
        assert finish(_committed(committer, small, removal)) == [None]
    assert removal.committed
    assert removal.there, "it has left the queue"
    delivery.end()
    served.checkpoint()
    assert list(tmp_path.glob(".queue/messages/new/*")) == []


def test_with_a_journal_one_batch_is_committed_at_a_time_unless_it_takes_long():
    clock, committer = Clock(), Committer()
    made = Batcher(committer, committer, lambda _: None, lambda _: None, clock=clock)

    def sizes():
        return [len(wanted) for wanted, _, _ in committer.batches]

    for _ in range(4):
        made.commit(draft())
    assert sizes() == [1]
    committer.end(0)
    assert sizes() == [1, 3], "those that came meanwhile"
    made.commit(draft())
    made.commit(draft())
    assert sizes() == [1, 3]
    clock.advance(PATIENCE)
    assert sizes() == [1, 3, 2]
    made.commit(draft())
    clock.advance(PATIENCE)
    assert sizes() == [1, 3, 2], "never more than two"
    committer.end(2)
    assert sizes() == [1, 3, 2, 1], "the first still takes long"
    committer.end(1)
    committer.end(3)
    assert not clock.getDelayedCalls()
    made.commit(draft())
    made.commit(draft())
    assert sizes() == [1, 3, 2, 1, 1], "one at a time again"
