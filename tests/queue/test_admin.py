"""What an administrator does with the queue, while a daemon runs and while none does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from postoffice.daemon.queue_control import QueueControl
from postoffice.interfaces.relay import Undeliverable
from postoffice.model.errors import TemporaryFailure
from postoffice.outbound.schedule import HOUR, MINUTE
from postoffice.queue import admin
from postoffice.queue.admin import QueueAdmin
from postoffice.queue.pending_rows import PendingRows
from postoffice.queue.queue_db import QueueDB
from postoffice.queue.selection import STATES, Selection, state_of
from postoffice.testing import ImmediateExecutor, finish
from tests.queue.scripted import LATER, SILENT, Office, message

ALL = Selection()


def waiting(office, *addresses, name="n1", **facts):
    """Let a message wait that was refused for now."""
    office.relay.answers |= dict.fromkeys(addresses, LATER)
    office.queue.commit(name, message(*addresses, id=name, **facts))


def select(office, **facts):
    return finish(office.manager.admin.select(Selection(**facts)))


def test_what_waits_is_listed_with_its_last_reply(office):
    waiting(office, "a@x.example")
    [row] = select(office)
    assert (row.id, row.recipients, row.attempts) == ("n1", "a@x.example", 1)
    assert row.reply == LATER.text
    assert state_of(row.next, row.held) == "waiting"


def test_what_is_being_sent_is_listed(office):
    office.relay.slow = True
    office.queue.commit("n1", message("a@x.example"))
    [row] = select(office, state="sending")
    assert row.recipients == "a@x.example"


def test_what_nobody_answers_for_is_listed(office):
    office.relay.down.add("x.example")
    office.queue.commit("n1", message("a@x.example"))
    [row] = select(office, state="unreachable")
    assert row.reply == SILENT.text


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, {"n1", "n2", "n3"}),
        ({"to": "x.example"}, {"n1", "n3"}),
        ({"to": "A@x.example"}, {"n1"}),
        ({"to": "_.example"}, set()),
        ({"sender": "here.example"}, {"n1", "n3"}),
        ({"sender": "<>"}, {"n2"}),
        ({"login": "ann@here.example"}, {"n1", "n3"}),
        ({"ids": ("n2", "n3")}, {"n2", "n3"}),
        ({"state": "held"}, set()),
        ({"to": "x.example", "ids": ("n3", "n2")}, {"n3"}),
    ],
)
def test_messages_are_selected(office, facts, found):
    waiting(office, "a@x.example", name="n1")
    waiting(office, "b@y.example", name="n2", sender="", login="")
    waiting(office, "c@x.example", name="n3")
    assert {row.id for row in select(office, **facts)} == found


def test_retry_tries_at_once_what_is_reachable_again(office):
    office.relay.down.add("x.example")
    office.queue.commit("n1", message("a@x.example"))
    waiting(office, "b@y.example", name="n2")
    office.pass_time(2)
    office.relay.down.clear()
    office.relay.answers.clear()
    assert len(finish(office.manager.admin.retry(ALL))) == 2
    office.pass_time(2)
    assert not office.queue.there


def test_hold_and_release(office):
    waiting(office, "a@x.example")
    assert len(finish(office.manager.admin.hold(ALL, "looked at"))) == 1
    office.relay.answers.clear()
    office.pass_time(3 * HOUR, MINUTE)
    assert office.queue.there
    assert [row.held for row in select(office, state="held")] == ["looked at"]
    assert len(finish(office.manager.admin.release(ALL))) == 1
    office.pass_time(2)
    assert not office.queue.there


def test_what_is_called_sending_and_waits_for_a_connection_is_held(office):
    office.relay.slow = True
    for number in range(5):
        office.queue.commit(f"n{number}", message("a@x.example", id=f"n{number}"))
    held = finish(office.manager.admin.hold(Selection(state="sending"), "stop"))
    assert len(held) == 5 - len(office.relay.pauses)


def test_what_waits_in_memory_for_a_connection_is_held_too(office):
    office.relay.slow = True
    for number in range(5):
        office.queue.commit(f"n{number}", message("a@x.example", id=f"n{number}"))
    held = finish(office.manager.admin.hold(ALL, "stop"))
    assert len(held) == 5 - len(office.relay.pauses)
    office.relay.slow = False
    for pause in office.relay.pauses:
        pause.callback(None)
    office.pass_time(60)
    assert len(office.queue.there) == len(held)


def test_remove_tells_nobody(office):
    waiting(office, "a@x.example", "b@y.example")
    finish(office.manager.admin.remove(Selection(to="x.example")))
    assert office.queue.there["n1"].left == [1]
    finish(office.manager.admin.remove(ALL))
    assert not office.queue.there
    assert not office.queue.letters
    assert not select(office)


def test_bounce_tells_the_sender(office):
    waiting(office, "a@x.example")
    finish(office.manager.bounce(ALL))
    assert [(letter.kind, letter.about) for letter in office.queue.letters] == [
        ("failed", ["a@x.example"])
    ]
    assert not office.queue.there


def test_a_paused_domain_waits_over_a_restart(office):
    finish(office.manager.pauses.pause("x.example", 0.0))
    office.queue.commit("n1", message("a@x.example", "b@y.example"))
    [row] = select(office, state="paused")
    assert (row.recipients, state_of(row.next, row.held)) == ("a@x.example", "paused")
    assert not select(office, state="unreachable")
    assert not select(office, state="waiting")
    office.restart()
    office.pass_time(HOUR, MINUTE)
    assert office.relay.transactions == [("m", ["b@y.example"])]
    assert finish(office.manager.pauses.resume("x.example", 0.0))
    office.pass_time(2)
    assert not office.queue.there
    assert not finish(office.manager.pauses.resume("x.example", 0.0))


def test_messages_are_counted_in_the_states_in_which_they_are_listed(office):
    finish(office.manager.pause("paused.example"))
    office.relay.down.add("down.example")
    waiting(office, "a@x.example", name="n1")
    waiting(office, "a@held.example", name="n2", held="by a limit")
    office.queue.commit("n3", message("a@paused.example", id="n3"))
    office.queue.commit("n4", message("a@down.example", id="n4"))
    office.relay.slow = True
    office.queue.commit("n5", message("a@slow.example", id="n5"))
    assert finish(office.manager.admin.states()) == dict.fromkeys(STATES, 1)
    for state in STATES:
        assert [state_of(row.next, row.held) for row in select(office, state=state)] == [state]


def test_a_recipient_with_a_space_is_found(office):
    waiting(office, '"a b"@x.example')
    assert len(select(office, to='"A b"@x.example')) == 1


def test_everything_is_paused(office):
    finish(office.manager.pauses.pause("*", 0.0))
    office.queue.commit("n1", message("a@x.example"))
    office.pass_time(HOUR, MINUTE)
    assert not office.relay.transactions
    finish(office.manager.pauses.resume("*", 0.0))
    office.pass_time(2)
    assert not office.queue.there


def test_without_a_daemon(tmp_path):
    office = Office(str(tmp_path))
    office.start()
    waiting(office, "a@x.example", name="n1")
    waiting(office, "b@y.example", name="n2")
    office.stop()
    db = QueueDB(str(tmp_path / "queue.db"))
    db.open()
    offline = QueueAdmin(office.queue, db, PendingRows(db, ImmediateExecutor()))
    finish(offline.hold(Selection(to="x.example"), "away"))
    finish(offline.remove(Selection(to="y.example")))
    assert [row.held for row in finish(offline.select(ALL))] == ["away"]
    db.close()
    assert list(office.queue.there) == ["n1"]


def test_a_destination_with_a_mistake_of_ours_is_tried_when_it_is_mended(office):
    office.relay.nowhere["x.example"] = Undeliverable(LATER)
    office.queue.commit("n1", message("a@x.example"))
    office.relay.nowhere.clear()
    finish(office.manager.admin.retry(ALL))
    office.pass_time(2)
    assert not office.queue.there


def test_a_message_that_is_being_sent_is_not_removed(office):
    office.relay.slow = True
    office.queue.commit("n1", message("a@x.example"))
    removed = Deferred.fromCoroutine(office.manager.admin.remove(ALL))
    assert removed.result == []
    assert office.queue.there


@given(
    st.builds(
        Selection,
        ids=st.lists(st.text("ab%_\\'", max_size=4), max_size=3).map(tuple),
        to=st.text("ab.@%_\\' ", max_size=8),
        sender=st.text("ab.@%_\\'<>", max_size=8),
        login=st.text("ab.@'", max_size=8),
        state=st.sampled_from(["", "held", "waiting", "sending", "unreachable"]),
    )
)
def test_a_selection_is_carried_to_the_daemon_and_is_sql(selection):
    assert Selection.read(selection.write()) == selection
    db = QueueDB(":memory:")
    try:
        db.open()
        assert list(db.find(*selection.sql())) == []
    finally:
        db.close()


@pytest.mark.parametrize("do", ["bounce", "remove", "hold"])
def test_what_is_changed_is_not_sent_meanwhile(office, monkeypatch, do):
    """The daemon looks for what is due while an administrator's command reads the messages."""
    office.relay.slow = True
    for number in range(4):
        office.queue.commit(f"n{number}", message("a@x.example", id=f"m{number}"))
    reads = office.queue.read

    async def read(names):
        monkeypatch.setattr(office.queue, "read", reads)
        office.pass_time(5)
        return await reads(names)

    monkeypatch.setattr(office.queue, "read", read)
    before = list(office.relay.transactions)
    manager = office.manager
    chosen = Selection(ids=("m2", "m3"))
    works = {
        "bounce": lambda: manager.bounce(chosen),
        "remove": lambda: manager.admin.remove(chosen),
        "hold": lambda: manager.admin.hold(chosen, "because"),
    }
    assert {row.id for row in finish(works[do]())} == {"m2", "m3"}
    office.pass_time(5)
    assert office.relay.transactions == before


def test_a_message_that_cannot_be_read_is_not_lost_by_a_command(office, monkeypatch):
    office.relay.answers["a@x.example"] = LATER
    office.queue.commit("n1", message("a@x.example"))

    async def fails(names):
        raise TemporaryFailure("no space")

    with monkeypatch.context() as broken:
        broken.setattr(office.queue, "read", fails)
        for work in (office.manager.bounce, office.manager.admin.remove):
            with pytest.raises(TemporaryFailure):
                finish(work(Selection()))
    office.relay.answers.clear()
    office.pass_time(HOUR)
    assert office.relay.transactions[1:] == [("m", ["a@x.example"])]


def test_what_waits_is_read_page_by_page(office):
    for number in range(5):
        waiting(office, f"a{number}@x.example", name=f"n{number}")
    admin, after, found = office.manager.admin, ("", ""), []
    while page := finish(admin.page(ALL, after, 2)):
        assert len(page) <= 2
        found += [row.id for row in page]
        after = page[-1].name, page[-1].lane
    assert found == [f"n{number}" for number in range(5)]
    assert finish(admin.count(ALL)) == 5
    finish(admin.hold(Selection(ids=("n0",)), "for a test"))
    assert finish(admin.states()) == {"held": 1, "waiting": 4}
    assert finish(admin.page(Selection(to="a3@x.example")))[0].id == "n3"


def test_very_many_are_removed_in_portions(office, monkeypatch):
    """Each message once, in the order of the queue; what is being sent ends no portion early."""
    monkeypatch.setattr(admin, "PORTION", 10)
    for number in range(35):
        waiting(
            office, f"a@x{number % 3}.example", f"b@y{number % 2}.example", name=f"n{number:02}"
        )
    removed, portions = [], 0
    question = {"do": "remove"}
    while True:
        *lines, last = _ask(office, **question)
        portions += 1
        if "after" not in last:
            lines.append(last)
            break
        question["after"] = last["after"]
        removed += lines
    removed += lines
    assert portions > 5
    assert len(removed) == 70, "each message has two destinations"
    assert not office.queue.there
    assert not select(office)


def test_a_message_with_more_destinations_than_a_portion_has_goes_at_once(office, monkeypatch):
    monkeypatch.setattr(admin, "PORTION", 3)
    waiting(office, *(f"a@x{number}.example" for number in range(9)), name="n1")
    waiting(office, "a@x.example", name="n2")
    *lines, last = _ask(office, do="remove")
    assert (len(lines), last) == (9, {"after": "n1"})
    assert list(office.queue.there) == ["n2"]


def test_a_removal_that_fails_keeps_what_was_not_removed(office, monkeypatch):
    for number in range(5):
        waiting(office, "a@x.example", name=f"n{number}")
    real = office.queue.finish

    async def fails(name, *args, **named):
        if name == "n3":
            raise TemporaryFailure("the disk is full")
        await real(name, *args, **named)

    monkeypatch.setattr(office.queue, "finish", fails)
    with pytest.raises(TemporaryFailure):
        finish(office.manager.admin.remove(ALL))
    assert [row.name for row in select(office)] == ["n3"]
    assert list(office.queue.there) == ["n3"]


def _ask(office, **question):
    """What ``postoffice queue`` is answered."""
    return list(finish(QueueControl().answer(office.manager, question)))
