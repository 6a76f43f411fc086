"""What a stranger calls itself."""

from __future__ import annotations

import pytest

from postoffice.policy.helo import CHECKS, HeloPolicy
from postoffice.testing import finish

ALL = HeloPolicy("mail.example.net", list(CHECKS))


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        ("mail.example.net", "that is my name"),
        ("MAIL.Example.net.", "that is my name"),
        ("192.0.2.1", "an address stands in brackets"),
        ("2001:db8::1", "an address stands in brackets"),
        ("-x.example.org", "that is no host name"),
        ("a..b", "that is no host name"),
        ("pc", "a host name has a domain"),
        ("[192.0.2.9]", "that is not your address"),
        ("[mail]", "that is no address"),
    ],
)
def test_names_that_no_honest_server_has(hello, why, envelope, recipient):
    said = finish(ALL.recipient(envelope(hello=hello), recipient()))
    assert (said.code, said.status) == (550, "5.7.1")
    assert why in said.text


@pytest.mark.parametrize(
    "hello", ["mx.example.org", "a_b.example.org", "[8.8.4.4]", "mx1.xn--bcher-kva.example"]
)
def test_names_that_are_well(hello, envelope, recipient):
    assert finish(ALL.recipient(envelope(hello=hello), recipient())) is None


def test_the_own_address_in_ipv6(envelope, recipient):
    mine = envelope("2001:db8::1", hello="[IPv6:2001:DB8:0::1]")
    assert finish(ALL.recipient(mine, recipient())) is None


def test_the_own_address_as_ipv4_within_ipv6(envelope, recipient):
    mine = envelope("8.8.4.4", hello="[IPv6:::ffff:8.8.4.4]")
    assert finish(ALL.recipient(mine, recipient())) is None


def test_only_what_was_asked_for_is_looked_at(envelope, recipient):
    policy = HeloPolicy("mail.example.net", ["own_name"])
    assert finish(policy.recipient(envelope(hello="pc"), recipient())) is None
    assert finish(policy.recipient(envelope(hello="mail.example.net"), recipient())) is not None


def test_the_postmaster_can_always_be_written_to(envelope, recipient):
    to_him = recipient("Postmaster@example.net")
    assert finish(ALL.recipient(envelope(hello="pc"), to_him)) is None


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", ""])
def test_programs_of_this_machine_may_call_themselves_anything(client, envelope, recipient):
    assert finish(ALL.recipient(envelope(client, hello="localhost"), recipient())) is None
