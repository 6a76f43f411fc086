"""Settings of how mail is served, and who says them."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.mail_policy import (
    A_DAY,
    DEFAULT_POLICY,
    AnnouncedPolicy,
    KeepTimes,
    MailPolicy,
    announced,
    together,
)


def test_what_one_does_not_say_another_does():
    mine = MailPolicy(keep=0, delete_on_collect=False)
    theirs = MailPolicy(keep=9, keep_collected=5, delete_on_collect=True, in_use="wait")
    assert mine.or_else(theirs) == MailPolicy(
        keep=0, keep_collected=5, delete_on_collect=False, in_use="wait"
    )
    assert MailPolicy().or_else(theirs) is theirs


def test_what_stands_behind_all_says_everything():
    assert None not in [getattr(DEFAULT_POLICY, field.name) for field in fields(DEFAULT_POLICY)]


def plain(**said) -> MailPolicy:
    return replace(DEFAULT_POLICY, **said)


@pytest.mark.parametrize(
    ("serving", "days"),
    [
        (DEFAULT_POLICY, None),
        (plain(keep=30 * A_DAY), 30),
        (plain(keep=30.9 * A_DAY), 30),
        (plain(keep=30 * A_DAY, keep_collected=7 * A_DAY), 7),
        (plain(keep=7 * A_DAY, keep_collected=30 * A_DAY), 7),
        (plain(keep_collected=A_DAY), 1),
        (plain(delete_on_collect=True), 0),
        (plain(delete_on_collect=True, devices="all", keep=9 * A_DAY), 0),
    ],
    ids=repr,
)
def test_clients_are_told_the_least_number_of_days(serving, days):
    assert serving.days() == days
    assert serving.days(makes_room=True) == 0


durations = st.just(0.0) | st.floats(A_DAY, 100 * A_DAY)


@given(durations, durations, st.booleans())
def test_nothing_goes_before_what_clients_were_told(keep, keep_collected, at_once):
    serving = plain(keep=keep, keep_collected=keep_collected, delete_on_collect=at_once)
    days, kept = serving.days(), serving.kept(())
    limits = [one for one in (kept.arrived, kept.collected) if one is not None]
    if days is None:
        assert kept.forever
        assert limits == []
    else:
        assert days * A_DAY <= min(limits)
        assert min(limits) < (days + 1) * A_DAY


def test_when_mail_goes_is_what_is_said():
    assert plain().kept(["phone"]) == KeepTimes()
    assert plain(keep=A_DAY).kept(()) == KeepTimes(arrived=A_DAY)
    assert plain(keep_collected=A_DAY, devices="all").kept(["phone"]) == KeepTimes(
        collected=A_DAY, devices=frozenset(["phone"])
    )
    assert plain(delete_on_collect=True, keep_collected=A_DAY).kept(()) == KeepTimes(collected=0)


def test_what_one_account_is_told_names_no_others():
    told = announced(plain(keep=30 * A_DAY, login_delay=1.5), makes_room=False)
    assert (told.expire, told.login_delay) == ("30", "2")
    told = announced(DEFAULT_POLICY, makes_room=False)
    assert (told.expire, told.login_delay) == ("NEVER", "")
    assert announced(DEFAULT_POLICY, makes_room=True).expire == "0"


@pytest.mark.parametrize(
    ("ones", "expire", "login_delay"),
    [
        ([AnnouncedPolicy()], "NEVER", ""),
        ([AnnouncedPolicy(7, 60), AnnouncedPolicy(7, 60)], "7", "60"),
        ([AnnouncedPolicy(7), AnnouncedPolicy()], "7 USER", ""),
        ([AnnouncedPolicy(0, 0), AnnouncedPolicy(30, 300)], "0 USER", "300 USER"),
        ([AnnouncedPolicy(30, 0), AnnouncedPolicy(30, 300)], "30", "300 USER"),
    ],
)
def test_before_a_login_the_least_and_the_most_of_all_are_told(ones, expire, login_delay):
    told = together(ones)
    assert (told.expire, told.login_delay) == (expire, login_delay)
