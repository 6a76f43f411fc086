"""Wrong passwords are slowed, by whoever and however they come; right ones are not."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs, eventAsText

from postoffice.accounts.credentials import PlainLogin, ScramLogin, SharedLogin
from postoffice.accounts.throttle import LOOK_AGAIN, PATIENCE, SWEEPING
from postoffice.model.envelope import Client
from postoffice.model.errors import AccountDisabled, TemporaryFailure, TooManyTries
from postoffice.protocol.sasl import ScramClaim, SharedClaim
from postoffice.protocol.scram import Salt
from postoffice.testing import ManualExecutor, finish
from tests.accounts.slowed import ANN, EVE, HERE, JOE, RIGHT, THERE, Office, pass_by, right, wrong


def unlooked(outcome):
    return [type(one) for one in outcome] == [TooManyTries]


# -- from one network, at one account -----------------------------------------------------


def test_one_network_has_so_many_tries_at_whatever_accounts(office, runs):
    for n in range(6):
        office.try_(f"a{n}@example.net", b"wrong", f"2001:db8::{n}")
    assert len(runs) == 2


def test_what_is_too_much_waits_and_is_then_told_to_come_later(office, clock, runs):
    office.guess(2)
    third = office.try_(password=b"third")
    pass_by(clock, PATIENCE - 1)
    assert third == []
    pass_by(clock, 1)
    assert unlooked(third)
    assert third[0].reply.wire.startswith(b"454 4.7.0 ")
    assert b"third" not in runs


def test_a_try_that_comes_back_meanwhile_is_had(office, clock, runs):
    office.guess(2)
    pass_by(clock, 30 - PATIENCE + 1)
    third = office.try_(password=b"third")
    assert third == []
    pass_by(clock, PATIENCE - 1)
    assert wrong(third)


def test_one_account_has_so_many_tries_from_wherever(office, clock, runs):
    for n in range(9):
        office.try_(password=b"wrong %d" % n, address=f"192.0.2.{n}")
    assert len(runs) == 5
    assert right(office.try_(ANN, b"hers", "192.0.2.99"))
    pass_by(clock, 60)
    assert len(runs) <= 10 + 1


def test_a_right_password_from_elsewhere_is_not_looked_at_either(office, clock, runs):
    """Or there would be no limit to guessing."""
    for n in range(5):
        office.try_(password=b"wrong %d" % n, address=f"192.0.2.{n}")
    lucky = office.try_(password=RIGHT, address=THERE)
    pass_by(clock, PATIENCE)
    assert unlooked(lucky)


def test_unknown_names_are_throttled_like_accounts(office, clock, runs):
    for user in (EVE, "eve", "\udcff", "x" * 9000):
        outcomes = [
            office.show(
                PlainLogin(
                    user.encode("utf-8", "surrogateescape"),
                    b"wrong %d" % n,
                    Client(f"192.0.2.{n}"),
                    "pop3",
                )
            )
            for n in range(7)
        ]
        assert sum(map(wrong, outcomes)) == 5, user
        pass_by(clock, PATIENCE)
        assert sum(map(unlooked, outcomes)) == 2, user
        office.attempts.clear(None)
        office.throttle._used_up.clear()


def test_all_services_count_together(office, runs):
    for service in ("pop3", "pop3s", "submission", "submissions"):
        office.try_(password=service.encode(), service=service)
    assert runs == [b"pop3", b"pop3s"]


def test_proofs_count_as_passwords_do(office):
    shared = [
        SharedLogin(SharedClaim(JOE.encode(), b"<x>", b"0" * 32), Client(HERE), "pop3"),
        ScramLogin(
            ScramClaim(JOE.encode(), Salt(b"salt", 4096), b"message", bytes(32)),
            Client(HERE),
            "submission",
        ),
    ]
    assert wrong(office.show(shared[0]))
    assert wrong(office.show(shared[1]))
    assert office.show(shared[0]) == []
    assert office.try_() == []


def test_this_machine_may_try_many_accounts(office, runs):
    for n in range(20):
        office.try_(f"a{n}@example.net", b"wrong", "127.0.0.1")
        office.try_(f"b{n}@example.net", b"wrong", "")
    assert len(runs) == 40
    assert office.guess(9, address="127.0.0.1") == 5


def test_a_disabled_account_is_told_so_only_with_the_right_password(office):
    finish(office.directory.set_state(JOE, "disabled"))
    assert wrong(office.try_(password=b"wrong"))
    assert [type(one) for one in office.try_(password=RIGHT)] == [AccountDisabled]
    finish(office.directory.set_state(JOE, "enabled"))
    assert right(office.try_(password=RIGHT))


# -- the same wrong password again ---------------------------------------------------------


def test_the_same_wrong_password_does_not_count_again(office, runs):
    assert all(wrong(office.try_(password=b"old one")) for _ in range(99))
    assert runs == [b"old one"]
    assert office.guess(1) == 1
    assert [one.count for one in office.attempts.failures(1.8e9)] == [2, 2]


def test_an_office_with_a_stale_client_is_not_shut_out(office, clock):
    office.try_(password=b"old one")
    office.guess(1)
    for _ in range(50):
        assert wrong(office.try_(password=b"old one"))
        clock.advance(10)
    assert right(office.try_(ANN, b"hers"))


@pytest.mark.parametrize(
    "other", [{"user": ANN}, {"user": EVE}, {"address": THERE}, {"password": b"another"}]
)
def test_another_account_network_or_password_is_not_the_same(office, runs, other):
    office.try_(password=b"old one")
    office.try_(**{"password": b"old one", **other})
    assert len(runs) == 2


def test_one_that_was_wrong_is_looked_at_when_the_password_has_changed(office):
    assert wrong(office.try_(password=b"new one"))
    finish(office.directory.set_secret(JOE, "new one:"))
    assert right(office.try_(password=b"new one"))


def test_nothing_but_digests_with_a_key_of_this_process_is_kept(office, tmp_path, clock):
    office.try_(password=b"almost right")
    (digest,) = office.throttle._wrong._entries
    assert len(digest) == 16
    assert "almost right" not in repr(vars(office.throttle))
    for path in tmp_path.iterdir():
        assert b"almost" not in path.read_bytes()
        assert digest not in path.read_bytes()
    other = Office(str(tmp_path / "other.db"), clock)
    other.try_(password=b"almost right")
    assert digest not in other.throttle._wrong
    other.login_db.close()


def test_what_is_remembered_is_bounded(office, runs):
    throttle = office.throttle
    for cache in (throttle._wrong, throttle._known, throttle._used_up):
        cache._most = 3
    for n in range(9):
        finish(office.directory.add(f"a{n}@example.net", "secret:", "keys"))
        office.try_(f"a{n}@example.net", RIGHT, THERE)
        office.guess(3, f"b{n}@example.net", f"192.0.2.{n}")
    assert [len(throttle._wrong), len(throttle._known), len(throttle._used_up)] == [3, 3, 3]


# -- waiting -----------------------------------------------------------------------------


def test_what_is_cleared_by_the_command_counts_within_seconds(office, clock):
    office.guess(2)
    waiting = office.try_(password=RIGHT)
    office.attempts.clear([HERE])
    clock.advance(LOOK_AGAIN)
    assert right(waiting)


def test_waiting_logins_rarely_ask_the_database(office, clock, monkeypatch):
    office.guess(2)
    asked = []
    take = office.attempts.take
    monkeypatch.setattr(office.attempts, "take", lambda *args: asked.append(args) or take(*args))
    office.guess(50)
    pass_by(clock, PATIENCE)
    assert len(asked) <= PATIENCE / LOOK_AGAIN + 2


def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(office, clock):
    office.guess(2)
    office.try_()
    office.last.cancel()
    pass_by(clock, PATIENCE)
    assert office.throttle._waiting == {}
    assert clock.getDelayedCalls() == []


def test_a_client_that_leaves_during_the_check_has_used_its_attempt(office, runs):
    office.checker._verifier._hashing = ManualExecutor()
    for n in range(3):
        outcome = office.try_(password=b"wrong %d" % n)
        office.last.cancel()
    assert outcome == [] or isinstance(outcome[0], CancelledError)
    assert office.try_() == []


def test_what_could_not_be_looked_at_does_not_count(office, runs):
    for _ in range(9):
        (failure,) = office.try_(password=b"no memory")
        assert isinstance(failure, TemporaryFailure)
        assert not isinstance(failure, TooManyTries)
    assert office.guess(2) == 2


# -- trouble -----------------------------------------------------------------------------


def test_without_a_ledger_owners_get_in_and_guessers_are_slowed_all_the_same(office, clock, runs):
    office.login_db.close()
    with capturedLogs() as logged:
        assert right(office.try_(password=RIGHT))
        assert office.guess(9) == 2
        assert right(office.try_(ANN, b"hers"))
        pass_by(clock, PATIENCE)
    complaints = [event for event in logged if "counting wrong passwords" in eventAsText(event)]
    assert len(complaints) == 1
    office.login_db.open()
    assert office.guess(9, address=THERE) == 2


def test_what_is_not_looked_at_is_in_the_log(office, clock):
    office.guess(2)
    with capturedLogs() as logged:
        office.try_()
        pass_by(clock, PATIENCE)
    (event,) = logged
    assert f"[postoffice#info] login-slowed client={HERE} user={JOE}" in eventAsText(event)


def test_the_ledger_is_swept_and_what_is_under_way_is_written_before_it_closes(
    tmp_path, clock, runs
):
    executor = ManualExecutor()
    office = Office(str(tmp_path / "logins.db"), clock, executor)
    swept = []
    office.attempts.sweep = lambda now: swept.append(now) or len(swept) % 2
    office.throttle.start()
    clock.advance(SWEEPING)
    executor.work_on()
    assert len(swept) == 2
    office.try_()
    executor.work()
    stopping = Deferred.fromCoroutine(office.throttle.stop())
    assert not stopping.called
    executor.work_on()
    assert stopping.called
    assert [one.count for one in office.attempts.failures(1.8e9)] == [1, 1]
    assert clock.getDelayedCalls() == []
    office.login_db.close()
