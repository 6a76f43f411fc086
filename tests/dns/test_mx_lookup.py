"""The hosts of a domain and their addresses, from a scripted server and from nsd."""

from __future__ import annotations

import pytest

from postoffice.dns.mx_lookup import MXLookup
from postoffice.dns.resolver import ROUNDS, Resolver
from postoffice.model.hop import Hop
from postoffice.outbound.mail_hosts import HostRules, NoMailHosts
from tests.nameserver import fails, silent

RULES = HostRules(own_names={"us.example"}, own_addresses={"198.41.0.4"})


def unshuffled(names):
    """Leave them as they are."""


@pytest.fixture
def resolver(loop, clock, nameserver):
    nameserver.zone |= {
        ("d.example", "MX"): ["20 b.example.", "10 a.example."],
        ("a.example", "A"): ["8.8.8.8"],
        ("a.example", "AAAA"): ["2600::1"],
        ("b.example", "A"): ["8.8.4.4"],
    }
    return Resolver(loop.reactor, [nameserver.server], clock=clock)


@pytest.fixture
def mx(resolver, tmp_path):
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n10.1.1.1 relay.lan relay\n")
    return MXLookup(resolver.ask, RULES, unshuffled, str(tmp_path / "hosts"))


@pytest.fixture
def find(loop, mx):
    """The hops to a domain, as host and address."""

    async def hops(domain):
        return await mx.hops(await mx.hosts(domain))

    return lambda domain: [(hop.host, hop.address) for hop in loop.wait(hops(domain))]


@pytest.fixture
def failure(find):
    def reply(domain):
        with pytest.raises(NoMailHosts) as caught:
            find(domain)
        return caught.value.reply.code, caught.value.reply.status

    return reply


def test_a_domain_with_two_hosts(find):
    assert find("D.example") == [
        ("a.example", "8.8.8.8"), ("a.example", "2600::1"), ("b.example", "8.8.4.4"),
    ]  # fmt: skip


def test_the_site_is_known_without_addresses(loop, mx, nameserver):
    hosts = loop.wait(mx.hosts("d.example"))
    assert hosts.site == ("a.example", "b.example")
    assert [kind for _, kind, _ in nameserver.asked] == ["MX"]


def test_hosts_that_are_not_needed_are_not_looked_up(find, nameserver):
    nameserver.zone["a.example", "A"] = [f"8.8.8.{n}" for n in range(9)]
    nameserver.zone["a.example", "AAAA"] = [f"2600::{n}" for n in range(1, 9)]
    assert len(find("d.example")) == 5
    assert "b.example" not in {name for name, _, _ in nameserver.asked}


def test_a_domain_in_unicode(find, nameserver):
    nameserver.zone["xn--bcher-kva.example", "MX"] = ["10 b.example."]
    assert find("Bücher.example") == [("b.example", "8.8.4.4")]


def test_null_mx(failure, nameserver):
    nameserver.zone["null.example", "MX"] = ["0 ."]
    assert failure("null.example") == (556, "5.1.10")


def test_no_such_domain(failure):
    assert failure("nowhere.example") == (550, "5.1.2")
    assert failure("localhost") == (550, "5.1.2")
    assert failure("what is this") == (550, "5.1.2")


def test_without_mx_the_domain_is_the_host(find, nameserver):
    assert find("b.example") == [("b.example", "8.8.4.4")]


def test_without_mx_and_addresses(failure, nameserver):
    nameserver.zone["text.example", "TXT"] = ["x"]
    assert failure("text.example") == (550, "5.4.4")


def test_mx_without_a_usable_host_does_not_fall_back(failure, nameserver):
    nameserver.zone |= {
        ("bad.example", "MX"): ["10 nowhere.example.", "20 inside.example."],
        ("bad.example", "A"): ["8.8.8.8"],
        ("inside.example", "A"): ["127.0.0.1", "10.0.0.1"],
    }
    assert failure("bad.example") == (550, "5.4.4")


def test_a_host_that_is_an_alias_is_tolerated(find, nameserver):
    nameserver.zone |= {
        ("alias.example", "MX"): ["10 c.example."],
        ("c.example", "CNAME"): ["b.example."],
    }
    assert find("alias.example") == [("c.example", "8.8.4.4")]


def test_a_domain_that_is_an_alias(find, nameserver):
    nameserver.zone["other.example", "CNAME"] = ["d.example."]
    assert find("other.example")[0] == ("a.example", "8.8.8.8")


@pytest.mark.parametrize("code", ["SERVFAIL", "REFUSED"])
def test_what_name_servers_cannot_tell_is_for_later(failure, nameserver, code):
    nameserver.zone |= {("x.example", "MX"): fails(code), ("x.example", "A"): ["8.8.8.8"]}
    assert failure("x.example") == (451, "4.4.3")
    nameserver.zone |= {
        ("y.example", "MX"): ["10 z.example."], ("z.example", "A"): fails(code),
    }  # fmt: skip
    assert failure("y.example") == (451, "4.4.3")


def test_a_host_that_cannot_be_looked_up_does_not_hide_others(find, nameserver):
    nameserver.zone |= {("a.example", "A"): fails("SERVFAIL")}
    assert find("d.example") == [("a.example", "2600::1"), ("b.example", "8.8.4.4")]


def test_a_server_that_is_silent_is_for_later(loop, clock, mx, nameserver):
    nameserver.zone["x.example", "MX"] = silent
    asked = loop.start(mx.hosts("x.example"))
    for number, seconds in enumerate(ROUNDS, 1):
        loop.until(lambda number=number: len(nameserver.asked) == number)
        clock.advance(seconds)
    with pytest.raises(NoMailHosts, match="timed out") as caught:
        loop.result(asked)
    assert not caught.value.reply.permanent


def test_we_are_known_by_our_name(find, failure, nameserver):
    nameserver.zone["us.example", "MX"] = ["10 us.example."]
    assert failure("us.example") == (451, "4.4.6")


def test_we_are_known_by_our_address(find, failure, nameserver):
    nameserver.zone |= {
        ("backup.example", "MX"): [
            "10 a.example.",
            "20 mx.example.",
            "20 b.example.",
            "30 b.example.",
        ],
        ("mx.example", "A"): ["198.41.0.4"],
        ("here.example", "MX"): ["20 mx.example.", "30 b.example."],
        ("broken.example", "MX"): ["10 z.example.", "20 mx.example."],
        ("z.example", "A"): fails("SERVFAIL"),
    }
    assert {host for host, _ in find("backup.example")} == {"a.example"}
    assert failure("here.example") == (451, "4.4.6")
    assert failure("mx.example") == (451, "4.4.6")
    assert failure("broken.example") == (451, "4.4.3")


def test_the_addresses_of_a_host_come_in_random_order(loop, resolver, nameserver):
    nameserver.zone["a.example", "A"] = ["8.8.8.1", "8.8.8.2"]
    reverse = MXLookup(resolver.ask, RULES, lambda names: names.sort(reverse=True))
    hops = loop.wait(reverse.hops(loop.wait(reverse.hosts("d.example"))))
    addresses = [hop.address for hop in hops if ":" not in hop.address]
    assert addresses == ["8.8.8.2", "8.8.8.1", "8.8.4.4"]


def test_an_address_literal(find, nameserver):
    assert find("[8.8.8.8]") == [("[8.8.8.8]", "8.8.8.8")]
    assert not nameserver.asked


def test_secure_hosts_are_marked(loop, mx, nameserver):
    nameserver.secure = True
    nameserver.zone["a.example", "AAAA"] = fails("SERVFAIL")
    hops = loop.wait(mx.hops(loop.wait(mx.hosts("d.example"))))
    assert [hop.secure for hop in hops] == [True, True]


def test_a_host_behind_an_insecure_mx_is_not_secure(loop, mx, nameserver):
    hosts = loop.wait(mx.hosts("d.example"))
    nameserver.secure = True
    assert not any(hop.secure for hop in loop.wait(mx.hops(hosts)))


def test_a_host_that_the_administrator_names_may_be_anywhere(loop, mx, nameserver):
    nameserver.zone["smart.example", "A"] = ["10.0.0.25"]

    def fixed(name):
        return loop.wait(mx.fixed(name, 587))

    assert fixed("Smart.example") == [Hop(host="Smart.example", address="10.0.0.25", port=587)]
    assert fixed("relay")[0].address == "10.1.1.1"
    assert fixed("127.0.0.1")[0].address == "127.0.0.1"
    with pytest.raises(NoMailHosts, match=r"nowhere\.example"):
        fixed("nowhere.example")
    nameserver.zone["x.example", "A"] = fails("SERVFAIL")
    with pytest.raises(NoMailHosts, match="SERVFAIL"):
        fixed("x.example")
