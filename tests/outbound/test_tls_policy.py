"""How a connection is encrypted: whose word counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.hop import LEVELS, Hop
from postoffice.outbound.mta_sts import MODES, Policy
from postoffice.outbound.tls_policy import TLSRules, choose_tls

HOP = Hop(host="mx1.example", address="8.8.8.8")
OTHER = Hop(host="elsewhere.example", address="8.8.8.8")
ENFORCED = Policy("enforce", ("mx1.example",), 86400)
TESTED = replace(ENFORCED, mode="testing")
OFF = Policy("none", (), 86400)


@pytest.mark.parametrize("level", LEVELS)
def test_the_administrators_word_counts_most(level):
    for hop in (HOP, OTHER):
        choice = choose_tls(hop, level, ENFORCED)
        assert (choice.hop.level, choice.because, choice.unfit) == (level, "own rule", None)


def test_what_is_enforced_is_verified():
    choice = choose_tls(HOP, None, ENFORCED)
    assert (choice.hop.level, choice.because, choice.unfit) == ("verify", "MTA-STS", None)


def test_a_host_that_the_policy_does_not_name_is_not_used():
    choice = choose_tls(OTHER, None, ENFORCED)
    assert (choice.unfit.code, choice.unfit.status) == (451, "4.7.5")


def test_what_is_only_tested_is_sent_and_noted():
    assert choose_tls(HOP, None, TESTED).note == ""
    choice = choose_tls(OTHER, None, TESTED)
    assert (choice.hop.level, choice.unfit) == ("opportunistic", None)
    assert "elsewhere.example" in choice.note


@pytest.mark.parametrize("policy", [None, OFF])
def test_else_tls_is_used_if_the_server_has_it(policy):
    choice = choose_tls(HOP, None, policy)
    assert (choice.hop.level, choice.because, choice.note) == ("opportunistic", "", "")


def test_requiretls_needs_a_host_that_is_known_to_be_right():
    for policy in (None, OFF, TESTED):
        assert choose_tls(HOP, None, policy, requiretls=True).unfit.status == "5.7.30"
        secure = choose_tls(replace(HOP, secure=True), None, policy, requiretls=True)
        assert (secure.hop.level, secure.unfit) == ("verify", None)
    choice = choose_tls(HOP, "none", ENFORCED, requiretls=True)
    assert (choice.hop.level, choice.because, choice.unfit) == ("verify", "REQUIRETLS", None)
    assert choose_tls(HOP, "verify", None, requiretls=True).unfit.status == "5.7.30"


def test_rules_by_domain_and_below():
    rules = TLSRules({"a.example": "verify", ".example": "encrypt", ".b.example": "none"})
    assert rules.level("a.example") == "verify"
    assert rules.level("x.a.example") == "encrypt"
    assert rules.level("x.b.example") == "none"
    assert rules.level("b.example") == "encrypt"
    assert rules.level("example") is None
    assert rules.level("other.test") is None
    assert rules.level("[192.0.2.1]") is None


@given(
    own=st.sampled_from([None, *LEVELS]),
    mode=st.sampled_from([None, *MODES]),
    secure=st.booleans(),
    host=st.sampled_from([HOP, OTHER]),
    requiretls=st.booleans(),
)
def test_the_level_is_never_below_what_was_asked_for(own, mode, secure, host, requiretls):
    policy = None if mode is None else replace(ENFORCED, mode=mode)
    choice = choose_tls(replace(host, secure=secure), own, policy, requiretls=requiretls)
    assert replace(choice.hop, level=host.level, secure=False) == host
    if choice.unfit is not None:
        return
    if requiretls or (own is None and mode == "enforce"):
        assert choice.hop.level == "verify"
    elif own is not None:
        assert choice.hop.level == own
