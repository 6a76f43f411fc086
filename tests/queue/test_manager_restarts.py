"""What the queue manager knows after a restart, a kill, a reload or a disk error."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from postoffice.interfaces.relay import Undeliverable
from postoffice.model.errors import TemporaryFailure
from postoffice.model.queued_message import QueuedRecipient
from postoffice.outbound.schedule import DAY, HOUR, MINUTE
from postoffice.queue import manager
from postoffice.queue.queue_db import QueueDB
from postoffice.queue.selection import Selection
from postoffice.testing import finish
from tests.queue.scripted import LATER, NEVER, Office, Relay, message


def kinds(office):
    return [(letter.kind, letter.about) for letter in office.queue.letters]


def _fails(*_, **__):
    raise TemporaryFailure("no space left on device")


def test_a_reload_gives_a_smarthost_another_rate(office):
    office.relay.rate = (1, HOUR)
    for number in range(4):
        office.queue.commit(f"n{number}", message("a@x.example"))
    office.pass_time(2)
    assert len(office.relay.transactions) == 1
    office.relay.rate = (100, HOUR)
    office.use()
    office.pass_time(2)
    assert len(office.relay.transactions) == 4


@pytest.mark.parametrize("killed", [False, True])
def test_a_restart_sends_what_waits_when_it_is_due(tmp_path, killed):
    office = Office(str(tmp_path))
    office.start()
    office.relay.answers["a@x.example"] = LATER
    office.queue.commit("n1", message("a@x.example"))
    office.pass_time(2)
    office.restart(killed=killed)
    office.queue.commit("n2", message("b@x.example"))
    office.relay.answers.clear()
    office.pass_time(6 * MINUTE)
    assert not office.queue.there
    office.stop()


def test_after_a_restart_little_is_read_of_what_waits_for_a_server_that_is_down(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(manager, "PAGE", 5)
    office = Office(str(tmp_path))
    office.start()
    office.relay.down.add("x.example")
    for number in range(100):
        office.queue.commit(f"n{number}", message(f"u{number}@x.example"))
    office.pass_time(2)
    read = []
    reading = office.queue.read

    def noted(names):
        read.extend(names)
        return reading(names)

    office.queue.read = noted
    office.restart()
    office.pass_time(5)
    assert 0 < len(read) <= 10
    assert len(office.queue.there) == 100
    office.relay.down.clear()
    office.pass_time(HOUR, 30)
    assert not office.queue.there
    office.stop()


def test_a_stop_waits_for_what_is_being_sent(tmp_path):
    office = Office(str(tmp_path))
    office.start()
    office.relay.slow = True
    office.queue.commit("n1", message("a@x.example"))
    stopped = Deferred.fromCoroutine(office.manager.stop())
    assert not stopped.called
    office.relay.pauses[0].callback(None)
    assert stopped.called
    assert not office.queue.there


@pytest.mark.parametrize("killed", [False, True])
def test_a_restart_sends_also_what_was_in_memory_alone(tmp_path, killed):
    """One domain of a message has a row in ``queue.db``; others are being sent, or wait for it."""
    office = Office(str(tmp_path))
    office.start()
    office.relay.sites = dict.fromkeys(["x.example", "y.example", "z.example"], "mx")
    office.relay.answers = dict.fromkeys(["a@x.example", "b@y.example"], LATER)
    office.relay.slow = True
    office.queue.commit("n1", message("a@x.example", "b@y.example", "c@z.example"))
    stopped = None if killed else Deferred.fromCoroutine(office.manager.stop())
    for pause in office.relay.pauses[: 1 if killed else 2]:
        pause.callback(None)
    assert killed or stopped.called
    office.pass_time(2)
    office.relay.slow = False
    office.relay.answers.clear()
    office.restart(killed=True)
    office.pass_time(HOUR)
    assert not office.queue.there
    office.stop()


def test_a_kill_loses_no_letter_that_waits_for_room(tmp_path):
    """The store is full as a recipient is refused; another one of the message is to come later."""
    office = Office(str(tmp_path))
    office.start()
    office.relay.answers = {"a@x.example": NEVER, "b@y.example": LATER}
    office.queue.full = True
    office.queue.commit("n1", message("a@x.example", "b@y.example"))
    office.pass_time(2)
    office.queue.full = False
    office.restart(killed=True)
    office.relay.answers.clear()
    office.pass_time(HOUR)
    assert not office.queue.there
    office.stop()


@pytest.mark.parametrize("failing", ["read", "write"])
def test_a_disk_error_delays_what_is_due_and_no_more(office, monkeypatch, failing):
    """The store cannot be read, or ``queue.db`` not be written, as a message is due again."""
    office.relay.answers["a@x.example"] = LATER
    office.queue.commit("n1", message("a@x.example"))
    with monkeypatch.context() as broken:
        if failing == "read":
            broken.setattr(office.queue, "read", _fails)
            office.pass_time(6 * MINUTE)
        else:
            broken.setattr(QueueDB, "write", _fails)
            office.pass_time(2)
    office.relay.answers.clear()
    office.pass_time(2 * HOUR, MINUTE)
    assert not office.queue.there


def test_what_is_too_old_is_given_up_after_a_disk_error(office, monkeypatch):
    office.relay.down.add("x.example")
    office.queue.commit("n1", message("a@x.example"))
    office.pass_time(4 * DAY - MINUTE, HOUR)
    with monkeypatch.context() as broken:
        broken.setattr(office.queue, "read", _fails)
        office.pass_time(5 * MINUTE, 10)
    office.pass_time(5 * MINUTE, 10)
    assert kinds(office)[-1] == ("failed", ["a@x.example"])


def test_a_reload_sends_at_once_what_waited_for_a_dead_destination(office):
    """An administrator has given the domain another route."""
    office.relay.down.add("x.example")
    for number in range(30):
        office.queue.commit(f"n{number:02}", message("a@x.example"))
    office.pass_time(30 * MINUTE, 10)
    office.relay.sites["x.example"] = "smarthost"
    office.use()
    office.pass_time(5)
    assert not office.queue.there


@pytest.mark.parametrize("found", [True, False])
def test_a_reload_that_ends_lookups_costs_no_attempt(office, found):
    """Of the lookups of before, neither the results count nor the failures."""
    before = office.relay
    before.looking_up = Deferred()
    before.sites["x.example"] = "old"
    office.queue.commit("n1", message("a@x.example"))
    office.relay = Relay()
    office.use()
    office.queue.commit("n2", message("b@x.example"))
    if found:
        before.looking_up.callback(None)
    else:
        before.looking_up.errback(Undeliverable(LATER))
    office.pass_time(2)
    assert sorted(to for _, to in office.relay.transactions) == [["a@x.example"], ["b@x.example"]]
    assert not before.transactions


def test_recipients_that_a_reload_brings_together_are_all_sent(office):
    office.relay.ways["b@x.example"] = "other"
    office.relay.answers = dict.fromkeys(["a@x.example", "b@x.example"], LATER)
    office.queue.commit("n1", message("a@x.example", "b@x.example"))
    finish(office.manager.admin.hold(Selection(to="b@x.example"), "because"))
    office.relay.ways.clear()
    office.use()
    office.pass_time(20 * MINUTE)
    finish(office.manager.admin.release(Selection()))
    office.pass_time(10)
    office.relay.answers.clear()
    office.pass_time(2 * HOUR, 10)
    assert not office.queue.there


def test_what_comes_while_the_queue_starts_is_sent(tmp_path):
    office = Office(str(tmp_path))
    names = office.queue.names

    async def meanwhile():
        there = await names()
        office.queue.commit("n1", message("a@x.example"))
        return there

    office.queue.names = meanwhile
    office.start()
    office.pass_time(2)
    assert not office.queue.there
    office.stop()


def test_shares_are_counted_over_sending_removal_and_restart(office):
    shares = office.shares
    shares.limit(8, 8000, 25)  # 2 messages, 2000 octets
    mine = [QueuedRecipient(address="a@x.example")]
    office.relay.answers["a@x.example"] = LATER

    def is_full(login="ann@here.example"):
        return shares.refusal(login, mine) is not None

    assert not is_full()
    office.queue.commit("n1", message("a@x.example"))
    assert not is_full()
    office.queue.commit("n2", message("a@x.example"))
    assert is_full()
    assert not is_full("joe@here.example")
    for killed in (False, True):
        office.restart(killed=killed)
        assert is_full()
    finish(office.manager.admin.remove(Selection(ids=("m",), state="waiting")))
    assert not is_full()
    office.queue.commit("n3", message("a@x.example", size=3000))
    assert is_full(), "octets count, too"
    office.relay.answers.clear()
    office.pass_time(10 * MINUTE)
    assert not office.queue.there
    assert not is_full()
