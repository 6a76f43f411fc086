"""SCRAM keys are derived from a password after a login."""

from __future__ import annotations

import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, eventAsText

from postoffice.accounts import password_upgrade
from postoffice.accounts.checker import Checker
from postoffice.accounts.credentials import PlainLogin
from postoffice.accounts.passwords import verify
from postoffice.model.address import Account
from postoffice.model.envelope import Client
from postoffice.model.errors import TemporaryFailure
from postoffice.protocol.scram import Keys, derive
from postoffice.testing import ManualExecutor, finish
from tests.accounts.proving import (
    HASHES,
    KEYS,
    OTHER,
    RIGHT,
    account,
    by_scram,
    checker_of,
    directory_of,
    everybody,
)


@pytest.fixture
def directory():
    return everybody()


@pytest.fixture
def executor():
    return ManualExecutor()


@pytest.fixture
def checker(directory):
    return checker_of(directory)


# -- keys that are derived ------------------------------------------------------------


@pytest.fixture
def some():
    """Accounts that have a password each, and no keys."""
    return directory_of(*(account(f"{who}@example.net", RIGHT) for who in "abcd"))


def keys_of(directory, who):
    found = finish(directory.find(f"{who}@example.net")).scram
    return None if found is None else Keys.parse(found)


def enter(checker, executor, *whose, password=RIGHT):
    """Log in, each with one run of the hash; what follows from it waits."""
    logins = [
        Deferred.fromCoroutine(
            checker.requestAvatarId(
                PlainLogin(f"{who}@example.net".encode(), password, Client(), "pop3")
            )
        )
        for who in whose
    ]
    derivations = []
    while executor.waiting:
        result, function, args = executor.waiting.pop(0)
        if function is derive:
            derivations.append((result, function, args))
        else:
            result.callback(function(*args))
    executor.waiting = derivations
    for login in logins:
        login.addErrback(lambda failure: failure.trap(UnauthorizedLogin) and None)
    assert all(login.called for login in logins), "a login waits for keys"
    return [login.result for login in logins]


def under_way(executor):
    return [(function, args) for _, function, args in executor.waiting]


def test_the_next_login_with_a_password_makes_the_keys_and_does_not_wait_for_them(some, executor):
    checker = checker_of(some, executor=executor)
    assert [found.address for found in enter(checker, executor, "a")] == ["a@example.net"]
    assert under_way(executor) == [(derive, (RIGHT,))]
    assert keys_of(some, "a") is None
    executor.work_on()
    keys = keys_of(some, "a")
    assert keys == derive(RIGHT, keys.salt)
    assert finish(by_scram(checker, b"a@example.net", RIGHT)).address == "a@example.net"
    assert keys_of(some, "b") is None


def test_keys_that_are_there_are_not_made_again(directory, some, executor):
    checker = checker_of(directory, some, executor=executor)
    enter(checker, executor, "joe")
    assert executor.waiting == []
    enter(checker, executor, "a")
    enter(checker, executor, "a")
    assert len(executor.waiting) == 1
    executor.work_on()
    enter(checker, executor, "a")
    assert executor.waiting == []


def test_a_wrong_password_makes_no_keys(some, executor):
    checker = checker_of(some, executor=executor)
    assert enter(checker, executor, "a", "e", password=OTHER) == [None, None]
    assert executor.waiting == []


def test_they_are_made_one_after_the_other(some, executor):
    checker = checker_of(some, executor=executor)
    enter(checker, executor, "a", "b", "c")
    for number, who in enumerate("abc", 1):
        assert len(executor.waiting) == 1
        executor.work()
        assert [keys_of(some, one) is not None for one in "abcd"] == [
            one <= who for one in "abcd"
        ], number
    assert executor.waiting == []


def test_waiting_passwords_are_bounded_and_the_rest_are_upgraded_at_the_next_login(
    some, executor, monkeypatch
):
    monkeypatch.setattr(password_upgrade, "WAITING", 2)
    checker = checker_of(some, executor=executor)
    enter(checker, executor, "a", "b", "c")
    executor.work_on()
    assert [keys_of(some, who) is not None for who in "abc"] == [True, True, False]
    enter(checker, executor, "c")
    executor.work_on()
    assert keys_of(some, "c")


def test_keys_of_a_password_that_was_changed_meanwhile_are_not_kept(some, executor):
    checker = checker_of(some, executor=executor)
    enter(checker, executor, "a")
    finish(some.set_secret("a@example.net", HASHES[OTHER]))
    executor.work_on()
    assert keys_of(some, "a") is None
    enter(checker, executor, "a", password=OTHER)
    executor.work_on()
    keys = keys_of(some, "a")
    assert keys == derive(OTHER, keys.salt)


@pytest.mark.parametrize(
    ("why", "is_ours"),
    [(TemporaryFailure("the disk is full"), False), (ValueError("a mistake of ours"), True)],
)
def test_a_failure_is_logged_without_the_password_and_the_others_are_upgraded(
    some, executor, failures, why, is_ours
):
    keep = some.keep_scram

    async def keeps(name, secret, keys, new=None):
        if name == "a@example.net":
            raise why
        return await keep(name, secret, keys, new)

    some.keep_scram = keeps
    checker = checker_of(some, executor=executor)
    with capturedLogs() as logged:
        enter(checker, executor, "a", "b")
        executor.work_on()
    (event,) = logged
    assert "a@example.net" in eventAsText(event)
    assert "secret word" not in eventAsText(event)
    assert [failure.value for failure in failures] == [why] * is_ours
    failures.clear()
    assert (keys_of(some, "a"), keys_of(some, "b") is not None) == (None, True)


class Table:
    """A directory that nobody can write to, as those of plugins are."""

    def __init__(self, *accounts):
        self.accounts = {one.address: one for one in accounts}

    async def find(self, name):
        return self.accounts.get(name)


def test_no_keys_are_made_for_whom_they_cannot_be_kept(some, executor):
    """It would be work for nothing, with every login."""
    checker = checker_of(Table(account("a@example.net", RIGHT)), some, executor=executor)
    enter(checker, executor, "a", "b")
    executor.work_on()
    assert (keys_of(some, "a"), keys_of(some, "b") is not None) == (None, True)
    enter(checker, executor, "a")
    assert executor.waiting == []


def test_a_login_through_another_checker_makes_no_keys(some, executor):
    class Vouches:
        credentialInterfaces = Checker.credentialInterfaces

        def requestAvatarId(self, credentials):
            return b"a@example.net"

    checker = checker_of(some, executor=executor, others=[Vouches()])
    (found,) = enter(checker, executor, "a", password=OTHER)
    assert found.address == "a@example.net"
    assert executor.waiting == []


# -- hashes that are outdated ---------------------------------------------------------

#: The digest of RIGHT, as an old LDAP server has it.
OLD = "{SHA}PDUC6jG3V40qqE4XqHRFLkyoMVM="


@pytest.fixture
def imported():
    """Accounts with a hash of another program: one without SCRAM keys, one with."""
    return directory_of(
        Account("a@example.net", "a@example.net", OLD),
        Account("b@example.net", "b@example.net", OLD, str(KEYS[RIGHT])),
    )


def secret_of(directory, who):
    return finish(directory.find(f"{who}@example.net")).secret


def test_a_login_with_an_outdated_hash_makes_a_new_one_and_the_log_says_so(
    imported, executor, logged
):
    checker = checker_of(imported, executor=executor)
    assert None not in enter(checker, executor, "a", "b")
    assert [secret_of(imported, who) for who in "ab"] == [OLD, OLD]
    executor.work_on()
    for who in "ab":
        assert secret_of(imported, who).startswith("$argon2id$")
        assert verify(secret_of(imported, who), RIGHT)
        assert f"password-rehashed account={who}@example.net why=SHA" in logged
    assert keys_of(imported, "b") == KEYS[RIGHT]
    assert keys_of(imported, "a") == derive(RIGHT, keys_of(imported, "a").salt)
    assert None not in enter(checker, executor, "a", "b")
    assert executor.waiting == []


def test_a_wrong_password_and_a_directory_of_others_change_no_hash(imported, executor):
    checker = checker_of(imported, executor=executor)
    assert enter(checker, executor, "a", password=OTHER) == [None]
    table = Table(Account("a@example.net", "a@example.net", OLD))
    assert None not in enter(checker_of(table, executor=executor), executor, "a")
    executor.work_on()
    assert secret_of(imported, "a") == OLD
    assert table.accounts["a@example.net"].secret == OLD


def test_a_password_that_is_changed_meanwhile_keeps_its_own_hash(imported, executor, logged):
    checker = checker_of(imported, executor=executor)
    enter(checker, executor, "a")
    finish(imported.set_secret("a@example.net", HASHES[OTHER]))
    executor.work_on()
    assert secret_of(imported, "a") == HASHES[OTHER]
    assert not any("password-rehashed" in line for line in logged)


# -- the end ------------------------------------------------------------------------


def test_a_stop_without_work_ends_at_once(checker):
    for _ in range(2):
        finish(checker.stop())


def test_the_stop_waits_for_what_is_under_way_and_for_no_more(some, executor):
    checker = checker_of(some, executor=executor)
    enter(checker, executor, "a", "b")
    stopped = [Deferred.fromCoroutine(checker.stop()) for _ in range(2)]
    assert not any(one.called for one in stopped)
    executor.work()
    assert all(one.called for one in stopped)
    assert executor.waiting == []
    assert [keys_of(some, who) is not None for who in "ab"] == [True, False]
    finish(checker.stop())
    assert not checker._password_upgrade._waiting, "a password stays in memory"


def test_after_the_stop_no_keys_are_made(some, executor):
    checker = checker_of(some, executor=executor)
    finish(checker.stop())
    assert enter(checker, executor, "a") != [None]
    assert executor.waiting == []
