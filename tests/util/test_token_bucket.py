"""How much of something each may have in a while."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postoffice.util.token_bucket import TokenBucket


class Time:
    """A clock that goes when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def budget(time):
    """Three a minute, for two at most who are remembered."""
    return TokenBucket(3, 60, time, size=2)


def spent(budget, key, tries=10):
    """How often something can be taken."""
    return sum(budget.spend(key) for _ in range(tries))


def test_a_full_bucket_is_spent_and_then_refused(budget):
    assert [budget.spend("joe") for _ in range(4)] == [True, True, True, False]


def test_each_has_a_budget_of_his_own(budget):
    assert spent(budget, "joe") == 3
    assert spent(budget, "ann") == 3


def test_it_fills_again_evenly_and_no_fuller_than_full(budget, time):
    assert spent(budget, "joe") == 3
    for seconds, more in ((19, 0), (1, 1), (40, 2), (3600, 3)):
        time.now += seconds
        assert spent(budget, "joe") == more


def test_what_is_refused_takes_nothing(budget):
    assert not budget.spend("joe", 4)
    assert budget.spend("joe", 2)
    assert not budget.spend("joe", 2)
    assert budget.spend("joe", 1)


def test_it_says_how_long_to_wait(budget, time):
    assert budget.wait("joe") == budget.wait("joe", 3) == 0
    budget.spend("joe", 3)
    assert (budget.wait("joe"), budget.wait("joe", 2)) == (20, 40)
    time.now += 15
    assert budget.wait("joe") == 5


def test_what_can_never_be_had_is_waited_for_until_the_bucket_is_full(budget):
    budget.spend("joe", 3)
    assert budget.wait("joe", 100) == 60


def test_what_is_given_back_can_be_spent_again_and_no_more(budget):
    budget.spend("joe", 3)
    budget.give_back("joe", 2)
    assert spent(budget, "joe") == 2
    budget.give_back("joe", 100)
    assert spent(budget, "joe") == 3


def test_a_forgotten_key_has_a_full_bucket(budget):
    budget.spend("joe", 3)
    budget.forget("joe")
    budget.forget("nobody")
    assert budget.wait("joe") == 0
    assert spent(budget, "joe") == 3


def test_a_clock_that_goes_back_takes_nothing_away(budget, time):
    budget.spend("joe")
    time.now -= 500
    assert spent(budget, "joe") == 2


def test_those_who_were_not_asked_about_for_longest_are_forgotten(budget):
    for who in ("joe", "ann", "joe"):
        budget.spend(who)
    budget.spend("eve")  # ann goes
    assert spent(budget, "joe") == 1
    assert spent(budget, "ann") == 3


def test_asking_and_giving_back_remember_nobody(budget):
    for number in range(100):
        budget.give_back(number)
        budget.wait(number)
    assert len(budget._buckets) == 0


KEYS = st.sampled_from(["joe", "ann", "eve"])
STEPS = st.one_of(
    st.tuples(st.just("spend"), KEYS, st.integers(1, 5)),
    st.tuples(st.just("give_back"), KEYS, st.integers(1, 5)),
    st.tuples(st.just("forget"), KEYS, st.just(0)),
    st.tuples(st.just("pass"), st.just(""), st.integers(0, 100)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS), st.integers(1, 3))
def test_whatever_happens_a_bucket_is_between_empty_and_full(steps, size):
    time = Time()
    budget = TokenBucket(4, 60, time, size)
    for what, key, amount in steps:
        if what == "pass":
            time.now += amount
        elif what == "forget":
            budget.forget(key)
        else:
            getattr(budget, what)(key, amount)
        assert len(budget._buckets) <= size
        for one in ("joe", "ann", "eve"):
            left, _ = budget._left(one)
            assert 0 <= left <= 4
            assert (budget.wait(one) == 0) == (left >= 1)
            assert 0 <= budget.wait(one, 4) <= 60


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 4)), max_size=30))
def test_in_no_while_more_is_spent_than_one_bucket_and_what_flows_in(steps):
    time = Time()
    budget, had = TokenBucket(4, 60, time), 0
    for seconds, amount in steps:
        time.now += seconds
        had += amount * budget.spend("joe", amount)
        assert had <= 4 + (time.now - 1000) * 4 / 60 + 1e-9
