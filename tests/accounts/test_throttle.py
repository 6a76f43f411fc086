"""Wrong passwords are slowed, by whoever and however they come; right ones are not."""

from __future__ import annotations

import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText

from postoffice.accounts import attempts, password_verifier, passwords
from postoffice.accounts.attempts import Allowance, Attempts
from postoffice.accounts.checker import Checker
from postoffice.accounts.credentials import PlainLogin, ScramLogin, SharedLogin
from postoffice.accounts.login_db import LoginDB
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.throttle import BELIEVED, PATIENCE, REMEMBERED, SWEEPING, Throttle
from postoffice.model.address import Account
from postoffice.model.envelope import Client
from postoffice.model.errors import AccountDisabled, TemporaryFailure, TooManyTries
from postoffice.protocol.sasl import ScramClaim, SharedClaim
from postoffice.protocol.scram import Salt
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish

JOE, ANN, EVE = (f"{name}@example.net" for name in ("joe", "ann", "eve"))
RIGHT = b"secret"
HERE, THERE, AFAR = "192.0.2.1", "198.51.100.7", "2001:db8::1"


@pytest.fixture
def runs(monkeypatch):
    """Each run of the hash; here the hash of a password is the password and a colon."""
    seen = []

    def verify(secret, password):
        seen.append(password)
        if password == b"no memory":
            raise TemporaryFailure("no memory")
        return secret == password.decode() + ":"

    monkeypatch.setattr(passwords, "verify", verify)
    return seen


@pytest.fixture
def clock():
    return Clock()


class Office:
    """A checker whose wrong passwords are slowed: four a minute from a network, ten at an account.

    Half of them at once.  ``try_`` begins a login: a list with its outcome, as soon as that is
    there.
    """

    def __init__(self, path, clock, executor=None, hashing=None):
        self.clock, self.executor = clock, executor or ImmediateExecutor()
        self.login_db = LoginDB(path)
        self.login_db.open()
        self.attempts = Attempts(self.login_db, Allowance(10, 60), Allowance(4, 60))
        self.throttle = Throttle(
            self.attempts, self.executor, clock, Allowance(4, 60), lambda: 1.8e9 + clock.seconds()
        )
        self.directory = MemoryDirectory()
        finish(self.directory.add_domain("example.net"))
        finish(self.directory.add(JOE, "secret:", "keys that are there already"))
        finish(self.directory.add(ANN, "hers:", "keys"))
        self.checker = Checker(
            [self.directory],
            hashing or ImmediateExecutor(),
            clock=clock.seconds,
            throttle=self.throttle,
        )

    def try_(self, user=JOE, password=b"wrong", address=HERE, service="pop3"):
        return self.show(PlainLogin(user.encode(), password, Client(address), service))

    def show(self, credentials):
        outcome = []
        self.last = Deferred.fromCoroutine(self.checker.requestAvatarId(credentials))
        self.last.addErrback(lambda failure: failure.value)
        self.last.addCallback(outcome.append)
        return outcome

    def guess(self, count, user=JOE, address=HERE):
        """Wrong passwords, each another one; how many were answered at once."""
        outcomes = [self.try_(user, b"wrong %d" % n, address) for n in range(count)]
        return sum(map(wrong, outcomes))


@pytest.fixture
def office(tmp_path, clock, runs):
    office = Office(str(tmp_path / "logins.db"), clock)
    yield office
    office.login_db.close()


def right(outcome):
    return [type(one) for one in outcome] == [Account]


def wrong(outcome):
    return [type(one) for one in outcome] == [UnauthorizedLogin]


def unlooked(outcome):
    return [type(one) for one in outcome] == [TooManyTries]


def pass_by(clock, seconds):
    clock.pump([0.5] * int(seconds * 2))


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


def test_nobody_who_has_no_account_is_treated_otherwise(office, clock, runs):
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


# -- those who are right ----------------------------------------------------------------


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


def test_who_got_in_from_there_lately_gets_in_whatever_others_try(office, clock, runs):
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
        "a login is refused, for too many passwords wait to be verified: 200"
    }


@pytest.mark.parametrize("address", [THERE, AFAR])
def test_an_owners_name_helps_nobody_who_comes_from_elsewhere(held, runs, address):
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
        office.attempts.meet(JOE, f"192.0.2.{n}", float(n))
        office.attempts.meet(ANN, "192.0.2.0", float(n))
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


def test_the_ledger_is_left_alone_by_those_who_come_again(office, clock):
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


def test_who_is_disabled_hears_it_only_with_the_right_password(office):
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
    clock.advance(BELIEVED)
    assert right(waiting)


def test_nobody_who_waits_asks_the_ledger_more_than_now_and_then(office, clock, monkeypatch):
    office.guess(2)
    asked = []
    take = office.attempts.take
    monkeypatch.setattr(office.attempts, "take", lambda *args: asked.append(args) or take(*args))
    office.guess(50)
    pass_by(clock, PATIENCE)
    assert len(asked) <= PATIENCE / BELIEVED + 2


def test_who_goes_while_he_waits_leaves_nothing_behind(office, clock):
    office.guess(2)
    office.try_()
    office.last.cancel()
    pass_by(clock, PATIENCE)
    assert office.throttle._waiting == {}
    assert clock.getDelayedCalls() == []


def test_who_goes_while_the_password_is_looked_at_has_had_his_try(office, runs):
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
