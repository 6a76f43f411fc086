"""Sending rates: no time of their length has more recipients; the wait that is told is right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.outbound.sending_rate import SLOTS, SendingRate, suspect

NOW = 1_800_000_000.0

rates = st.builds(SendingRate, st.integers(1, 20), st.sampled_from([60.0, 100.0, 3600.0, 86400.0]))
#: Pauses, in parts of the rate's time, and recipients.
messages = st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 25)), max_size=40)


@given(rates, messages)
def test_no_time_of_its_length_has_more(rate, sent):
    counts: dict[int, int] = {}
    taken = []
    now = NOW
    for pause, many in sent:
        now += pause * rate.seconds
        if rate.wait(counts, now, many) == 0:
            slot = rate.slot(now)
            counts[slot] = counts.get(slot, 0) + many
            taken.append((now, many))
    for end, _ in taken:
        within = [many for at, many in taken if end - rate.seconds < at <= end]
        assert sum(within) <= rate.most


@given(rates, messages, st.integers(1, 25))
def test_after_the_wait_there_is_room_and_not_before(rate, sent, more):
    counts: dict[int, int] = {}
    now = NOW
    for pause, many in sent:
        now += pause * rate.seconds
        counts[rate.slot(now)] = counts.get(rate.slot(now), 0) + many
    wait = rate.wait(counts, now, more)
    if wait is None:
        assert more > rate.most
        return
    assert 0 <= wait <= rate.seconds * (SLOTS + 1) / SLOTS + 0.001
    assert rate.wait(counts, now + wait + 0.001, more) == 0
    if wait > 0.002:
        assert rate.wait(counts, now + wait - 0.001, more) > 0


@given(rates, messages)
def test_a_slot_counts_until_its_time(rate, sent):
    slot = rate.slot(NOW)
    until = rate.until(slot)
    assert rate.used({slot: 3}, until - 0.001) == 3
    assert rate.used({slot: 3}, until + 0.001) == 0
    assert until - NOW >= rate.seconds


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        ((200, 3600), "200 recipients in an hour"),
        ((1000, 86400), "1000 recipients in a day"),
        ((5, 7200), "5 recipients in 2 hours"),
        ((5, 604800), "5 recipients in 7 days"),
        ((1, 60), "1 recipients in a minute"),
        ((9, 300), "9 recipients in 5 minutes"),
        ((9, 1), "9 recipients in 1 minutes"),
    ],
)
def test_a_rate_in_words(rate, words):
    assert str(SendingRate(*rate)) == words


@pytest.mark.parametrize(
    ("tried", "refused", "is_"),
    [(30, 7, True), (30, 6, False), (29, 29, False), (1000, 201, True), (1000, 200, False)],
)
def test_accounts_that_are_suspected(tried, refused, is_):
    assert suspect(tried, refused) is is_
