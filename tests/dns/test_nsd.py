"""The resolver and nsd, a name server of others."""

from __future__ import annotations

import pytest

from postoffice.dns.mx_lookup import MXLookup
from postoffice.dns.resolver import Resolver
from postoffice.model.dns_answer import Answer, DNSUnavailable, NoData, NoSuchName
from postoffice.outbound.mail_hosts import HostRules, NoMailHosts
from tests.servers import NSD


@pytest.fixture(scope="module")
def nsd():
    server = NSD()
    yield server
    server.remove()


@pytest.fixture
def ask(loop, clock, nsd):
    resolver = Resolver(loop.reactor, [("127.0.0.1", nsd.port)], clock=clock)
    return lambda name, kind: loop.wait(resolver.ask(name, kind))


def test_its_records(ask):
    assert sorted(ask("example", "MX").records) == [(10, "mx1.example"), (20, "mx2.example")]
    assert ask("null.example", "MX").records == ((0, ""),)
    assert ask("mx2.example", "AAAA") == Answer(("2001:db8::1",), "mx1.example")
    assert ask("text.example", "TXT").records == (b"one record",)


@pytest.fixture
def find(loop, clock, nsd):
    resolver = Resolver(loop.reactor, [("127.0.0.1", nsd.port)], clock=clock)
    mx = MXLookup(resolver.ask, HostRules(private=True), lambda names: None)

    async def hops(domain):
        return await mx.hops(await mx.hosts(domain))

    return lambda domain: [(hop.host, hop.address) for hop in loop.wait(hops(domain))]


def test_the_hosts_of_its_domains(find):
    assert find("example") == [
        ("mx1.example", "192.0.2.1"), ("mx1.example", "2001:db8::1"),
        ("mx2.example", "192.0.2.1"), ("mx2.example", "2001:db8::1"),
    ]  # fmt: skip
    assert find("bare.example") == [("bare.example", "192.0.2.3")]


@pytest.mark.parametrize(
    ("domain", "status"),
    [
        ("null.example", "5.1.10"),
        ("text.example", "5.4.4"),
        ("nowhere.example", "5.1.2"),
        ("far.example", "4.4.3"),
    ],
)
def test_domains_without_hosts(find, domain, status):
    with pytest.raises(NoMailHosts) as caught:
        find(domain)
    assert caught.value.reply.status == status


def test_it_has_no_such_record_and_no_such_name(ask):
    assert ask("bare.example", "MX") == NoData("bare.example")
    assert ask("nowhere.example", "MX") == NoSuchName("nowhere.example")


def test_what_does_not_fit_into_a_datagram(ask):
    assert len(ask("big.example", "TXT").records[0]) == 4000


@pytest.mark.parametrize("name", ["elsewhere.test", "far.example"])
def test_it_is_lame_for_the_names_of_others(ask, name):
    with pytest.raises(DNSUnavailable, match="REFUSED"):
        ask(name, "A")
