"""So many messages, and no more."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from postoffice.policy.rate_limit import Rate, RatePolicy
from postoffice.testing import finish


@pytest.fixture
def clock():
    return Clock()


def messages(policy, envelope, many):
    """What is said to so many messages."""
    return [finish(policy.sender(envelope)) for _ in range(many)]


def test_a_client_that_comes_too_often_is_told_when_to_come_again(clock, envelope):
    policy = RatePolicy({"client": Rate(3, 3600)}, clock.seconds)
    *good, refusal = messages(policy, envelope(), 4)
    assert good == [None] * 3
    assert (refusal.code, refusal.status) == (450, "4.7.1")
    assert refusal.text.endswith("come again in 20 min")
    clock.advance(1200)
    assert messages(policy, envelope(), 1) == [None]


def test_an_ipv6_client_is_all_of_its_64(clock, envelope):
    policy = RatePolicy({"client": Rate(1, 60)}, clock.seconds)
    assert messages(policy, envelope("2001:db8:1:2::1"), 1) == [None]
    assert messages(policy, envelope("2001:db8:1:2::2"), 1) != [None]
    assert messages(policy, envelope("2001:db8:1:3::1"), 1) == [None]


def test_each_sender_and_each_account_has_its_own(clock, envelope):
    policy = RatePolicy({"sender": Rate(1, 60), "account": Rate(2, 60)}, clock.seconds)
    assert messages(policy, envelope(sender="a@example.org", login="joe"), 1) == [None]
    assert messages(policy, envelope(sender="A@EXAMPLE.org", login="ann"), 1) != [None]
    assert messages(policy, envelope(sender="b@example.org", login="joe"), 1) == [None]
    assert messages(policy, envelope(sender="c@example.org", login="joe"), 1) != [None]


def test_what_is_refused_is_not_counted_elsewhere(clock, envelope):
    policy = RatePolicy({"client": Rate(2, 60), "sender": Rate(1, 60)}, clock.seconds)
    assert messages(policy, envelope(), 3)[1:] != [None, None]
    assert messages(policy, envelope(sender="b@example.org"), 1) == [None]


def test_bounces_have_no_sender_and_local_clients_no_place(clock, envelope):
    policy = RatePolicy({"client": Rate(1, 60), "sender": Rate(1, 60)}, clock.seconds)
    assert messages(policy, envelope(client="", sender=None), 5) == [None] * 5


def test_recipients_are_counted_at_rcpt(clock, envelope, recipient):
    policy = RatePolicy({"client_recipients": Rate(2, 60)}, clock.seconds)
    assert messages(policy, envelope(), 5) == [None] * 5
    said = [finish(policy.recipient(envelope(), recipient())) for _ in range(3)]
    assert said[:2] == [None, None]
    assert said[2].text.startswith("Too many recipients")
