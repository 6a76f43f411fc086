"""Several sessions that end at the same time share a commit, and nothing else."""

from __future__ import annotations

import errno
import os

import pytest
from twisted.internet.defer import Deferred

from postoffice.model.errors import TemporaryFailure
from postoffice.store import maildir
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish
from tests.store.journaled import (
    ANN,
    JOE,
    calling_first,
    folder_of,
    raising,
    state_of,
    there,
)

BOB = "bob@example.net"
PEOPLE = (JOE, ANN, BOB)


@pytest.fixture
def office(served):
    """Three maildrops with a message each, and an executor that waits until it is told."""
    first = served()
    for person in PEOPLE:
        first.post("t", person)
    first.stop()
    executor = ManualExecutor()
    one = served(executor=executor, undelete=1000.0, undelete_size=0)
    for person in PEOPLE:
        one.store._context.pace.get_to_know(str(folder_of(one.root, person)))
    yield one, executor
    executor.work_on()
    executor.run = ImmediateExecutor().run


def quitting(one, person):
    """A session that has deleted all, and is at its end."""
    maildrop = one.store.maildrop(person)
    listing = finish(maildrop.open())
    ending = Deferred.fromCoroutine(maildrop.remove(list(listing.entries)))
    maildrop.release()
    ending.addErrback(lambda failure: failure.value)
    return ending


def appended(root):
    """How many batches the journal has had since the store began to be served."""
    return sum(state_of(root).counts)


def kept(root, person):
    domain, local = os.path.split(folder_of(root, person))
    return sum(len(files) for _, _, files in os.walk(f"{domain}/.vault/{local}"))


def test_those_that_come_during_a_commit_go_into_the_next_one(office, root):
    one, executor = office
    before = appended(root)
    first, *others = [quitting(one, person) for person in PEOPLE]
    assert len(executor.waiting) == 1
    executor.work()
    assert first.called
    assert not any(other.called for other in others)
    assert len(there(root, ANN)) == 1, "nothing goes before it is committed"
    executor.work()
    assert [other.result for other in others] == [None, None]
    assert not any(there(root, person) for person in PEOPLE)
    assert [kept(root, person) for person in PEOPLE] == [1, 1, 1]
    assert appended(root) - before == 2
    one.checkpoint()
    executor.work_on()
    assert not state_of(root).pending()


def test_a_commit_that_fails_fails_for_all_of_it(office, root, monkeypatch):
    one, executor = office
    first, *others = [quitting(one, person) for person in PEOPLE]
    executor.work()
    with monkeypatch.context() as patch:
        calling_first(patch, os, "fdatasync", raising(errno.EIO))
        executor.work()
    assert first.result is None
    assert all(isinstance(other.result, TemporaryFailure) for other in others)
    assert [len(there(root, person)) for person in PEOPLE] == [0, 1, 1]
    again = [quitting(one, person) for person in PEOPLE[1:]]
    executor.work_on()
    assert [ending.result for ending in again] == [None, None]
    assert not any(there(root, person) for person in PEOPLE)


def test_where_one_of_a_commit_cannot_be_applied_a_checkpoint_does_it_and_not_before(
    office, root, monkeypatch
):
    one, executor = office
    endings = [quitting(one, person) for person in PEOPLE]
    executor.work()
    ann = str(folder_of(root, ANN))
    with monkeypatch.context() as patch:
        no = raising(errno.EIO, lambda folder, *_, **__: folder == ann)
        calling_first(patch, maildir, "_take_all", no)
        executor.work()
    assert [ending.result for ending in endings] == [None, None, None]
    assert [len(there(root, person)) for person in PEOPLE] == [0, 1, 0]
    one.checkpoint()
    executor.work_on()
    assert there(root, ANN) == []
    assert kept(root, ANN) == 1
    assert not state_of(root).pending()
