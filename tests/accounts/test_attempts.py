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
def tries(path):
    """Five at once and five a minute from a network; three and three a minute at an account."""
    ledger = LoginDB(path)
    ledger.open()
    yield Attempts(ledger, Allowance(6, 60), Allowance(10, 60))
    ledger.close()


def guess(tries, account=JOE, network=HERE, now=NOW):
    taken = tries.take(account, network, now)
    if taken == AttemptResult():
        tries.wrong(account, network, now)
    return taken


def test_half_of_an_accounts_allowance_comes_at_once(tries):
    assert [guess(tries, network=f"192.0.2.{n}") for n in range(3)] == [AttemptResult()] * 3
    assert guess(tries, network="192.0.2.9") == AttemptResult(False, 20, 0)
    assert guess(tries, account="ann@example.net") == AttemptResult()


def test_half_of_a_networks_allowance_comes_at_once(tries):
    assert [guess(tries, account=f"a{n}@example.net") for n in range(5)] == [AttemptResult()] * 5
    assert guess(tries, account="b@example.net") == AttemptResult(False, 0, 12)
    assert guess(tries, network=THERE) == AttemptResult()


def test_the_rest_comes_back_evenly(tries):
    for _ in range(3):
        guess(tries)
    assert guess(tries, now=NOW + 15) == AttemptResult(False, 5, 0)
    assert guess(tries, now=NOW + 20) == AttemptResult()
    assert guess(tries, now=NOW + 20) == AttemptResult(False, 20, 0)


def test_where_one_has_none_left_nothing_is_taken_from_the_other(tries):
    for _ in range(3):
        guess(tries)
    for _ in range(9):
        guess(tries, network=THERE)
    for n in range(5):
        assert guess(tries, account=f"a{n}@example.net", network=THERE) == AttemptResult()


def test_this_machine_has_no_allowance_as_a_network(tries):
    assert all(
        guess(tries, account=f"a{n}@example.net", network="") == AttemptResult() for n in range(99)
    )


def test_where_nobody_is_named_only_the_network_counts(tries):
    """A token may say by itself whose it is."""
    assert all(
        guess(tries, account="", network=f"192.0.2.{n}") == AttemptResult() for n in range(20)
    )
    for _ in range(4):
        guess(tries, account="")
    assert guess(tries, account="") == AttemptResult(False, 0, 12)


def test_what_was_no_wrong_try_is_given_back_and_no_more_than_there_was(tries):
    for _ in range(5):
        assert tries.take(JOE, HERE, NOW) == AttemptResult()
        tries.give_back(JOE, HERE, NOW, False)
    tries.give_back(JOE, HERE, NOW, False)
    assert [guess(tries) for _ in range(4)] == [AttemptResult()] * 3 + [AttemptResult(False, 20, 0)]


def test_who_was_right_is_known_from_there_for_a_month(tries):
    tries.take(JOE, HERE, NOW)
    tries.give_back(JOE, HERE, NOW, True)
    assert guess(tries, now=NOW + KNOWN - 1) == AttemptResult(known=True)
    assert guess(tries, network=THERE) == AttemptResult()
    assert guess(tries, account="ann@example.net") == AttemptResult()
    assert guess(tries, now=NOW + KNOWN) == AttemptResult()
    tries.meet(JOE, HERE, NOW + KNOWN)
    assert guess(tries, now=NOW + KNOWN + 1) == AttemptResult(known=True)


def test_a_restart_forgets_nothing_and_several_processes_share(tries, path):
    other = LoginDB(path)
    other.open()
    theirs = Attempts(other, Allowance(6, 60), Allowance(10, 60))
    for one in (tries, theirs, tries):
        assert guess(one) == AttemptResult()
    assert guess(theirs) == AttemptResult(False, 20, 0)
    theirs.meet(JOE, THERE, NOW)
    other.close()
    assert guess(tries, network=THERE) == AttemptResult(known=True)


def test_a_clock_that_is_put_back_makes_nobody_wait_for_it(tries):
    for _ in range(3):
        guess(tries, now=NOW + DAY)
    assert guess(tries) == AttemptResult(False, 20, 0)
    assert guess(tries, now=NOW + 20) == AttemptResult()


def test_smaller_limits_count_at_once(tries, path):
    stricter = Attempts(tries._ledger, Allowance(2, 60), Allowance(2, 60))
    guess(tries)
    tries.give_back(JOE, HERE, NOW, False)
    assert [guess(stricter) for _ in range(2)] == [AttemptResult(), AttemptResult(False, 60, 60)]


# -- shown and cleared ---------------------------------------------------------------


def test_wrong_ones_are_shown_the_latest_first_with_until_when_they_are_blocked(tries):
    for _ in range(3):
        guess(tries)
    guess(tries, account="ann@example.net", now=NOW + 2)
    assert tries.failures(NOW + 2) == [
        FailureCount(ACCOUNT, "ann@example.net", 1, NOW + 2, None),
        FailureCount(NETWORK, HERE, 4, NOW + 2, None),
        FailureCount(ACCOUNT, JOE, 3, NOW, NOW + 20),
    ]


def test_who_was_right_is_not_shown(tries):
    tries.take(JOE, HERE, NOW)
    tries.give_back(JOE, HERE, NOW, True)
    assert tries.failures(NOW) == []


def test_they_are_counted_anew_after_a_quiet_day(tries):
    guess(tries)
    guess(tries, now=NOW + DAY - 1)
    assert [one.count for one in tries.failures(NOW + DAY)] == [2, 2]
    guess(tries, now=NOW + 3 * DAY)
    assert [one.count for one in tries.failures(NOW + 3 * DAY)] == [1, 1]
    assert tries.failures(NOW + 4 * DAY) == []


def test_what_is_cleared_may_try_again_and_nobody_else(tries):
    for n in range(5):
        guess(tries, network=f"192.0.2.{n % 2}")
    assert tries.clear(["jim@example.net"]) == 0
    assert tries.clear([JOE, "192.0.2.0"]) == 2
    assert [(one.name, one.count) for one in tries.failures(NOW)] == [("192.0.2.1", 1)]
    assert guess(tries) == AttemptResult()
    assert tries.clear(None) == 2
    assert tries.failures(NOW) == []


# -- bounds --------------------------------------------------------------------------


def test_old_ones_are_swept(tries, monkeypatch):
    monkeypatch.setattr(module, "SWEPT", 2)
    for n in range(4):
        guess(tries, account=f"a{n}@example.net")
        tries.meet(f"a{n}@example.net", HERE, NOW)
    guess(tries, now=NOW + DAY)
    while tries.sweep(NOW + DAY + 1):
        pass
    assert rows(tries, "try") == [("account", JOE), ("network", HERE)]
    assert len(rows(tries, "known")) == 4
    while tries.sweep(NOW + 2 * KNOWN):
        pass
    assert rows(tries, "try") == rows(tries, "known") == []


def test_only_so_many_stay_the_latest(tries, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 3)
    for n in range(6):
        guess(tries, account=f"a{n}@example.net", network="", now=NOW + n)
    while tries.sweep(NOW + 9):
        pass
    assert [name for _, name in rows(tries, "try")] == [f"a{n}@example.net" for n in (3, 4, 5)]


def rows(tries, table):
    with tries._ledger.turn() as database:
        return [row[:2] for row in database.execute(f"SELECT * FROM {table}").fetchall()]


# -- the allowance -------------------------------------------------------------------


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(1, 12), st.lists(st.floats(0, 40), max_size=40))
def test_no_minute_has_more_than_the_allowance(tries, count, pauses):
    tries.clear(None)
    of_count = Attempts(tries._ledger, Allowance(1000, 1), Allowance(count, 60))
    now, through = NOW, []
    for pause in pauses:
        now += pause
        if guess(of_count, now=now) == AttemptResult():
            through.append(now)
    for start in through:
        assert sum(start <= moment < start + 60 for moment in through) <= max(count, 2)


# -- the file ------------------------------------------------------------------------


def test_the_file_is_its_owners_alone(tries, path):
    before = os.umask(0)
    try:
        guess(tries)
    finally:
        os.umask(before)
    for name in os.listdir(os.path.dirname(path)):
        assert stat.S_IMODE(os.stat(os.path.join(os.path.dirname(path), name)).st_mode) == 0o600


def test_a_file_that_is_damaged_says_that_it_can_go(path):
    with open(path, "w") as file:
        file.write("no database, " * 100)
    with pytest.raises(StartupError, match=r"logins\.db cannot be used: .*can be removed"):
        LoginDB(path).open()


def test_a_closed_ledger_is_trouble_and_no_fault(tries):
    tries._ledger.close()
    with pytest.raises(TemporaryFailure, match="is closed"):
        tries.take(JOE, HERE, NOW)


def test_what_goes_wrong_in_a_turn_is_not_done(tries):
    def halfway():
        with tries._ledger.turn() as database:
            database.execute("INSERT INTO known VALUES ('a', 'b', 1)")
            database.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(TemporaryFailure):
        halfway()
    assert rows(tries, "known") == []
    assert guess(tries) == AttemptResult()
