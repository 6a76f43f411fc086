"""What counts as the same mailbox."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.address import Account, Address, NotAnAddress, normal_domain


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("joe@example.org", "JOE@EXAMPLE.ORG"),
        ("joe@example.org", '"joe"@example.org'),
        ("jürgen@example.org", "JÜRGEN@example.org"),
        ("ju\u0308rgen@example.org", "jürgen@example.org"),
        ("joe@bücher.example", "joe@xn--bcher-kva.example"),
        ("straße@example.org", "STRASSE@example.org"),
    ],
)
def test_the_same_mailbox(one, other):
    assert Address.parse(one).normal == Address.parse(other).normal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("joe@example.org", "joe@example.net"),
        ("joe@example.org", "j.oe@example.org"),
        ('"jo e"@example.org', "joe@example.org"),
    ],
)
def test_different_mailboxes(one, other):
    assert Address.parse(one).normal != Address.parse(other).normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "joe",
        "joe@",
        "@example.org",
        "joe@exa mple",
        "jo e@example.org",
        "joe@-x",
        "joe@x..y",
        '"jo\x00e"@example.org',
        "x" * 65 + "@example.org",
        "joe@" + "x" * 64 + ".org",
        "a@b@c",
        "\ud800@example.org",
        "joe@\ud800.org",
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(NotAnAddress):
        Address.parse(text)


@pytest.mark.parametrize("domain", ["", ".", "a..b", "-a", "a_b-", "a/b", "..", "a\x00", "x" * 64])
def test_what_is_no_domain(domain):
    with pytest.raises(NotAnAddress):
        normal_domain(domain)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20))
def test_an_address_is_read_as_it_is_written(local):
    address = Address(local, "example.org")
    assert Address.parse(str(address)) == address


@given(st.text(max_size=12), st.text(max_size=12))
def test_a_normal_form_is_its_own_normal_form(local, domain):
    try:
        address = Address.parse(f"{local}@{domain}")
    except NotAnAddress:
        return
    name, _, host = address.normal.rpartition("@")
    assert Address(name, host).normal == address.normal


def test_a_secret_stays_out_of_logs():
    assert "argon" not in repr(Account("joe@example.org", "joe@example.org", "$argon2id$x"))


@pytest.mark.parametrize(
    ("local", "domain", "written"),
    [
        ("a", "example.org", "a@example.org"),
        ("happy..cat", "example.org", '"happy..cat"@example.org'),
        (".cat.", "example.org", '".cat."@example.org'),
        ("root", "", "root"),
        ("a b", "", '"a b"'),
        ("a@b", "example.org", '"a@b"@example.org'),
        ("a", "[999.0.0.1]", "a@[999.0.0.1]"),
        ("a", "b;c(d)", '"a@b;c(d)"'),
        ("a", "[x;y]", '"a@[x;y]"'),
        ('"', "a,b", r'"\"@a,b"'),
        ("x" * 1000, "example.org", "x" * 1000 + "@example.org"),
    ],
)
def test_the_addresses_of_others_are_written_as_one_word(local, domain, written):
    assert str(Address(local, domain)) == written


@pytest.mark.parametrize(
    ("local", "domain", "normal"),
    [("Root", "", "root"), ("A", "-X..org", "a@-x..org"), ("A", "x" * 300, "a@" + "x" * 300)],
)
def test_the_addresses_of_others_can_be_compared(local, domain, normal):
    assert Address(local, domain).normal == normal
