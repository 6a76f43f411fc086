"""What the queue of every store must keep (``interfaces.IMailQueue``)."""

from __future__ import annotations

import runpy
from datetime import UTC, datetime

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from postoffice.interfaces import IMailQueue, IQueuedDelivery, IQueueStore
from postoffice.model.address import Account, Address, Quota
from postoffice.model.envelope import Client, Envelope
from postoffice.model.errors import MaildropFull, MessageGone, NoSpace, TemporaryFailure
from postoffice.model.queued_message import QueuedRecipient
from postoffice.store.journal import filesystem
from postoffice.store.maildir_store import MaildirStore
from postoffice.store.memory import MemoryStore
from postoffice.store.separate_queue import StoreWithQueue
from postoffice.testing import ImmediateExecutor, finish
from tests.contracts.test_store import SHELF, contents

JOE, ANN = "joe@example.net", "ann@example.net"
FAR, AWAY = "far@example.org", "away@example.com"
SMALL = Quota(10, 0, "reject")
#: One that stays in memory until it is committed, and one that is written as it comes.
TEXTS = [b"Subject: x\r\n\r\n.hi\r\n", b"large\r\n" * 100_000]


class Shelf(StoreWithQueue):
    """The store in the manual, which has no queue, and one beside it."""

    def __init__(self, path, beside):
        shelf = runpy.run_path(str(SHELF))["ShelfStore"](str(path), ImmediateExecutor())
        super().__init__(shelf, beside)
        self.maildrop = shelf.maildrop

    async def start(self):
        await self._store.start()
        await super().start()

    async def stop(self):
        await super().stop()
        await self._store.stop()


@pytest.fixture(params=["memory", "maildir files", "maildir journal", "beside a shelf"])
def make_store(request, tmp_path, monkeypatch):
    """Start a store; again, it is the one of before."""
    monkeypatch.setattr(filesystem, "file_system", lambda path: "ext4")  # no power fails here
    started = []

    def make(messages: int = 0):
        kind, _, durability = request.param.partition(" ")
        if kind == "memory":
            store = started[0] if started else MemoryStore(queued=messages)
        else:
            store = MaildirStore(
                str(tmp_path / "store"),
                ImmediateExecutor(),
                hostname="mail.example.net",
                clock=Clock(),
                durability=durability if kind == "maildir" else "journal",
                segment=4 << 20,
                queue=(messages, 0),
            )
            store = store if kind == "maildir" else Shelf(tmp_path / "shelf.db", store)
        if store not in started:
            finish(store.start())
            started.append(store)
        return store

    def twice():
        """The store, and then as it is after a stop and a start."""
        yield started[0]
        if request.param != "memory":
            finish(started.pop().stop())
        yield make()

    make.twice = twice
    yield make
    for store in started:
        finish(store.stop())


@pytest.fixture
def store(make_store):
    return make_store()


def envelope(local=(), remote=(FAR,), sender="ann@example.net", quota=None, **more) -> Envelope:
    parsed = Address.parse(sender) if sender else None
    letter = Envelope("id.1", Client(), sender=parsed, login="ann", **more)
    for name in local:
        letter.add_recipients(
            Address.parse(name), [Account(name, name, quota=quota or Quota(0, 0, "reject"))]
        )
    for name in remote:
        letter.add_recipients(Address.parse(name), [], [QueuedRecipient(address=name)])
    return letter


def begun(store, letter: Envelope, text: bytes):
    delivery = finish(store.begin(letter))
    trace = letter.trace("mail.example.net", datetime.now(UTC))
    for start in range(0, len(trace + text), 60_000):
        finish(delivery.write((trace + text)[start : start + 60_000]))
    return delivery


def posted(store, letter: Envelope, text: bytes = TEXTS[0]) -> list[str]:
    """Commit a message; the names that came into the queue."""
    before = finish(store.queue.names())
    finish(begun(store, letter, text).commit())
    return [name for name in finish(store.queue.names()) if name not in before]


def text_of(store, name: str) -> bytes:
    text = finish(store.queue.text(name))
    octets = b""
    while piece := finish(text.read()):
        octets += piece
    text.close()
    text.close()
    return octets


def needs_quotas(store) -> None:
    if isinstance(store, Shelf):
        pytest.skip("it has no quotas")


def read(store, *names: str):
    return finish(store.queue.read(names))


def test_it_provides_what_it_says(store):
    assert verifyObject(IQueueStore, store)
    assert verifyObject(IMailQueue, store.queue)
    assert finish(store.queue.names()) == []
    assert finish(store.queue.usage()) == (0, 0)
    assert read(store, "nobody") == [None]
    with pytest.raises(MessageGone):
        finish(store.queue.text("nobody"))


@pytest.mark.parametrize("text", TEXTS, ids=len)
@pytest.mark.parametrize("local", [(), (JOE,), (JOE, ANN)], ids=len)
def test_a_message_goes_into_the_queue_and_the_maildrops(store, make_store, local, text):
    came = []
    store.queue.watch(lambda *what: came.append(what))
    [name] = posted(store, envelope(local, [FAR, AWAY]), text)
    for each in make_store.twice():
        [message] = read(each, name)
        assert [one.address for one in message.recipients] == [FAR, AWAY]
        assert (message.id, message.sender, message.login) == ("id.1", "ann@example.net", "ann")
        sent = text_of(each, name)
        assert len(sent) == message.octets
        assert sent.startswith(b"Received: ")
        assert sent.endswith(text)
        for one in local:
            assert contents(each, one) == [b"Return-Path: <ann@example.net>\r\n" + sent]
        assert finish(each.queue.usage())[0] == 1
    assert came == [(name, message)]


@pytest.mark.parametrize("text", TEXTS, ids=len)
def test_what_was_put_before_the_trace_fields_is_sent(store, text):
    delivery = begun(store, envelope([JOE]), text)
    finish(delivery.prepend(b"X-Second: 2\r\n"))
    finish(delivery.prepend(b"X-First: 1\r\n"))
    finish(delivery.commit())
    [name] = finish(store.queue.names())
    sent = text_of(store, name)
    assert sent.startswith(b"X-First: 1\r\nX-Second: 2\r\nReceived: ")
    assert sent.endswith(text)
    assert len(sent) == read(store, name)[0].octets


def test_a_text_without_trace_fields_is_sent_whole(store):
    delivery = finish(store.begin(envelope()))
    finish(delivery.write(TEXTS[0]))
    finish(delivery.commit())
    assert text_of(store, finish(store.queue.names())[0]) == TEXTS[0]


def test_what_is_aborted_is_not_queued(store):
    begun(store, envelope([JOE]), TEXTS[1]).abort()
    assert finish(store.queue.names()) == []


def test_a_full_maildrop_keeps_a_message_out_of_the_queue_too(store):
    needs_quotas(store)
    delivery = begun(store, envelope([JOE], quota=SMALL), TEXTS[0])
    with pytest.raises(MaildropFull):
        finish(delivery.commit())
    assert finish(store.queue.names()) == []
    assert contents(store, JOE) == []


@pytest.mark.parametrize("text", TEXTS, ids=len)
def test_the_queue_has_the_last_of_the_outcomes(store, text):
    needs_quotas(store)
    delivery = begun(store, envelope([JOE], quota=SMALL), text)
    full, queued = finish(delivery.commit_each())
    assert isinstance(full, MaildropFull)
    assert queued is None
    [name] = finish(store.queue.names())
    assert text_of(store, name).endswith(text)
    assert contents(store, JOE) == []
    [alone] = finish(begun(store, envelope(), text).commit_each())
    assert alone is None
    assert len(finish(store.queue.names())) == 2


def test_names_are_in_the_order_of_arrival(store):
    names = [posted(store, envelope())[0] for _ in range(20)]
    assert finish(store.queue.names()) == names
    assert len(read(store, *names, "nobody")) == 21


def test_what_is_finished_or_told_is_marked_and_stays_so(store, make_store):
    [name] = posted(store, envelope((), [FAR, AWAY]))
    finish(store.queue.finish(name, [0], whole=False))
    finish(store.queue.finish(name, [], [1], whole=False))
    for each in make_store.twice():
        [message] = read(each, name)
        assert (message.done, message.told, message.left) == ({0}, {1}, [1])
    finish(each.queue.finish(name, [1], whole=True))
    finish(each.queue.finish(name, [1], whole=True))  # once more is no error
    for last in make_store.twice():
        assert read(last, name) == [None]
        assert finish(last.queue.names()) == []
        assert finish(last.queue.usage()) == (0, 0)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("text", TEXTS, ids=len)
def test_letters_are_committed_with_what_they_report(store, make_store, whole, text):
    [name] = posted(store, envelope((), [FAR, AWAY]))
    letters = [
        begun(store, envelope([ANN], [], sender=""), b"to ann\r\n" + text),
        begun(store, envelope([], [AWAY], sender=""), b"to away\r\n" + text),
        begun(store, envelope([JOE], [FAR], sender=""), b"to both\r\n" + text),
    ]
    came = []
    store.queue.watch(lambda name, message: came.append(name))
    finish(store.queue.finish(name, [0], letters=letters, whole=whole))
    for each in make_store.twice():
        for one, what in ((ANN, b"to ann\r\n"), (JOE, b"to both\r\n")):
            [letter] = contents(each, one)
            assert letter.endswith(what + text)
        left = finish(each.queue.names())
        assert (name in left) is not whole
        assert len(left) == (2 if whole else 3)
        assert sorted(came) == sorted(set(left) - {name})
        if not whole:
            assert read(each, name)[0].done == {0}
        assert finish(each.queue.usage())[0] == len(left)


def test_a_letter_that_does_not_fit_leaves_all_as_it_was(store, make_store):
    needs_quotas(store)
    if isinstance(store, MemoryStore):
        pytest.skip("one letter after the other")
    [name] = posted(store, envelope((), [FAR, AWAY]))
    for whole in (True, False):
        letters = [
            begun(store, envelope([JOE], [AWAY], sender=""), b"fits\r\n"),
            begun(store, envelope([ANN], [], sender="", quota=SMALL), TEXTS[1]),
        ]
        with pytest.raises(MaildropFull):
            finish(store.queue.finish(name, [0], letters=letters, whole=whole))
    for each in make_store.twice():
        assert contents(each, JOE) == contents(each, ANN) == []
        assert finish(each.queue.names()) == [name]
        assert read(each, name)[0].done == set()
        assert finish(each.queue.usage())[0] == 1


def test_what_is_set_aside_is_out_of_the_queue(store, make_store):
    [name] = posted(store, envelope([JOE], [FAR, AWAY]))
    finish(store.queue.finish(name, [0], whole=False))
    finish(store.queue.set_aside(name, "it makes us fail"))
    for each in make_store.twice():
        assert finish(each.queue.names()) == []
        assert read(each, name) == [None]
        assert finish(each.queue.usage()) == (0, 0)
        assert len(contents(each, JOE)) == 1


def test_a_full_queue_takes_letters_of_ours_only(make_store):
    store = make_store(1)
    posted(store, envelope())
    with pytest.raises(NoSpace) as caught:
        finish(store.begin(envelope([JOE])))
    assert caught.value.reply.code == 452
    assert caught.value.reply.status == "4.3.1"
    finish(store.begin(envelope([JOE], [])))
    assert posted(store, envelope(sender=""))
    for name in finish(store.queue.names()):
        finish(store.queue.finish(name, [0], whole=True))
    posted(store, envelope())


def test_one_watcher_that_fails_harms_nobody(store, failures):
    if isinstance(store, MemoryStore):
        pytest.skip("it has no clients to protect")
    came = []

    def fails(name, message):
        raise RuntimeError(name)

    store.queue.watch(fails)
    store.queue.watch(lambda name, message: came.append(name))
    [name] = posted(store, envelope())
    assert came == [name]
    assert [failure.type for failure in failures] == [RuntimeError]
    failures.clear()


# -- beside a store without a queue ----------------------------------------------------------


@pytest.fixture
def shelf(make_store, request):
    store = make_store()
    if not isinstance(store, Shelf):
        pytest.skip("one commit is for both")
    return store


@pytest.mark.parametrize("commit", ["commit", "commit_each"])
def test_what_the_maildrops_refuse_leaves_the_queue_before_anybody_sends_it(
    shelf, commit, monkeypatch
):
    came = []
    shelf.queue.watch(lambda name, message: came.append(name))
    delivery = begun(shelf, envelope([JOE]), TEXTS[0])

    async def fail():
        assert len(finish(shelf.queue.names())) == 1, "the queue comes first"
        raise TemporaryFailure("the disk is full")

    monkeypatch.setattr(delivery.local, commit, fail)
    with pytest.raises(TemporaryFailure):
        finish(getattr(delivery, commit)())
    assert finish(shelf.queue.names()) == []
    assert came == []
    [name] = posted(shelf, envelope([JOE]))
    assert came == [name]


def test_what_the_queue_refuses_is_in_no_maildrop(shelf, monkeypatch):
    delivery = begun(shelf, envelope([JOE]), TEXTS[0])

    async def fail():
        raise TemporaryFailure("the disk is full")

    monkeypatch.setattr(delivery.queued, "commit", fail)
    with pytest.raises(TemporaryFailure):
        finish(delivery.commit())
    assert contents(shelf, JOE) == []


@pytest.mark.parametrize("text", TEXTS, ids=["small", "large"])
@pytest.mark.parametrize("each", [False, True])
def test_a_message_can_stay_here_after_all(store, text, each):
    """It was marked as spam when its text was complete."""
    letter = envelope([JOE])
    delivery = begun(store, letter, text)
    assert verifyObject(IQueuedDelivery, delivery)
    finish(delivery.prepend(b"X-Spam: yes\r\n"))
    delivery.withdraw()
    letter.withdraw()
    if each:
        assert finish(delivery.commit_each()) == [None]
    else:
        finish(delivery.commit())
    assert finish(store.queue.names()) == []
    assert finish(store.queue.usage()) == (0, 0)
    [here] = contents(store, JOE)
    assert here.endswith(text)
    assert here.startswith(b"X-Spam: yes\r\n")
    assert letter.named == [(0,), ()]
