"""Messages that are applied by a process of its own, while this one goes on."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList

from postoffice.daemon import process_executor
from postoffice.daemon.thread_executor import ThreadExecutor
from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import MaildropFull
from postoffice.model.queued_message import QueuedRecipient
from postoffice.store import batcher
from postoffice.store.batcher import BATCHES, MANY
from postoffice.store.journal.segments import StateFile
from postoffice.store.maildir_store import MaildirStore
from tests.conftest import turn_until
from tests.store.journaled import ANN, JOE, envelope, text_of, there


class Busy:
    """A store with threads and a process, in the reactor that is there."""

    def __init__(self, root, **named):
        self.executor = ThreadExecutor(reactor, 3, "disk")
        self.executor.start()
        self.store = MaildirStore(
            str(root),
            self.executor,
            hostname="mail.example.net",
            clock=reactor,
            child_process=process_executor.maker(reactor),
            **named,
        )
        done(self.store.start())
        self.store_process = self.store._store_process

    def stop(self):
        done(self.store.stop())
        done(self.executor.stop())

    def post(self, *whose, apart=False):
        """Messages at the same time, each of a token and for an envelope; what came of each."""
        deliveries = []
        for token, to in whose:
            delivery = done(self.store.begin(to))
            done(delivery.write(text_of(token)))
            deliveries.append(delivery)
        commits = [one.commit_each() if apart else one.commit() for one in deliveries]
        outcomes = DeferredList(map(Deferred.fromCoroutine, commits), consumeErrors=True)
        return [getattr(result, "value", result) for _, result in done(outcomes)]

    def call_the_placer(self):
        self.post(*((f"before-{n}", envelope(ANN)) for n in range(40)))
        turn_until(lambda: self.store_process.ready)

    @property
    def pid(self):
        return self.store_process._process.transport.pid


def done(awaited):
    outcome = []
    if not isinstance(awaited, Deferred):
        awaited = Deferred.fromCoroutine(awaited)
    awaited.addBoth(outcome.append)
    turn_until(lambda: outcome)
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


def has_ended(pid):
    """It has, or does so at once; also where nobody has asked yet how it ended."""
    try:
        end = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    poll = select.poll()
    poll.register(end, select.POLLIN)
    ended = poll.poll(60_000)
    os.close(end)
    return bool(ended)


def limited(quota, *names):
    recipients = [
        Recipient(Address.parse(name), Account(name, name, quota=quota)) for name in names
    ]
    return Envelope("id.1", Client(), recipients=recipients)


@pytest.fixture(params=["journal", "files"])
def busy(request, root, machine):
    made = []

    def busy(**named):
        made.append(Busy(root, durability=request.param, **named))
        return made[-1]

    yield busy
    for one in made:
        one.stop()


def test_a_process_comes_when_many_do_and_places_from_then_on(busy, root):
    office = busy()
    office.post(*((f"few-{n}", envelope(JOE)) for n in range(MANY - 1)))
    assert not office.store_process.ready
    office.call_the_placer()
    pid = office.pid
    assert office.post(("one", envelope(JOE)), ("both", envelope(JOE, ANN))) == [None, None]
    assert {"one", "both"} < set(there(root))
    assert "both" in there(root, ANN)
    # what it does is its own: of what it opened only folders stay open, and it goes at the end
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    assert not [link for link in links if "example.net" in link and not os.path.isdir(link)]
    office.post(("large", envelope(JOE)))  # a streamed one is applied here
    done(office.store.stop())
    assert "large" in there(root)
    assert has_ended(pid)
    done(office.store.start())


def test_it_knows_quotas_and_says_what_each_maildrop_missed(busy, root):
    office = busy(levels=[50])
    office.call_the_placer()
    full = Quota(messages=1, over="reject")
    both = office.post(("a", limited(full, JOE)), ("b", limited(full, JOE)))
    assert set(map(type, both)) == {type(None), MaildropFull}
    mixed = limited(full, JOE)
    mixed.recipients.extend(envelope(ANN).recipients)
    [(of_joe, of_ann)] = office.post(("each", mixed), apart=True)
    assert (type(of_joe), of_ann) == (MaildropFull, None)
    assert "each" in there(root, ANN)
    turn_until(lambda: len(list(root.glob("example.net/joe/new/*"))) == 2)  # he is told of it


def test_it_puts_messages_into_the_queue_too(busy, root):
    office = busy()
    office.call_the_placer()
    queue, came = office.store.queue, []
    queue.watch(lambda name, message: came.append((name, message)))
    far = [QueuedRecipient(address="far@example.org")]
    mixed, remote, each = envelope(JOE), envelope(), limited(Quota(10, 0, "reject"), JOE)
    for one in (mixed, remote, each):
        one.queued.extend(far)
    assert office.post(("mixed", mixed), ("remote", remote)) == [None, None]
    [(full, queued)] = office.post(("each", each), apart=True)
    assert (type(full), queued) == (MaildropFull, None)
    assert [one for one in there(root) if "before" not in one] == ["mixed"]
    names = done(queue.names())
    assert len(names) == done(queue.usage())[0] == 3
    assert sorted(came) == sorted(zip(names, done(queue.read(names)), strict=True))
    done(queue.finish(names[0], [], [0], whole=False))
    assert done(queue.read(names[:1]))[0].told == {0}
    assert office.store_process.ready


def test_when_it_is_killed_nothing_is_lost_and_mail_goes_on(busy, root, logged, monkeypatch):
    monkeypatch.setattr(batcher, "PATIENCE", 600)
    office = busy()
    lost = 1 if office.store._journal.durability == "journal" else BATCHES
    office.call_the_placer()
    os.kill(office.pid, signal.SIGSTOP)
    tokens = [f"of-{n}" for n in range(6)]
    commits = []
    for token in tokens:
        delivery = done(office.store.begin(envelope(JOE)))
        done(delivery.write(text_of(token)))
        commits.append(Deferred.fromCoroutine(delivery.commit()))
    os.kill(office.pid, signal.SIGKILL)
    outcomes = [success for success, _ in done(DeferredList(commits, consumeErrors=True))]
    assert outcomes == [False] * lost + [True] * (6 - lost), "who waited is applied here"
    assert not office.store_process.ready
    assert any("process for store failed" in line for line in logged)
    later = [f"later-{n}" for n in range(MANY)]
    assert office.post(*((token, envelope(JOE)) for token in later)) == [None] * MANY
    mail = there(root)
    assert len(mail) == len(set(mail))
    assert set(mail) - set(tokens[:lost]) == {*tokens[lost:], *later}


def test_a_bug_in_it_is_told_and_costs_a_message(busy, logged):
    office = busy()
    office.call_the_placer()
    delivery = done(office.store.begin(envelope(JOE)))
    delivery._draft.refs = ["no place"]
    done(delivery.write(text_of("x")))
    with pytest.raises(AttributeError):
        done(delivery.commit())
    assert any("a bug in the store process" in line for line in logged)


def test_nothing_waits_in_the_journal_behind_a_stop(root, machine):
    office = Busy(root, durability="journal")
    office.call_the_placer()
    office.post(*((f"m-{n}", envelope(JOE)) for n in range(10)))
    state = StateFile(f"{root}/.journal/state")
    assert state.read().pending()
    office.stop()
    assert not state.read().pending()
    state.close()


def test_a_batch_that_is_larger_than_the_shared_memory_is_committed_all_the_same(
    busy, root, monkeypatch
):
    one = busy()
    one.call_the_placer()
    monkeypatch.setattr("postoffice.store.batcher.AREA", 100)
    assert one.post(*((f"large-{n}", envelope(ANN)) for n in range(MANY))) == [None] * MANY
    assert {f"large-{n}" for n in range(MANY)} <= set(there(root, ANN))
