"""MTA-STS records, policies and hosts: the rules."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.outbound.mta_sts import (
    LONGEST,
    MOST,
    BadPolicy,
    Policy,
    read_policy,
    read_records,
)

TEXT = b"""version: STSv1
mode: enforce
mx: MX1.example
mx: *.Mail.example
max_age: 86400
""".replace(b"\n", b"\r\n")
POLICY = Policy("enforce", ("mx1.example", "*.mail.example"), 86400, "7")


@pytest.mark.parametrize(
    ("records", "known"),
    [
        ([b"v=STSv1; id=20260101T;"], "20260101T"),
        ([b"v=STSv1;id=7"], "7"),
        ([b"v=STSv1 ; extra=x; id=7 ; more=y;"], "7"),
        ([b"v=spf1 -all", b"v=STSv1; id=7", b"v=STSv10; id=8"], "7"),
        ([b"v=STSv1; id=7", b"v=STSv1; id=7"], None),
        ([], None),
        ([b"v=STSv1"], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=a-b"], None),
        ([b"v=STSv1; id=" + b"a" * 33], None),
        ([b" v=STSv1; id=7"], None),
        ([b"v=stsv1; id=7"], None),
    ],
)
def test_records(records, known):
    assert read_records(records) == known


def test_a_policy():
    assert read_policy(TEXT, "7") == POLICY
    assert read_policy(TEXT.replace(b"\r\n", b"\n"), "7") == POLICY


def test_fields_that_are_unknown_or_repeated_do_not_count():
    more = b"mode: none\nx-new: \xc3\xa4\n\nmax_age: 1\nversion: STSv2"
    assert read_policy(TEXT + more, "7") == POLICY


def test_a_policy_does_not_hold_for_more_than_a_year():
    assert read_policy(TEXT.replace(b"86400", b"9999999999")).max_age == LONGEST


def test_a_policy_that_says_that_there_is_none():
    assert read_policy(b"version: STSv1\nmode: none\nmax_age: 60").mode == "none"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"STSv1", b"STSv2"),
        (b"version: STSv1", b""),
        (b"enforce", b"Enforce"),
        (b"mode: enforce", b"mode"),
        (b"mode: enforce", b""),
        (b"86400", b"-1"),
        (b"86400", b"1e3"),
        (b"86400", "١".encode()),
        (b"86400", b"12345678901"),
        (b"max_age: 86400", b""),
        (b"mx: MX1.example\r\nmx: *.Mail.example", b""),
        (b"MX1.example", b""),
        (b"MX1.example", b"*"),
        (b"MX1.example", b"a.*.example"),
        (b"MX1.example", b"*.*.example"),
        (b"MX1.example", b"a b"),
        (b"MX1.example", b"\xff"),
        (b"\r\n", b"\r"),
        (b"mode", b"x" * MOST + b"\r\nmode"),
    ],
)
def test_policies_that_cannot_be_read(old, new):
    with pytest.raises(BadPolicy):
        read_policy(TEXT.replace(old, new, 1) if old != b"\r\n" else TEXT.replace(old, new))


@pytest.mark.parametrize("host", ["mx1.example", "MX1.Example.", "a.mail.example"])
def test_hosts_that_fit(host):
    assert POLICY.fits(host)


@pytest.mark.parametrize(
    "host",
    ["", "mx2.example", "mail.example", ".mail.example", "a.b.mail.example", "x.mx1.example"],
)
def test_hosts_that_do_not_fit(host):
    assert not POLICY.fits(host)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_octets_are_a_policy_or_not(octets, more):
    with suppress(BadPolicy):
        read_policy(octets)
    with suppress(BadPolicy):
        read_policy(TEXT[:20] + octets + TEXT[20:] + more)
    read_records([octets, b"v=STSv1;" + more])


LABEL = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)


@given(st.lists(LABEL, min_size=1, max_size=5), st.lists(LABEL, min_size=1, max_size=5))
def test_a_star_stands_for_one_label(host, base):
    policy = Policy("enforce", ("*." + ".".join(base),), 1)
    assert policy.fits(".".join(host)) == (host[1:] == base)
