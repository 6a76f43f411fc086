"""Quotas and mail policies of accounts and domains, in every directory that can be written to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postoffice.model.address import Quota
from postoffice.model.mail_policy import UNSPECIFIED, MailPolicy
from postoffice.testing import finish, finish_all

NOTHING_SAID = Quota()
QUOTAS = [
    Quota(1 << 30, 1000, "reject"),
    Quota(0, 0, "make-room"),
    Quota((1 << 63) - 1, (1 << 63) - 1),
    Quota(octets=1),
    Quota(messages=0),
    Quota(over="defer"),
    NOTHING_SAID,
]


@pytest.mark.parametrize("quota", QUOTAS, ids=repr)
def test_a_quota_can_be_set_and_taken_away(peopled, quota):
    name = "joe@example.net"
    joe = finish(peopled.find(name))
    assert joe.quota == finish(peopled.account_quota(name)) == NOTHING_SAID
    for said in (quota, Quota(7, 7, "defer"), quota):
        assert finish(peopled.set_quota(name, said))
        assert finish(peopled.account_quota(name)) == said
        assert finish(peopled.find(name)) == replace(joe, quota=said)
        assert finish(peopled.find(name)) in finish_all(peopled.each_account("example.net"))
    assert finish(peopled.find("ann@example.net")).quota == NOTHING_SAID
    assert finish(peopled.domain_quota("example.net")) == NOTHING_SAID


@pytest.mark.parametrize("quota", QUOTAS, ids=repr)
def test_a_domains_quota_is_for_all_that_have_none(peopled, quota):
    own = Quota(octets=0, over="reject")
    finish(peopled.set_quota("ann@example.net", own))
    assert finish(peopled.domain_quota("example.net")) == NOTHING_SAID
    assert finish(peopled.set_domain_quota("example.net", quota))
    assert finish(peopled.domain_quota("example.net")) == quota
    assert finish(peopled.account_quota("joe@example.net")) == NOTHING_SAID
    assert finish(peopled.account_quota("ann@example.net")) == own
    expected = {
        "ann@example.net": Quota(0, quota.messages, "reject"),
        "joe@example.com": NOTHING_SAID,
        "joe@example.net": quota,
    }
    assert {one.address: one.quota for one in finish_all(peopled.each_account())} == expected
    assert {name: finish(peopled.find(name)).quota for name in expected} == expected
    assert finish(peopled.set_domain_quota("example.net", NOTHING_SAID))
    assert finish(peopled.find("joe@example.net")).quota == NOTHING_SAID


def test_nobody_and_nowhere_have_no_quota(peopled):
    quota = Quota(1, 1, "reject")
    assert not finish(peopled.set_quota("jim@example.net", quota))
    assert not finish(peopled.set_domain_quota("example.org", quota))
    assert finish(peopled.account_quota("jim@example.net")) is None
    assert finish(peopled.domain_quota("example.org")) is None
    assert finish(peopled.find("jim@example.net")) is None
    assert not finish(peopled.serves("example.org"))


def test_a_domain_that_is_added_again_has_no_quota(peopled):
    finish(peopled.add_domain("example.org"))
    finish(peopled.set_domain_quota("example.org", Quota(1, 1, "reject")))
    assert not finish(peopled.add_domain("example.org"))
    assert finish(peopled.domain_quota("example.org")) == Quota(1, 1, "reject")
    finish(peopled.remove_domain("example.org"))
    finish(peopled.add_domain("example.org"))
    assert finish(peopled.domain_quota("example.org")) == NOTHING_SAID


SERVINGS = [
    MailPolicy(90 * 86400, 0, True, "all", 300, "wait", 0.5),
    MailPolicy(0, 86400.5, False, "any", 0, "take-over", 0),
    MailPolicy(delete_on_collect=False),
    MailPolicy(keep=1e9),
    MailPolicy(in_use="refuse"),
    UNSPECIFIED,
]


@pytest.mark.parametrize("serving", SERVINGS, ids=repr)
def test_how_mail_is_served_can_be_set_and_taken_away(peopled, serving):
    name = "joe@example.net"
    joe = finish(peopled.find(name))
    assert joe.mail_policy == finish(peopled.account_mail_policy(name)) == UNSPECIFIED
    for said in (serving, MailPolicy(keep=7, delete_on_collect=True), serving):
        assert finish(peopled.set_mail_policy(name, said))
        assert finish(peopled.account_mail_policy(name)) == said
        assert finish(peopled.find(name)) == replace(joe, mail_policy=said)
        assert finish(peopled.find(name)) in finish_all(peopled.each_account("example.net"))
    assert finish(peopled.find(name)).mail_policy.delete_on_collect is serving.delete_on_collect
    assert finish(peopled.find("ann@example.net")).mail_policy == UNSPECIFIED
    assert finish(peopled.domain_mail_policy("example.net")) == UNSPECIFIED


@pytest.mark.parametrize("serving", SERVINGS, ids=repr)
def test_how_a_domains_mail_is_served_is_for_all_that_say_nothing(peopled, serving):
    own = MailPolicy(keep=0, delete_on_collect=False, in_use="refuse")
    finish(peopled.set_mail_policy("ann@example.net", own))
    finish(peopled.set_domain_quota("example.net", Quota(1, 1, "reject")))
    assert finish(peopled.set_domain_mail_policy("example.net", serving))
    assert finish(peopled.domain_mail_policy("example.net")) == serving
    assert finish(peopled.domain_quota("example.net")) == Quota(1, 1, "reject")
    assert finish(peopled.account_mail_policy("joe@example.net")) == UNSPECIFIED
    assert finish(peopled.account_mail_policy("ann@example.net")) == own
    expected = {
        "ann@example.net": own.or_else(serving),
        "joe@example.com": UNSPECIFIED,
        "joe@example.net": serving,
    }
    assert {one.address: one.mail_policy for one in finish_all(peopled.each_account())} == expected
    assert {name: finish(peopled.find(name)).mail_policy for name in expected} == expected
    assert finish(peopled.set_domain_mail_policy("example.net", UNSPECIFIED))
    assert finish(peopled.find("joe@example.net")).mail_policy == UNSPECIFIED


def test_nobody_and_nowhere_are_not_served(peopled):
    serving = MailPolicy(keep=0)
    assert not finish(peopled.set_mail_policy("jim@example.net", serving))
    assert not finish(peopled.set_domain_mail_policy("example.org", serving))
    assert finish(peopled.account_mail_policy("jim@example.net")) is None
    assert finish(peopled.domain_mail_policy("example.org")) is None
