"""The allowances of accounts and networks, on disk: counted, known, shown, cleared, swept."""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postoffice.accounts import attempts as module
from postoffice.accounts.attempts import (
    ACCOUNT,
    DAY,
    KNOWN,
    NETWORK,
    Allowance,
    AttemptResult,
    Attempts,
    FailureCount,
)
from postoffice.accounts.login_db import LoginDB
from postoffice.model.errors import StartupError, TemporaryFailure

JOE, HERE, THERE = "joe@example.net", "192.0.2.1", "2001:db8::/64"
NOW = 1_800_000_000.0


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "logins.db")


@pytest.fixture
def attempts(path):
    """Five at once and five a minute from a network; three and three a minute at an account."""
    login_db = LoginDB(path)
    login_db.open()
    yield Attempts(login_db, Allowance(6, 60), Allowance(10, 60))
    login_db.close()


def guess(attempts, account=JOE, network=HERE, now=NOW):
    taken = attempts.take(account, network, now)
    if taken == AttemptResult():
        attempts.wrong(account, network, now)
    return taken


def test_half_of_an_accounts_allowance_comes_at_once(attempts):
    assert [guess(attempts, network=f"192.0.2.{n}") for n in range(3)] == [AttemptResult()] * 3
    assert guess(attempts, network="192.0.2.9") == AttemptResult(False, 20, 0)
    assert guess(attempts, account="ann@example.net") == AttemptResult()


def test_half_of_a_networks_allowance_comes_at_once(attempts):
    assert [guess(attempts, account=f"a{n}@example.net") for n in range(5)] == [AttemptResult()] * 5
    assert guess(attempts, account="b@example.net") == AttemptResult(False, 0, 12)
    assert guess(attempts, network=THERE) == AttemptResult()


def test_the_rest_comes_back_evenly(attempts):
    for _ in range(3):
        guess(attempts)
    assert guess(attempts, now=NOW + 15) == AttemptResult(False, 5, 0)
    assert guess(attempts, now=NOW + 20) == AttemptResult()
    assert guess(attempts, now=NOW + 20) == AttemptResult(False, 20, 0)


def test_where_one_has_none_left_nothing_is_taken_from_the_other(attempts):
    for _ in range(3):
        guess(attempts)
    for _ in range(9):
        guess(attempts, network=THERE)
    for n in range(5):
        assert guess(attempts, account=f"a{n}@example.net", network=THERE) == AttemptResult()


def test_this_machine_has_no_allowance_as_a_network(attempts):
    assert all(
        guess(attempts, account=f"a{n}@example.net", network="") == AttemptResult()
        for n in range(99)
    )


def test_where_nobody_is_named_only_the_network_counts(attempts):
    """A token may say by itself whose it is."""
    assert all(
        guess(attempts, account="", network=f"192.0.2.{n}") == AttemptResult() for n in range(20)
    )
    for _ in range(4):
        guess(attempts, account="")
    assert guess(attempts, account="") == AttemptResult(False, 0, 12)


def test_what_was_no_wrong_try_is_given_back_and_no_more_than_there_was(attempts):
    for _ in range(5):
        assert attempts.take(JOE, HERE, NOW) == AttemptResult()
        attempts.give_back(JOE, HERE, NOW, False)
    attempts.give_back(JOE, HERE, NOW, False)
    assert [guess(attempts) for _ in range(4)] == [AttemptResult()] * 3 + [
        AttemptResult(False, 20, 0)
    ]


def test_the_network_of_a_right_login_is_known_for_a_month(attempts):
    attempts.take(JOE, HERE, NOW)
    attempts.give_back(JOE, HERE, NOW, True)
    assert guess(attempts, now=NOW + KNOWN - 1) == AttemptResult(known=True)
    assert guess(attempts, network=THERE) == AttemptResult()
    assert guess(attempts, account="ann@example.net") == AttemptResult()
    assert guess(attempts, now=NOW + KNOWN) == AttemptResult()
    attempts.remember_network(JOE, HERE, NOW + KNOWN)
    assert guess(attempts, now=NOW + KNOWN + 1) == AttemptResult(known=True)


def test_a_restart_forgets_nothing_and_several_processes_share(attempts, path):
    other = LoginDB(path)
    other.open()
    theirs = Attempts(other, Allowance(6, 60), Allowance(10, 60))
    for one in (attempts, theirs, attempts):
        assert guess(one) == AttemptResult()
    assert guess(theirs) == AttemptResult(False, 20, 0)
    theirs.remember_network(JOE, THERE, NOW)
    other.close()
    assert guess(attempts, network=THERE) == AttemptResult(known=True)


def test_a_clock_that_is_put_back_makes_nobody_wait_for_it(attempts):
    for _ in range(3):
        guess(attempts, now=NOW + DAY)
    assert guess(attempts) == AttemptResult(False, 20, 0)
    assert guess(attempts, now=NOW + 20) == AttemptResult()


def test_smaller_limits_count_at_once(attempts, path):
    stricter = Attempts(attempts._login_db, Allowance(2, 60), Allowance(2, 60))
    guess(attempts)
    attempts.give_back(JOE, HERE, NOW, False)
    assert [guess(stricter) for _ in range(2)] == [AttemptResult(), AttemptResult(False, 60, 60)]


# -- shown and cleared ---------------------------------------------------------------


def test_wrong_ones_are_shown_the_latest_first_with_until_when_they_are_blocked(attempts):
    for _ in range(3):
        guess(attempts)
    guess(attempts, account="ann@example.net", now=NOW + 2)
    assert attempts.failures(NOW + 2) == [
        FailureCount(ACCOUNT, "ann@example.net", 1, NOW + 2, None),
        FailureCount(NETWORK, HERE, 4, NOW + 2, None),
        FailureCount(ACCOUNT, JOE, 3, NOW, NOW + 20),
    ]


def test_right_logins_are_not_listed(attempts):
    attempts.take(JOE, HERE, NOW)
    attempts.give_back(JOE, HERE, NOW, True)
    assert attempts.failures(NOW) == []


def test_they_are_counted_anew_after_a_quiet_day(attempts):
    guess(attempts)
    guess(attempts, now=NOW + DAY - 1)
    assert [one.count for one in attempts.failures(NOW + DAY)] == [2, 2]
    guess(attempts, now=NOW + 3 * DAY)
    assert [one.count for one in attempts.failures(NOW + 3 * DAY)] == [1, 1]
    assert attempts.failures(NOW + 4 * DAY) == []


def test_what_is_cleared_may_try_again_and_nobody_else(attempts):
    for n in range(5):
        guess(attempts, network=f"192.0.2.{n % 2}")
    assert attempts.clear(["jim@example.net"]) == 0
    assert attempts.clear([JOE, "192.0.2.0"]) == 2
    assert [(one.name, one.count) for one in attempts.failures(NOW)] == [("192.0.2.1", 1)]
    assert guess(attempts) == AttemptResult()
    assert attempts.clear(None) == 2
    assert attempts.failures(NOW) == []


# -- bounds --------------------------------------------------------------------------


def test_old_ones_are_swept(attempts, monkeypatch):
    monkeypatch.setattr(module, "SWEPT", 2)
    for n in range(4):
        guess(attempts, account=f"a{n}@example.net")
        attempts.remember_network(f"a{n}@example.net", HERE, NOW)
    guess(attempts, now=NOW + DAY)
    while attempts.sweep(NOW + DAY + 1):
        pass
    assert rows(attempts, "try") == [("account", JOE), ("network", HERE)]
    assert len(rows(attempts, "known")) == 4
    while attempts.sweep(NOW + 2 * KNOWN):
        pass
    assert rows(attempts, "try") == rows(attempts, "known") == []


def test_only_so_many_stay_the_latest(attempts, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 3)
    for n in range(6):
        guess(attempts, account=f"a{n}@example.net", network="", now=NOW + n)
    while attempts.sweep(NOW + 9):
        pass
    assert [name for _, name in rows(attempts, "try")] == [f"a{n}@example.net" for n in (3, 4, 5)]


def rows(attempts, table):
    with attempts._login_db.turn() as database:
        return [row[:2] for row in database.execute(f"SELECT * FROM {table}").fetchall()]


# -- the allowance -------------------------------------------------------------------


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(1, 12), st.lists(st.floats(0, 40), max_size=40))
def test_no_minute_has_more_than_the_allowance(attempts, count, pauses):
    attempts.clear(None)
    of_count = Attempts(attempts._login_db, Allowance(1000, 1), Allowance(count, 60))
    now, through = NOW, []
    for pause in pauses:
        now += pause
        if guess(of_count, now=now) == AttemptResult():
            through.append(now)
    for start in through:
        assert sum(start <= moment < start + 60 for moment in through) <= max(count, 2)


# -- the file ------------------------------------------------------------------------


def test_the_file_is_its_owners_alone(attempts, path):
    before = os.umask(0)
    try:
        guess(attempts)
    finally:
        os.umask(before)
    for name in os.listdir(os.path.dirname(path)):
        assert stat.S_IMODE(os.stat(os.path.join(os.path.dirname(path), name)).st_mode) == 0o600


def test_a_file_that_is_damaged_says_that_it_can_go(path):
    with open(path, "w") as file:
        file.write("no database, " * 100)
    with pytest.raises(StartupError, match=r"logins\.db cannot be used: .*can be removed"):
        LoginDB(path).open()


def test_a_closed_ledger_is_trouble_and_no_fault(attempts):
    attempts._login_db.close()
    with pytest.raises(TemporaryFailure, match="is closed"):
        attempts.take(JOE, HERE, NOW)


def test_what_goes_wrong_in_a_turn_is_not_done(attempts):
    def halfway():
        with attempts._login_db.turn() as database:
            database.execute("INSERT INTO known VALUES ('a', 'b', 1)")
            database.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(TemporaryFailure):
        halfway()
    assert rows(attempts, "known") == []
    assert guess(attempts) == AttemptResult()
