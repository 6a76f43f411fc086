"""Verifying passwords: one run for all who ask, remembered for a while, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from postoffice.accounts import passwords
from postoffice.accounts.password_verifier import (
    LIFETIME,
    SILENCE,
    STRANGERS,
    PasswordVerifier,
)
from postoffice.model.errors import TemporaryFailure
from postoffice.testing import ImmediateExecutor, finish


class HeldWorkers:
    """Workers that work when they are told to."""

    def __init__(self):
        self.jobs = []

    def run(self, function, *args):
        result = Deferred()
        self.jobs.append((result, function, args))
        return result

    def work(self):
        """All there is to do, and what comes of it."""
        while self.jobs:
            self.work_once()

    def work_once(self):
        result, function, args = self.jobs.pop(0)
        try:
            outcome = function(*args)
        except Exception as error:
            result.errback(error)
        else:
            result.callback(outcome)


@pytest.fixture
def executor():
    return HeldWorkers()


@pytest.fixture
def asked(executor, clock):
    """Ask whether a password is right: the answer, in a list as soon as it is there."""
    subject = PasswordVerifier(executor, clock.seconds, at_once=2)

    def ask(user, secret, password, **where):
        answer = []
        waiting = Deferred.fromCoroutine(subject.matches(user, secret, password, **where))
        waiting.addErrback(lambda failure: failure.value)
        waiting.addCallback(answer.append)
        answer_of[id(answer)] = waiting
        return answer

    answer_of = {}
    ask.cancel = lambda answer: answer_of[id(answer)].cancel()
    return ask


def test_right_and_wrong(asked, executor, runs):
    right, wrong, nobody = asked(b"u", "a:", b"a"), asked(b"u", "a:", b"b"), asked(b"x", None, b"a")
    assert not right
    executor.work()
    assert (right, wrong, nobody) == ([True], [False], [False])
    assert len(runs) == 3


def test_a_right_password_is_remembered_for_a_while(asked, executor, runs, clock):
    asked(b"u", "a:", b"a")
    executor.work()
    clock.advance(LIFETIME - 1)
    assert asked(b"u", "a:", b"a") == [True]
    clock.advance(1)
    again = asked(b"u", "a:", b"a")
    assert not again
    executor.work()
    assert again == [True]
    assert len(runs) == 2


def test_wrong_passwords_and_unknown_users_are_not_remembered(asked, executor, runs):
    for _ in range(3):
        asked(b"u", "a:", b"b")
        asked(b"x", None, b"a")
        executor.work()
    assert len(runs) == 6


def test_another_hash_is_another_question(asked, executor, runs):
    asked(b"u", "a:", b"a")
    executor.work()
    old, new = asked(b"u", "b:", b"a"), asked(b"u", "b:", b"b")
    executor.work()
    assert (old, new) == ([False], [True])
    assert asked(b"u", "b:", b"b") == [True]


def test_equal_requests_share_one_run(asked, executor, runs):
    answers = [asked(b"u", "a:", b"a") for _ in range(50)]
    wrong = [asked(b"u", "a:", b"b") for _ in range(50)]
    executor.work()
    assert answers == [[True]] * 50
    assert wrong == [[False]] * 50
    assert len(runs) == 2


def test_unknown_users_share_no_run(asked, executor, runs):
    for user in (b"a", b"b", b"c"):
        asked(user, None, b"a")
    executor.work()
    assert len(runs) == 3


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_cancelled_request_does_not_cancel_the_others(asked, executor, runs, gone):
    answers = [asked(b"u", "a:", b"a") for _ in range(3)]
    asked.cancel(answers[gone])
    assert isinstance(answers[gone][0], CancelledError)
    executor.work()
    assert [answer for n, answer in enumerate(answers) if n != gone] == [[True]] * 2
    assert len(runs) == 1


def test_what_nobody_waits_for_is_not_done(asked, executor, runs):
    asked.cancel(asked(b"u", "a:", b"a"))
    later = asked(b"u", "a:", b"a")
    executor.work()
    assert later == [True]
    assert len(runs) == 1


def test_one_that_is_told_may_end_another(executor, runs, clock):
    subject = PasswordVerifier(executor, clock.seconds)
    first, second, third = (
        Deferred.fromCoroutine(subject.matches(b"u", "a:", b"a")) for _ in range(3)
    )
    answers = []
    first.addCallback(lambda answer: (second.cancel(), answers.append(answer)))
    second.addErrback(lambda failure: answers.append(failure.trap(CancelledError)))
    third.addCallback(answers.append)
    executor.work()
    assert answers == [CancelledError, True, True]


def test_trouble_reaches_all_and_is_not_remembered(asked, executor, runs):
    answers = [asked(b"u", "a:", b"no memory") for _ in range(3)]
    executor.work()
    assert all(isinstance(answer, TemporaryFailure) for (answer,) in answers)
    again = asked(b"u", "a:", b"no memory")
    executor.work()
    assert isinstance(again[0], TemporaryFailure)
    assert len(runs) == 2


def refused(answer):
    return [type(one) for one in answer] == [TemporaryFailure]


def test_only_so_many_wait(asked, executor, runs):
    most = STRANGERS.total + 2  # two are under way
    answers = [asked(b"u%d" % n, None, b"a") for n in range(most)]
    assert refused(asked(b"one more", None, b"a"))
    same = asked(b"u7", None, b"a")  # costs no run
    asked.cancel(answers[5])
    instead = asked(b"one more", None, b"a")
    executor.work()
    assert same == instead == [False]
    assert len(runs) == most
    asked(b"one more", None, b"a")
    executor.work()
    assert len(runs) == most + 1


def test_no_more_run_at_once_than_there_are_workers(asked, executor, runs):
    for n in range(20):
        asked(b"u%d" % n, None, b"a")
    seen = []
    while executor.jobs:
        seen.append(len(executor.jobs))
        executor.work_once()
    assert max(seen) == 2
    assert len(runs) == 20


def flood(asked, bots=330):
    """Wrong passwords for nobody, each bot of a network and prefix of its own."""
    return [
        asked(b"bot%d" % n, None, b"x%d" % n, network=f"2001:db8:{n:x}::/64") for n in range(bots)
    ]


def test_the_known_come_first_however_many_bots_wait(asked, executor, runs):
    bots = flood(asked)
    assert sum(map(refused, bots)) == 330 - STRANGERS.total - 2
    owner = asked(b"u", "a:", b"a", network="192.0.2.1", known=True)
    for _ in range(3):  # the two that were under way, and then it
        executor.work_once()
    assert owner == [True]
    assert len(runs) == 3


def test_after_a_restart_a_thousand_owners_are_in_while_the_attack_goes_on(asked, executor, runs):
    """None is refused, and of the runs meanwhile seven in eight are theirs."""
    flood(asked)
    owners = []
    for n in range(1000):
        where = f"198.51.{n // 250}.{n % 250}"
        owners.append(asked(b"u%d" % n, "a:", b"a", network=where, known=True))
    bot = 1000
    while not all(owners):
        executor.work_once()
        flooded = f"2001:db8:{bot % 0xFFFF:x}::/64"
        asked(b"bot%d" % bot, None, b"x", network=flooded)  # another bot for each run
        bot += 1
    assert owners == [[True]] * 1000
    assert len(runs) <= 1000 * 8 / 7 + 4
    assert len(runs) > 1000 + 100  # and strangers are not shut out


def test_a_storm_at_a_known_account_from_elsewhere_takes_no_place_of_the_known(
    asked, executor, runs
):
    storm = [
        asked(b"u", "a:", b"wrong %d" % n, network=f"203.0.{n % 256}.{n // 256}")
        for n in range(3000)
    ]
    owner = asked(b"u", "a:", b"a", network="192.0.2.1", known=True)
    executor.work_once()
    executor.work_once()
    executor.work_once()
    assert owner == [True]
    assert sum(map(refused, storm)) >= 3000 - STRANGERS.total - 2


def test_a_known_client_does_not_share_a_strangers_run(asked, executor, runs):
    flood(asked, 100)
    stranger = asked(b"u", "a:", b"a", network="203.0.113.1")
    owner = asked(b"u", "a:", b"a", network="192.0.2.1", known=True)
    for _ in range(3):
        executor.work_once()
    assert owner == [True]
    assert stranger == []
    executor.work()
    assert stranger == [True]


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda n: f"2001:db8:7:{n:x}::/64", id="a /48 of IPv6"),
        pytest.param(lambda n: f"203.0.113.{n % 250}", id="a /24 of IPv4"),
        pytest.param(lambda n: "203.0.113.9", id="one address"),
        pytest.param(lambda n: f"2001:db8:{n % 3:x}:{n:x}::/64", id="three of them"),
    ],
)
def test_one_prefix_keeps_no_other_stranger_waiting(asked, executor, runs, place):
    for n in range(330):
        asked(b"bot%d" % n, None, b"x%d" % n, network=place(n))
    traveller = asked(b"u", "a:", b"a", network="192.0.2.1")
    for _ in range(2 + 4):
        executor.work_once()
    assert traveller == [True]


def test_a_request_that_gives_way_fails(asked, executor, runs):
    """This machine alone may fill the line; the last of it gives way to others."""
    local = [asked(b"u%d" % n, None, b"x") for n in range(STRANGERS.total + 2)]
    other = asked(b"u", "a:", b"a", network="192.0.2.1")
    assert [refused(one) for one in local] == [False] * (STRANGERS.total + 1) + [True]
    executor.work()
    assert other == [True]
    assert local[:-1] == [[False]] * (STRANGERS.total + 1)


def test_cancelled_requests_leave_nothing_behind(executor, clock):
    subject = PasswordVerifier(executor, clock.seconds, at_once=1)
    waiting = [
        Deferred.fromCoroutine(
            subject.matches(b"u%d" % n, None, b"a", network=f"192.0.{n}.1", known=bool(n % 2))
        )
        for n in range(50)
    ]
    for one in waiting:
        one.addErrback(lambda failure: failure.trap(CancelledError))
        one.cancel()
    executor.work()
    for line in (subject._queue._known, subject._queue._strangers):
        assert (len(line), line._prefixes, line._networks) == (0, {}, {})
    assert subject._under_way == {}


def test_only_a_digest_is_remembered(clock):
    """And with a key of this process: it cannot be guessed at from a memory dump alone."""
    secret = passwords.hash_password(b"secret word")
    first, second = (PasswordVerifier(ImmediateExecutor(), clock.seconds) for _ in range(2))
    for one in (first, second):
        assert finish(one.matches(b"u", secret, b"secret word"))
        assert "secret word" not in repr(vars(one)) + repr(one._verified._entries)
    assert set(first._verified._entries) != set(second._verified._entries)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=6), min_size=3, max_size=3), st.lists(st.integers(0, 18)))
def test_no_two_questions_have_the_same_digest(parts, cuts):
    subject = PasswordVerifier(ImmediateExecutor(), Clock().seconds)
    whole = b"".join(parts)
    for one, two in zip(sorted(cuts), sorted(cuts)[1:], strict=False):
        other = [whole[:one], whole[one:two], whole[two:]]
        same = subject._digest(*other) == subject._digest(*parts)
        assert same == (other == parts)


def test_a_stored_hash_that_cannot_be_used_is_logged_once_in_a_while(logged, clock):
    subject = PasswordVerifier(ImmediateExecutor(), clock.seconds, at_once=1)
    expensive = "$6$rounds=999999999$abcdefgh$" + "a" * 86
    for secret in (expensive, expensive, "{SHA}Be4hqlAFIiNimj/hH0EB+FoZW3Y=", None):
        assert not finish(subject.matches(b"ann@example.net", secret, b"x"))
    assert logged == [
        "logins of ann@example.net fail: the stored password hash cannot be used: "
        "rounds 999999999 is not between 1 and 1000000"
    ]
    clock.advance(SILENCE + 1)
    assert not finish(subject.matches(b"ann@example.net", expensive, b"x"))
    assert len(logged) == 2
