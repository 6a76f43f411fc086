"""Which hosts take a domain's mail, and at which addresses: the rules."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.outbound.mail_hosts import (
    ADDRESSES,
    HOSTS,
    HostRules,
    NoMailHosts,
    check_domain,
    choose,
    rank,
    read_literal,
)

RULES = HostRules(own_names={"us.example"}, own_addresses={"198.41.0.4"})


def unshuffled(names):
    """Leave them as they are."""


def status(call, *arguments):
    """The code and enhanced status of the failure."""
    with pytest.raises(NoMailHosts) as caught:
        call(*arguments)
    return caught.value.reply.code, caught.value.reply.status


def ranked(*records, rules=RULES, shuffle=unshuffled):
    return rank("d.example", records, rules, shuffle)


def test_hosts_come_by_preference_and_shuffled_within():
    groups = ranked((20, "c"), (10, "b"), (10, "a"), (10, "b"), shuffle=list.reverse)
    assert groups == (("b", "a"), ("c",))


def test_null_mx_is_for_ever():
    assert status(ranked, (0, "")) == (556, "5.1.10")
    assert status(ranked, (10, "")) == (556, "5.1.10")


def test_null_mx_beside_others_says_nothing():
    """RFC 7505 §3 forbids it."""
    assert ranked((0, ""), (10, "a.example")) == (("a.example",),)


@pytest.mark.parametrize(
    "name", ["-a.example", "a..example", "localhost", "mx.invalid", "a b", "é"]
)
def test_what_is_no_host_is_left_out(name):
    assert ranked((0, name), (10, "a.example")) == (("a.example",),)
    assert status(ranked, (0, name)) == (550, "5.4.4")


def test_we_and_all_that_are_no_better_are_left_out():
    better = (("a.example",),)
    assert ranked((5, "a.example"), (10, "us.example"), (10, "b.example"), (20, "c")) == better


def test_nobody_is_better_than_we():
    with pytest.raises(NoMailHosts) as caught:
        ranked((10, "us.example"), (10, "b.example"), (20, "c.example"))
    assert (caught.value.reply.status, caught.value.loops) == ("4.4.6", True)


def test_a_domain_with_very_many_hosts_costs_no_more_than_some():
    groups = ranked(*((n // 15, f"{n}.example") for n in range(1000)))
    assert [len(group) for group in groups] == [15, HOSTS - 15]


@given(
    records=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "c", "d", "us.example"])),
        min_size=1,
    )
)
def test_ranking(records):
    ours = min((one[0] for one in records if one[1] == "us.example"), default=9)
    expected = {one for one in records if one[0] < ours}
    if not expected:
        assert status(rank, "d.example", records, RULES, unshuffled) == (451, "4.4.6")
        return
    groups = rank("d.example", records, RULES, unshuffled)
    order = [name for group in groups for name in group]
    best = [min(one[0] for one in expected if one[1] == name) for name in order]
    assert best == sorted(best)
    assert sorted(order) == sorted({name for _, name in expected})


@pytest.mark.parametrize(
    "address",
    [
        *["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.9.9", "224.0.0.1", "169.254.1.1"],
        *["255.255.255.255", "240.0.0.1", "::", "::1", "ff02::1", "fe80::1", "fec0::1"],
        *["::ffff:8.8.8.8", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:101"],
    ],
)
def test_addresses_to_which_mail_is_never_sent(address):
    assert not HostRules().usable(address)
    assert not HostRules(private=True).usable(address)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "64:ff9b::10.0.0.1"],
)
def test_private_addresses_only_if_allowed(address):
    assert not HostRules().usable(address)
    assert HostRules(private=True).usable(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2600::1", "64:ff9b::8.8.8.8"])
def test_addresses_of_the_world(address):
    assert HostRules().usable(address)


def test_networks_that_are_allowed_though_they_are_never_used():
    rules = HostRules(allowed=[ip_network("127.0.0.8/29")])
    assert rules.usable("127.0.0.9")
    assert not rules.usable("127.0.0.1")


def test_families_that_are_not_used():
    assert not HostRules(families=[4]).usable("2600::1")
    assert not HostRules(families=[6]).usable("8.8.8.8")


def test_address_literals():
    assert read_literal("example.net", RULES) is None
    assert read_literal("[8.8.8.8]", RULES).address == "8.8.8.8"
    assert read_literal("[IPv6:2600:0::1]", RULES).address == "2600::1"
    assert read_literal("[8.8.8.8]", RULES).site == ("[8.8.8.8]",)


@pytest.mark.parametrize("literal", ["[]", "[x]", "[8.8.8.8", "[127.0.0.1]", "[10.0.0.1]", "[::]"])
def test_literals_that_are_no_place_for_mail(literal):
    assert status(read_literal, literal, RULES) == (550, "5.1.2")


def test_the_literal_of_this_machine():
    assert status(read_literal, "[198.41.0.4]", RULES) == (451, "4.4.6")


@pytest.mark.parametrize("domain", ["localhost", "a.localhost", "x.invalid", "x.onion"])
def test_domains_that_are_nowhere(domain):
    assert status(check_domain, domain) == (550, "5.1.2")
    check_domain("example.net")


def test_families_come_by_turns():
    addresses = ["8.8.8.8", "8.8.4.4", "2600::1", "2600::2"]
    chosen = choose([("a", addresses), ("b", ["2600::3"])], [4, 6])
    assert chosen == [
        ("a", "8.8.8.8"), ("a", "2600::1"), ("a", "8.8.4.4"), ("a", "2600::2"), ("b", "2600::3"),
    ]  # fmt: skip
    assert [address for _, address in choose([("a", addresses)], [6, 4])][:2] == [
        "2600::1", "8.8.8.8",
    ]  # fmt: skip


def test_one_family_leaves_places_to_the_other():
    six = [f"2600::{n}" for n in range(1, 9)]
    chosen = choose([("a", six), ("b", ["8.8.8.8"])], [6, 4])
    assert chosen == [*(("a", one) for one in six[:4]), ("b", "8.8.8.8")]


ADDRESS = st.sampled_from([f"8.8.8.{n}" for n in range(6)] + [f"2600::{n}" for n in range(1, 7)])


@given(
    hosts=st.lists(st.lists(ADDRESS, unique=True, max_size=8), max_size=5),
    families=st.sampled_from([(4, 6), (6, 4)]),
)
def test_choosing(hosts, families):
    found = [(f"h{n}", addresses) for n, addresses in enumerate(hosts)]
    chosen = choose(found, families)
    every = [(host, one) for host, addresses in found for one in addresses]
    assert len(chosen) == min(len(every), ADDRESSES)
    assert set(chosen) <= set(every)
    order = [int(host[1:]) for host, _ in chosen]
    assert order == sorted(order)
    for six in (False, True):
        here = [one for one in every if (":" in one[1]) == six]
        there = [one for one in chosen if (":" in one[1]) == six]
        assert len(there) >= min(len(here), ADDRESSES // 2)
