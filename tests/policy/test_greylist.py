"""Greylisting: a client that was never here has to come again."""

from __future__ import annotations

import stat

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.model.errors import StartupError, TemporaryFailure
from postoffice.policy import greylist_db as module
from postoffice.policy.greylist import CLEARING, IPV4_BITS, GreylistPolicy
from postoffice.policy.greylist_db import SWEPT, GreylistTimes, Triplets
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish
from postoffice.util.networks import network_of

TERMS = GreylistTimes(delay=300, window=7200, lifetime=86400, known_after=2)


class Day:
    """The time of day."""

    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def day():
    return Day()


@pytest.fixture
def greylist(tmp_path, day):
    """Makes a policy over one database; they may be several."""
    made = []

    def make():
        triplets = Triplets(str(tmp_path / "greylist.db"), TERMS)
        policy = GreylistPolicy(triplets, ImmediateExecutor(), Clock(), day)
        finish(policy.start())
        made.append(policy)
        return policy

    yield make
    for policy in made:
        finish(policy.stop())


def code(policy, envelope, recipient):
    said = finish(policy.recipient(envelope, recipient))
    return None if said is None else said.code


def test_a_stranger_comes_again_and_is_let_in(greylist, day, envelope, recipient):
    policy = greylist()
    said = finish(policy.recipient(envelope(), recipient()))
    assert (said.code, said.status) == (451, "4.7.1")
    assert said.text.endswith("come again in 300 s")
    day.now += 100
    assert "200 s" in finish(policy.recipient(envelope(), recipient())).text
    day.now += 200
    assert code(policy, envelope(), recipient()) is None
    assert code(policy, envelope(), recipient()) is None


def test_it_outlives_a_restart_and_is_shared_between_processes(greylist, day, envelope, recipient):
    first = greylist()
    assert code(first, envelope(), recipient()) == 451
    finish(first.stop())
    day.now += 300
    second, third = greylist(), greylist()
    assert code(second, envelope(), recipient()) is None
    assert code(third, envelope(), recipient()) is None


def test_another_sender_or_recipient_is_another_matter(greylist, day, envelope, recipient):
    policy = greylist()
    assert code(policy, envelope(), recipient()) == 451
    day.now += 300
    assert code(policy, envelope(sender="b@example.org"), recipient()) == 451
    assert code(policy, envelope(), recipient("ann@example.net")) == 451
    assert code(policy, envelope("8.8.9.9"), recipient()) == 451
    assert code(policy, envelope("8.8.4.200"), recipient()) is None, "a neighbour is the same"


def test_a_bounce_waits_too(greylist, day, envelope, recipient):
    policy = greylist()
    assert code(policy, envelope(sender=None), recipient()) == 451
    day.now += 300
    assert code(policy, envelope(sender=None), recipient()) is None


def test_a_client_that_retries_too_late_begins_anew(greylist, day, envelope, recipient):
    policy = greylist()
    assert code(policy, envelope(), recipient()) == 451
    day.now += TERMS.window + 1
    assert code(policy, envelope(), recipient()) == 451


def test_an_accepted_triplet_is_remembered_and_forgotten(greylist, day, envelope, recipient):
    policy = greylist()
    assert code(policy, envelope(), recipient()) == 451
    day.now += 300
    assert code(policy, envelope(), recipient()) is None
    day.now += TERMS.lifetime - 1
    assert code(policy, envelope(), recipient()) is None
    day.now += TERMS.lifetime + 1
    assert code(policy, envelope(), recipient()) == 451


def test_a_network_that_came_back_often_enough_waits_no_more(greylist, day, envelope, recipient):
    policy = greylist()
    for name in ("b@example.org", "c@example.org"):
        assert code(policy, envelope(sender=name), recipient()) == 451
        day.now += 300
        assert code(policy, envelope(sender=name), recipient()) is None
    assert code(policy, envelope(sender="new@example.org"), recipient()) is None


@pytest.mark.parametrize("client", ["127.0.0.1", ""])
def test_clients_that_never_wait(client, greylist, envelope, recipient):
    policy = greylist()
    assert code(policy, envelope(client), recipient()) is None
    assert code(policy, envelope(login="joe@example.net"), recipient()) is None
    assert code(policy, envelope(), recipient("postmaster@example.net")) is None


def test_what_is_too_old_is_cleared_gently(tmp_path, day):
    triplets = Triplets(str(tmp_path / "g.db"), TERMS)
    triplets.open()
    for number in range(SWEPT + 5):
        triplets.wait("192.0.2.0/24", f"{number}@example.org", "joe@example.net", day.now)
    assert not triplets.sweep(day.now), "nothing is old yet"
    assert triplets.sweep(day.now + TERMS.window + 1), "there is more"
    assert not triplets.sweep(day.now + TERMS.window + 1)
    rows = triplets._database.execute("SELECT count(*) FROM triplet").fetchone()
    assert rows == (0,)
    triplets.close()


def test_it_is_bounded_and_the_oldest_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 50)
    monkeypatch.setattr(module, "SWEPT", 10)
    triplets = Triplets(str(tmp_path / "g.db"), TERMS)
    triplets.open()
    for number in range(1000):
        triplets.wait(f"192.0.{number}.0/24", "a@example.org", "joe@example.net", number)
        if number % 3 == 0:  # it comes back at once, and is known
            triplets.wait(f"192.0.{number}.0/24", "a@example.org", "joe@example.net", number + 400)
        (rows,) = triplets._database.execute("SELECT count(*) FROM triplet").fetchone()
        assert rows <= 50 + 10
        (rows,) = triplets._database.execute("SELECT count(*) FROM known").fetchone()
        assert rows <= 50 + 10
    assert triplets.wait("192.0.998.0/24", "a@example.org", "joe@example.net", 1000) == 298
    assert triplets.wait("192.0.1.0/24", "a@example.org", "joe@example.net", 1000) == 300, "gone"
    triplets.close()


def test_one_that_has_grown_shrinks_while_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SWEPT", 10)
    triplets = Triplets(str(tmp_path / "g.db"), TERMS)
    triplets.open()
    for number in range(300):
        triplets.wait("192.0.2.0/24", f"{number}@example.org", "joe@example.net", number)
    monkeypatch.setattr(module, "KEPT", 50)
    for number in range(300, 600):
        triplets.wait("192.0.2.0/24", f"{number}@example.org", "joe@example.net", number)
    rows = triplets._database.execute("SELECT min(first), count(*) FROM triplet").fetchone()
    assert rows == (550, 50)
    triplets.close()


def test_it_is_cleared_every_day(tmp_path, day, envelope, recipient):
    clock, triplets = Clock(), Triplets(str(tmp_path / "g.db"), TERMS)
    policy = GreylistPolicy(triplets, ImmediateExecutor(), clock, day)
    finish(policy.start())
    assert code(policy, envelope(), recipient()) == 451
    day.now += TERMS.window + 1
    clock.advance(CLEARING)
    assert triplets._database.execute("SELECT count(*) FROM triplet").fetchone() == (0,)
    assert len(clock.getDelayedCalls()) == 1
    finish(policy.stop())
    assert clock.getDelayedCalls() == []


def test_its_file_is_for_its_owner_only(tmp_path, greylist):
    greylist()
    assert stat.S_IMODE((tmp_path / "greylist.db").stat().st_mode) == 0o600


def test_a_database_that_cannot_be_used(tmp_path, envelope, recipient):
    with pytest.raises(StartupError, match="cannot be used"):
        Triplets(str(tmp_path), TERMS).open()
    triplets = Triplets(str(tmp_path / "g.db"), TERMS)
    with pytest.raises(TemporaryFailure, match="is closed"):
        triplets.wait("n", "s", "r", 0)


def test_networks():
    assert network_of("192.0.2.77", IPV4_BITS) == "192.0.2.0/24"
    assert network_of("2001:db8:1:2:3::4", IPV4_BITS) == "2001:db8:1:2::/64"


def test_a_locked_greylist_holds_one_thread_and_not_all(tmp_path, envelope, recipient):
    executor = ManualExecutor()
    triplets = Triplets(str(tmp_path / "greylist.db"), TERMS)
    policy = GreylistPolicy(triplets, executor, Clock(), lambda: 1_000_000.0)
    starting = Deferred.fromCoroutine(policy.start())
    executor.work_on()
    assert starting.called
    asked = [
        Deferred.fromCoroutine(policy.recipient(envelope(f"8.8.{n}.4"), recipient()))
        for n in range(5)
    ]
    assert len(executor.waiting) == 1
    for gone in asked[:2]:  # one that is asked about, and one that waits
        gone.addErrback(lambda _: None)
        gone.cancel()
    assert len(executor.waiting) == 1
    executor.work_on()
    assert [one.result.code for one in asked[2:]] == [451] * 3
    stopping = Deferred.fromCoroutine(policy.stop())
    executor.work_on()
    assert stopping.called
