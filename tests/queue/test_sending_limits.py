"""Sending limits: over restarts, for accounts and devices, held or refused; who is told."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from postoffice.model.envelope import Client, Envelope
from postoffice.model.errors import PermanentFailure, TemporaryFailure
from postoffice.model.queued_message import QueuedRecipient
from postoffice.outbound.sending_notice import HELD, OVER
from postoffice.outbound.sending_rate import Rates, SendingRate, SendingRules
from postoffice.queue import sending_db
from postoffice.queue.sending_limits import SWEEPING, SendingLimits
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish

JOE, ANN = "joe@example.net", "ann@example.net"
HOUR, DAY = 3600.0, 86400.0
RATES = (SendingRate(20, HOUR), SendingRate(50, DAY))
NEWS = Rates((SendingRate(5000, HOUR),), hold=False)
EXCEPTIONS = (
    (frozenset(["news@example.net", "lists.example.net"]), NEWS),
    (frozenset(["example.net"]), Rates(RATES[:1])),
    (frozenset([".example.net"]), Rates()),
)


class Desk:
    """Limits that start again whenever a test wants."""

    def __init__(self, folder, rules):
        self.time = 1_800_000_000.0
        self.told = []
        self.clock = Clock()
        self._folder = str(folder)
        self.begin(rules)

    def begin(self, rules, executor=None):
        self.limits = SendingLimits(
            self._folder,
            executor or ImmediateExecutor(),
            self.clock,
            rules,
            lambda account, kind, facts: self.told.append((account, kind, dict(facts))),
            lambda: self.time,
        )
        if executor is None:
            finish(self.limits.start())

    def restart(self):
        finish(self.limits.stop())
        self.begin(self.limits.rules)

    def envelope(self, many, login=JOE, device="", forwarder=""):
        envelope = Envelope("id.1", Client(), login=login, device=device)
        envelope.queued += [
            QueuedRecipient(address=f"{n}@example.com", forwarder=forwarder) for n in range(many)
        ]
        return envelope

    def send(self, many, login=JOE, device="", forwarder=""):
        envelope = self.envelope(many, login, device, forwarder)
        counted = finish(self.limits.take(envelope))
        return envelope.held, counted


@pytest.fixture
def desk(tmp_path):
    made = []

    def desk(exceptions=(), **how):
        made.append(Desk(tmp_path, SendingRules(Rates(**({"account": RATES} | how)), exceptions)))
        return made[-1]

    yield desk
    for one in made:
        finish(one.limits.stop())


def test_over_the_limit_mail_is_held_and_the_owner_is_told_once_a_day(desk):
    desk = desk()
    with capturedLogs() as logged:
        assert [desk.send(10)[0] for _ in range(3)] == [
            "",
            "",
            "over the limit of 20 recipients in an hour",
        ]
        desk.send(1)
    facts = {"limit": "20 recipients in an hour", "device": "", "recipients": "10"}
    assert desk.told == [(JOE, OVER, facts | {"outcome": "held"})]
    events = [one for one in logged if one.get("event") == "sending-stopped"]
    assert [one["outcome"] for one in events] == ["held", "held"]
    desk.time += DAY + 2 * HOUR + 1
    assert [desk.send(20)[0] for _ in range(2)] == [
        "",
        "over the limit of 20 recipients in an hour",
    ]
    assert len(desk.told) == 2


def test_messages_that_come_together_are_counted_one_after_the_other(desk):
    desk, executor = desk(), ManualExecutor()
    finish(desk.limits.stop())
    desk.begin(desk.limits.rules, executor)
    starting = Deferred.fromCoroutine(desk.limits.start())
    executor.work_on()
    assert starting.called
    envelopes = [desk.envelope(8) for _ in range(4)]
    taking = [Deferred.fromCoroutine(desk.limits.take(one)) for one in envelopes]
    desk.limits.tried(JOE, 20, 0)  # with the next one
    desk.limits.tried(JOE, 0, 2)
    desk.limits.tried(JOE, 0, 7)
    desk.limits.tried(JOE, 0, 1)
    desk.limits.tried(ANN, 0, 1)
    executor.work_on()
    assert all(one.called for one in taking)
    over = "over the limit of 20 recipients in an hour"
    assert [one.held for one in envelopes] == ["", "", over, over]
    why = "10 of 30 recipients in an hour were refused"
    assert [told for told in desk.told if told[1] == HELD] == [(JOE, HELD, {"why": why})]
    stopping = Deferred.fromCoroutine(desk.limits.stop())
    executor.work_on()
    assert stopping.called
    desk.begin(desk.limits.rules)


def test_what_is_held_counts(desk):
    desk = desk()
    desk.send(20)
    desk.time += 1800
    assert desk.send(20)[0]
    desk.time += 2400
    assert desk.send(1)[0]


def test_over_the_limit_mail_is_refused_with_when_to_go_on(desk):
    desk = desk(hold=False)
    desk.send(20)
    desk.time += 1800
    with pytest.raises(TemporaryFailure) as caught:
        desk.send(1)
    said = caught.value.reply
    assert (said.code, said.status) == (450, "4.7.1")
    assert said.text.startswith(
        "You may send to 20 recipients in an hour; send this mail again in "
    )
    minutes = int(said.text.split()[-2])
    desk.time += minutes * 60 + 30
    assert desk.send(20)[0] == ""
    desk.time += HOUR + 300
    with pytest.raises(TemporaryFailure, match="50 recipients in a day"):
        desk.send(11)


def test_a_mail_with_more_recipients_than_any_limit_is_refused_for_good(desk):
    with pytest.raises(PermanentFailure) as caught:
        desk(hold=False).send(21)
    assert caught.value.reply.text == (
        "Your mail has 21 recipients; you may send to 20 recipients in an hour"
    )


def test_accounts_and_devices_are_counted_for_themselves(desk):
    desk = desk(device=(SendingRate(5, HOUR),))
    assert desk.send(5, device="phone")[0] == ""
    assert desk.send(1, device="phone")[0] == "over the limit of 5 recipients in an hour"
    assert desk.send(5, device="laptop")[0] == desk.send(5)[0] == ""
    assert desk.send(5, device="tablet")[0] == "over the limit of 20 recipients in an hour"
    assert desk.send(5, login=ANN)[0] == ""


@pytest.mark.parametrize("how", [{"login": ""}, {"forwarder": ANN}])
def test_forwards_and_what_nobody_submitted_do_not_count(desk, how):
    desk = desk()
    assert desk.send(1000, **how) == ("", None)
    assert desk.send(20)[0] == ""


def test_without_a_limit_everything_goes(desk):
    assert desk(account=()).send(100_000)[0] == ""


def test_some_accounts_have_other_limits(desk):
    desk = desk(EXCEPTIONS, account=())
    assert desk.send(20)[0] == ""
    assert desk.send(1)[0] == "over the limit of 20 recipients in an hour"
    assert desk.send(5000, login="news@example.net")[0] == ""
    with pytest.raises(TemporaryFailure):
        desk.send(1, login="news@example.net")
    assert desk.send(5000, login="a@lists.example.net")[0] == ""
    assert desk.send(50_000, login="a@b.example.net")[0] == ""
    assert desk.send(50_000, login="a@example.com")[0] == ""


def test_the_file_is_opened_once_and_may_be_opened_again(desk):
    desk = desk()
    finish(desk.limits.start())
    desk.send(20)
    for _ in range(2):
        finish(desk.limits.stop())
    finish(desk.limits.start())
    assert desk.send(1)[0]


def test_counts_are_kept_over_a_restart(desk):
    desk = desk()
    desk.send(20)
    desk.restart()
    assert desk.send(1)[0]


def test_what_was_aborted_is_given_back(desk):
    desk = desk()
    _, counted = desk.send(20)
    desk.limits.give_back(counted)
    assert desk.send(20)[0] == ""
    desk.limits.give_back(counted)
    desk.limits.give_back(counted)
    assert desk.send(20)[0] == ""
    assert desk.send(1)[0]


def test_a_reload_changes_the_limits(desk):
    desk = desk()
    desk.send(20)
    desk.limits.rules = SendingRules(Rates((SendingRate(30, HOUR),)))
    assert desk.send(10)[0] == ""
    assert desk.send(1)[0]


def test_many_refused_recipients_hold_an_account_until_it_is_released(desk):
    desk = desk(account=(), hold=False)
    desk.limits.tried(JOE, 23, 6)
    assert desk.send(1)[0] == ""
    with capturedLogs() as logged:
        desk.limits.tried(JOE, 0, 1)
        desk.limits.tried(JOE, 0, 1)
    why = "7 of 30 recipients in an hour were refused"
    assert desk.told == [(JOE, HELD, {"why": why})]
    assert [one["why"] for one in logged if one.get("event") == "sending-stopped"] == [why]
    desk.restart()
    desk.time += 30 * DAY
    assert (desk.send(1)[0], desk.send(1, login=ANN)[0]) == (why, "")
    assert finish(desk.limits.release(JOE))
    assert not finish(desk.limits.release(JOE))
    assert desk.send(1)[0] == ""
    desk.limits.tried(JOE, 0, 1)
    assert desk.send(1)[0] == ""


def test_refused_recipients_are_forgotten_after_an_hour(desk):
    desk = desk()
    desk.limits.tried(JOE, 0, 29)
    desk.time += HOUR + 300
    desk.limits.tried(JOE, 0, 29)
    desk.limits.tried("", 0, 1000)
    desk.limits.tried(JOE, 0, 0)
    assert desk.send(1)[0] == ""


def test_old_rows_are_swept(desk, monkeypatch):
    monkeypatch.setattr(sending_db, "SWEPT", 4)
    desk = desk()
    for number in range(5):
        desk.send(1, login=f"u{number}@example.net")
        desk.limits.tried(f"u{number}@example.net", 1, 0)
    desk.clock.advance(1)
    desk.time += 2 * DAY
    desk.clock.advance(SWEEPING)
    with desk.limits._database.turn() as database:
        for table in ("sent", "tried"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
