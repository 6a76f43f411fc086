"""Those who logged in from a network lately get in, whatever others try."""

from __future__ import annotations

import pytest
from twisted.logger import capturedLogs

from postoffice.accounts import attempts, password_verifier
from postoffice.accounts.throttle import PATIENCE, REMEMBERED
from postoffice.testing import ManualExecutor, finish
from tests.accounts.slowed import AFAR, ANN, HERE, JOE, RIGHT, THERE, Office, pass_by, right, wrong


def test_right_passwords_count_nothing(office):
    assert all(right(office.try_(password=RIGHT)) for _ in range(20))
    assert office.attempts.failures(1.8e9) == []


def test_many_right_ones_at_once_from_a_new_network_all_get_in(tmp_path, clock, runs):
    """An office after a power cut: more of them than there are tries."""
    executor = ManualExecutor()
    office = Office(str(tmp_path / "logins.db"), clock, executor)
    for n in range(30):
        finish(office.directory.add(f"a{n}@example.net", "secret:", "keys"))
    outcomes = [office.try_(f"a{n}@example.net", RIGHT) for n in range(30)]
    executor.work_on()
    assert all(map(right, outcomes))
    assert clock.seconds() == 0
    office.login_db.close()


def test_a_known_network_gets_in_whatever_others_try(office, clock, runs):
    office.try_(password=RIGHT)
    office.try_(password=RIGHT, address=AFAR)
    for n in range(9):
        office.try_(password=b"wrong %d" % n, address=f"203.0.113.{n}")
        office.try_(ANN, b"wrong %d" % n, HERE)
    assert right(office.try_(password=RIGHT))
    assert right(office.try_(password=RIGHT, address="2001:db8::2"))
    assert office.try_(password=RIGHT, address=THERE) == []


def test_a_restart_keeps_owners_and_guessers_apart(office, tmp_path, clock, runs):
    office.try_(password=RIGHT)
    for n in range(9):
        office.try_(password=b"wrong %d" % n, address=f"203.0.113.{n}")
    again = Office(str(tmp_path / "logins.db"), clock)
    assert right(again.try_(password=RIGHT))
    assert again.try_(password=RIGHT, address=THERE) == []
    again.login_db.close()


@pytest.fixture
def held(tmp_path, clock, runs):
    """An office that was started anew, after JOE was here; what it verifies waits."""
    before = Office(str(tmp_path / "held.db"), clock)
    assert right(before.try_(password=RIGHT))
    before.login_db.close()
    hashing = ManualExecutor()
    office = Office(str(tmp_path / "held.db"), clock, hashing=hashing)
    office.hashing = hashing
    yield office
    office.login_db.close()


def storm(office, bots=330):
    """Bots of one network each, with wrong passwords for nobody."""
    return [office.try_(f"bot{n}@example.net", b"x", f"2001:db8:{n:x}::1") for n in range(bots)]


def test_after_a_restart_owners_come_before_all_bots(held, runs):
    bots = storm(held)
    owner = held.try_(password=RIGHT)
    for _ in range(2):  # those under way, and then the owner
        held.hashing.work()
    assert right(owner)
    assert len(runs) <= 2 * password_verifier.AT_ONCE + 1
    held.hashing.work_on()
    refused = [one for one in bots if not wrong(one)]
    assert len(refused) == 330 - password_verifier.STRANGERS.total - password_verifier.AT_ONCE
    assert {str(one) for (one,) in refused} == {
        "login refused: too many passwords wait to be verified: 200"
    }


@pytest.mark.parametrize("address", [THERE, AFAR])
def test_an_owners_name_does_not_help_other_networks(held, runs, address):
    storm(held)
    assert held.try_(password=b"guessed", address=address) != []
    assert held.checker._verifier._queue._known.next() is None


def test_a_ledger_that_fails_makes_nobody_known(held, runs):
    held.login_db.close()
    storm(held)
    held.try_(password=RIGHT)
    assert held.checker._verifier._queue._known.next() is None
    held.login_db.open()


def test_so_many_networks_of_an_account_are_known_and_the_latest_stay(office, clock, monkeypatch):
    monkeypatch.setattr(attempts, "NETWORKS", 3)
    for n in range(6):
        office.attempts.remember_network(JOE, f"192.0.2.{n}", float(n))
        office.attempts.remember_network(ANN, "192.0.2.0", float(n))
    with office.login_db.turn() as database:
        known = database.execute("SELECT account, network FROM known").fetchall()
    assert sorted(known) == [(ANN, "192.0.2.0"), *((JOE, f"192.0.2.{n}") for n in (3, 4, 5))]


def test_a_known_network_has_an_allowance_of_its_own_and_no_more(office, clock, runs):
    """Who shares the owner's address may not guess without end."""
    office.try_(password=RIGHT)
    assert office.guess(5) == 2
    pass_by(clock, PATIENCE)
    assert right(office.try_(ANN, b"hers"))
    later = office.try_(password=RIGHT)
    pass_by(clock, 30 - PATIENCE)
    assert right(later) or right(office.try_(password=RIGHT))


def test_what_a_known_network_gets_wrong_is_shown(office, clock):
    office.try_(password=RIGHT)
    office.guess(2)
    assert [(one.name, one.count) for one in office.attempts.failures(1.8e9)] == [
        (JOE, 2),
        (HERE, 2),
    ]


def test_logins_from_a_known_network_do_not_ask_the_database(office, clock):
    office.try_(password=RIGHT)
    office.login_db.close()
    with capturedLogs() as logged:
        assert all(right(office.try_(password=RIGHT)) for _ in range(3))
    assert logged == []
    office.login_db.open()


def test_a_known_network_is_written_down_again_after_a_while(office, clock):
    office.try_(password=RIGHT)
    clock.advance(REMEMBERED)
    office.try_(password=RIGHT)
    with office.login_db.turn() as database:
        ((last,),) = database.execute("SELECT last FROM known").fetchall()
    assert last == 1.8e9 + REMEMBERED
