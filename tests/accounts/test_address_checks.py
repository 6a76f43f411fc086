"""What cannot be saved as an alias, a forward or a domain, and the sentences that say so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postoffice.accounts.address_checks import (
    AddressRefused,
    check_alias,
    check_domain,
    check_forward,
)
from postoffice.accounts.address_resolution import run
from postoffice.accounts.memory import MemoryDirectory
from postoffice.model.address import DISABLED, Address
from postoffice.model.alias import DISCARD, REFUSE, Alias, Domain
from postoffice.testing import finish

POSTMASTER = "postmaster@example.net"


def addresses(*names):
    return tuple(Address.parse(name if "@" in name else f"{name}@example.net") for name in names)


@pytest.fixture
def directory():
    directory = MemoryDirectory()
    for domain in ("example.net", "example.com", "example.org"):
        finish(directory.add_domain(domain))
    finish(directory.set_domain(Domain("example.com", same_as="example.net")))
    for name in ("postmaster", "ann", "bob"):
        finish(directory.add(f"{name}@example.net", None))
    for name, target in (("b", "c"), ("c", "ann"), ("far", "joe@elsewhere.example")):
        finish(directory.add_alias(Alias(f"{name}@example.net", addresses(target))))
    return directory


def alias(*targets, name="a", **fields):
    return Alias(f"{name}@example.net", addresses(*targets), **fields)


@pytest.mark.parametrize(
    "good",
    [
        alias("ann"), alias("ann", "bob", "b", send=True), alias("Ann+x@example.com", "b"),
        alias(kind=DISCARD), alias(kind=REFUSE, words="She has left; write to bob@example.net"),
        alias("far"), alias(*[f"ann+{number}" for number in range(100)]), alias("abuse"),
        alias("bob", name="b"),
    ],
)  # fmt: skip
def test_good_aliases_are_taken(directory, good):
    run(check_alias(good, POSTMASTER), directory.look_up)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (alias("a"), "a@example.net cannot have these targets: a loop of aliases: "
                     "a@example.net -> a@example.net"),
        (alias("a+tag"), "a loop of aliases"),
        (alias("A@example.com"), "a loop of aliases"),
        (alias("b", name="c"), "loop of aliases: c@example.net -> b@example.net -> c@example.net"),
        (alias("nobody"), "a@example.net cannot have the target nobody@example.net: there is no "
                          "such address"),
        (alias("ann", "nobody@example.com"), "the target nobody@example.com: there is no"),
        (alias("joe@elsewhere.example"), "cannot have the target joe@elsewhere.example: "
         "elsewhere.example is another domain, and this post office cannot send"),
        (alias(), "a@example.net has no targets: it needs one at least"),
        (alias(*["ann"] * 101), "a@example.net has 101 targets; 100 are the most"),
        (alias("bob", name="ann"), "ann@example.net is an account; an account forwards its mail"),
        (Alias("a@far.example", addresses("ann")), "far.example is not a domain of ours"),
        (alias("ann", name="*"), "*@example.net is the name of a catch-all"),
        (alias(kind="drop"), "'drop' is not a kind of alias: forward, refuse, discard"),
        (alias("ann", kind=DISCARD), "a@example.net has no targets: its kind is discard"),
        (alias(kind=REFUSE), "a@example.net needs words"),
        (alias(kind=REFUSE, words="Tschüß"), "'Tschüß' cannot be in a reply"),
        (alias(kind=REFUSE, words="a\r\n250 b"), "cannot be in a reply"),
        (alias(kind=REFUSE, words="x" * 201), "at most 200 characters, not 201"),
    ],
)  # fmt: skip
def test_bad_aliases_are_refused_with_a_sentence(directory, bad, why):
    with pytest.raises(AddressRefused) as caught:
        run(check_alias(bad, POSTMASTER), directory.look_up)
    assert why in str(caught.value)


def test_remote_targets_are_taken_where_there_is_a_way_out(directory):
    far = alias("joe@elsewhere.example")
    run(check_alias(far, POSTMASTER, way_out=True), directory.look_up)


def test_the_eleventh_alias_in_a_row_is_refused(directory):
    for number in range(1, 10):
        target = "ann" if number == 1 else f"n{number - 1}"
        finish(directory.add_alias(alias(target, name=f"n{number}")))
    run(check_alias(alias("n9"), POSTMASTER), directory.look_up)
    finish(directory.add_alias(alias("n9", name="n10")))
    with pytest.raises(AddressRefused, match="over 10 aliases in a row"):
        run(check_alias(alias("n10"), POSTMASTER), directory.look_up)


def test_forwards_are_checked_as_aliases_are(directory):
    ann = finish(directory.find("ann@example.net"))

    def check(*targets, **fields):
        run(check_forward(replace(ann, forward=addresses(*targets), **fields), POSTMASTER),
            directory.look_up)  # fmt: skip

    check()
    check("bob", "bob+x")
    check("bob", state=DISABLED)
    for loop in ("ann", "ann+x", "c", "b"):
        with pytest.raises(AddressRefused, match="a loop of aliases"):
            check(loop)
        with pytest.raises(AddressRefused, match="a loop of aliases"):
            check(loop, state=DISABLED)
    with pytest.raises(AddressRefused, match="cannot send mail to other domains"):
        check("joe@elsewhere.example")
    with pytest.raises(AddressRefused, match="101 targets"):
        check(*["bob"] * 101)


@pytest.mark.parametrize(
    "good",
    [
        Domain("example.org"), Domain("example.org", "example.net", "-+=", addresses("ann", "b")),
        Domain("example.com", "example.net"), Domain("example.org", separators=""),
        Domain("example.org", catch_all=addresses("ann"), uncaught=frozenset({"sales"})),
    ],
)  # fmt: skip
def test_good_domains_are_taken(directory, good):
    run(check_domain(good, POSTMASTER), directory.look_up)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Domain("example.org", "example.org"), "example.org cannot be an alias of itself"),
        (Domain("example.org", "elsewhere.example"), "elsewhere.example is not a domain of ours"),
        (Domain("example.org", "example.com"), "example.com is itself an alias, of example.net"),
        (Domain("example.org", separators="a"), "'a' cannot be separators"),
        (Domain("example.org", separators="+@"), "cannot be separators"),
        (Domain("example.org", separators="+ "), "cannot be separators"),
        (Domain("example.org", catch_all=addresses("nobody")), "nobody@example.net: there is no"),
        (Domain("example.org", catch_all=addresses("x@example.org")), "x@example.org: there is no"),
        (Domain("example.org", catch_all=addresses("joe@elsewhere.example")), "another domain"),
        (Domain("example.org", catch_all=addresses(*["ann"] * 101)), "101 targets"),
    ],
)  # fmt: skip
def test_bad_domains_are_refused_with_a_sentence(directory, bad, why):
    with pytest.raises(AddressRefused) as caught:
        run(check_domain(bad, POSTMASTER), directory.look_up)
    assert why in str(caught.value)


def test_a_domain_that_others_are_the_same_as_cannot_become_an_alias(directory):
    with pytest.raises(AddressRefused, match=r"example\.com is itself an alias, of example\.net"):
        run(check_domain(Domain("example.net", "example.com"), POSTMASTER), directory.look_up)
