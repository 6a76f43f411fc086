"""The resolver, with scripted servers on loopback."""

from __future__ import annotations

import socket
from contextlib import suppress

import dns.flags
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.dns import resolver as module
from postoffice.dns.resolver import Resolver, nameservers
from postoffice.dns.responses import parse, query, read, wire_name
from postoffice.model.dns_answer import Answer, DNSUnavailable, NoData, NoSuchName
from postoffice.testing import finish
from tests.nameserver import NameServer, fails, records, response, silent

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def other():
    """A second server."""
    server = NameServer()
    yield server
    server.stop()


@pytest.fixture
def resolver(loop, clock, nameserver):
    return Resolver(loop.reactor, [nameserver.server], clock=clock)


@pytest.fixture
def two(loop, clock, nameserver, other):
    """A resolver with two servers."""
    return Resolver(loop.reactor, [nameserver.server, other.server], clock=clock)


def test_records_become_plain_values(loop, resolver, nameserver):
    nameserver.zone |= {
        ("a.example", "A"): ["192.0.2.1", "192.0.2.2"],
        ("a.example", "AAAA"): ["2001:db8::1"],
        ("a.example", "MX"): ["10 MX.example.", "0 ."],
        ("a.example", "TXT"): ['"v=spf1 " "-all"'],
        ("_25._tcp.a.example", "TLSA"): ["3 1 1 " + "0a" * 32],
        ("a.example", "SRV"): ["1 2 25 mx.example."],
        ("1.2.0.192.in-addr.arpa", "PTR"): ["A.example."],
    }
    found = {key: sorted(loop.wait(resolver.ask(*key)).records, key=str) for key in nameserver.zone}
    assert found == {
        ("a.example", "A"): ["192.0.2.1", "192.0.2.2"],
        ("a.example", "AAAA"): ["2001:db8::1"],
        ("a.example", "MX"): [(0, ""), (10, "mx.example")],
        ("a.example", "TXT"): [b"v=spf1 -all"],
        ("_25._tcp.a.example", "TLSA"): [(3, 1, 1, b"\x0a" * 32)],
        ("a.example", "SRV"): ["1 2 25 mx.example."],
        ("1.2.0.192.in-addr.arpa", "PTR"): ["a.example"],
    }


def test_no_records_and_no_name_are_told_apart(loop, resolver, nameserver):
    nameserver.zone["a.example", "A"] = ["192.0.2.1"]
    assert loop.wait(resolver.ask("A.example.", "MX")) == NoData("a.example")
    assert loop.wait(resolver.ask("b.example", "MX")) == NoSuchName("b.example")


@pytest.mark.parametrize("name", ["a..example", "", ".", f"{'a' * 64}.example", "ä.example"])
def test_what_is_no_name_does_not_exist_and_is_not_asked(loop, resolver, nameserver, name):
    assert isinstance(loop.wait(resolver.ask(name, "MX")), NoSuchName)
    assert not nameserver.asked


def garbage(q, _):
    return q.id.to_bytes(2, "big") + b"\x81\x80" + b"\xff" * 40


def lame(q, _):
    return response(q, ra=False).to_wire()


def lame_nxdomain(q, _):
    return response(q, "NXDOMAIN", ra=False).to_wire()


def referral(q, _):
    made = response(q)
    made.authority.append(records("example", "NS", "ns.example."))
    return made.to_wire()


def answer_for_nxdomain(q, _):
    made = response(q, "NXDOMAIN")
    made.answer.append(records("a.example", "MX", "10 mx.example."))
    return made.to_wire()


def endless(q, _):
    """An alias that leads back to itself, in one response."""
    made = response(q)
    made.answer.append(records("a.example", "CNAME", "a.example."))
    return made.to_wire()


def always_truncated(q, _):
    made = response(q)
    made.flags |= dns.flags.TC
    return made.to_wire()


def very_large(q, _):
    made = response(q)
    addresses = [f"10.0.{n % 8}.{n // 8}" for n in range(1200)]
    made.answer.append(records("a.example", "A", *addresses))
    return made.to_wire(max_size=65535)


def truncated_and_then_very_large(q, transport):
    return (always_truncated if transport == "udp" else very_large)(q, transport)


def hangs_up(q, transport):
    return always_truncated(q, transport) if transport == "udp" else None


BROKEN = [
    *map(fails, ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "YXDOMAIN"]),
    *[garbage, lame, lame_nxdomain, referral, answer_for_nxdomain, endless],
    *[always_truncated, hangs_up, truncated_and_then_very_large],
]


@pytest.mark.parametrize("script", BROKEN)
def test_a_broken_answer_says_nothing_about_the_name(loop, resolver, nameserver, script):
    nameserver.zone |= {("a.example", "MX"): script, ("b.example", "A"): ["192.0.2.1"]}
    with pytest.raises(DNSUnavailable, match=r"a\.example MX: 127\.0\.0\.1 "):
        loop.wait(resolver.ask("a.example", "MX"))
    assert loop.wait(resolver.ask("b.example", "A")).records == ("192.0.2.1",)


@pytest.mark.parametrize("script", BROKEN)
def test_the_next_server_is_asked_after_a_broken_answer(loop, two, nameserver, other, script):
    nameserver.zone["a.example", "MX"] = script
    other.zone["a.example", "MX"] = ["10 mx.example."]
    assert loop.wait(two.ask("a.example", "MX")).records == ((10, "mx.example"),)


def test_what_is_no_response_to_the_query_is_ignored(loop, resolver, nameserver):
    def answers(q, _):
        right = nameserver._answer(q, "udp")
        wrong_id = bytes([right[0] ^ 1]) + right[1:]
        other_question = response(query(wire_name("b.example"), 1, q.id)).to_wire()
        return [b"", b"x", wrong_id, q.to_wire(), other_question, right]

    nameserver.zone |= {("a.example", "A"): answers, ("a.example", "X"): []}
    nameserver._answer = lambda q, _: _with_address(q)
    assert loop.wait(resolver.ask("a.example", "A")).records == ("192.0.2.9",)


def _with_address(q):
    made = response(q)
    made.answer.append(records("a.example", "A", "192.0.2.9"))
    return made.to_wire()


def test_the_system_drops_what_others_send(loop, clock, nameserver):
    """The socket is connected: a stranger who guesses id and port is not heard either."""
    resolver = Resolver(loop.reactor, [nameserver.server], clock=clock)
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def forged(q, _):
        stranger.sendto(_with_address(q), ("127.0.0.1", nameserver.ports[-1]))
        return fails("SERVFAIL")(q, _)

    nameserver.zone["a.example", "A"] = forged
    with stranger, pytest.raises(DNSUnavailable, match="SERVFAIL"):
        loop.wait(resolver.ask("a.example", "A"))


def test_each_query_has_a_port_and_an_id_of_its_own(loop, resolver, nameserver):
    for n in range(20):
        loop.wait(resolver.ask(f"{n}.example", "A"))
    assert len(set(nameserver.ports)) > 10
    assert len({message.id for message in nameserver.messages}) > 10
    assert {message.payload for message in nameserver.messages} == {1232}


def test_what_does_not_fit_comes_over_tcp(loop, resolver, nameserver):
    addresses = [f"192.0.2.{n}" for n in range(200)]
    nameserver.zone["big.example", "A"] = addresses
    assert sorted(loop.wait(resolver.ask("big.example", "A")).records) == sorted(addresses)
    assert [transport for _, _, transport in nameserver.asked] == ["udp", "tcp"]


@pytest.fixture
def over_ipv6():
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        server = NameServer("::1")
        yield server
        server.stop()
        return
    pytest.skip("this machine has no IPv6")


def test_a_server_with_an_ipv6_address(loop, clock, over_ipv6):
    over_ipv6.zone |= {
        ("a.example", "A"): ["192.0.2.1"],
        ("big.example", "A"): [f"192.0.2.{n}" for n in range(200)],
    }
    resolver = Resolver(loop.reactor, [over_ipv6.server], clock=clock)
    assert loop.wait(resolver.ask("a.example", "A")).records == ("192.0.2.1",)
    assert len(loop.wait(resolver.ask("big.example", "A")).records) == 200


def test_a_server_that_is_out_of_reach(loop, clock, nameserver):
    """As an IPv6 server on a machine without IPv6, or one behind a route that is gone."""
    nameserver.zone["a.example", "A"] = ["192.0.2.1"]
    servers = [("2001:db8::53", 53), ("255.255.255.255", 53), nameserver.server]
    resolver = Resolver(loop.reactor, servers, clock=clock)
    asked = loop.start(resolver.ask("a.example", "A"))
    while not asked:
        loop.reactor.iterate(0.01)
        clock.advance(0 if nameserver.asked else 0.5)
    assert loop.result(asked).records == ("192.0.2.1",)


def test_a_silent_server_is_asked_again_and_then_it_is_a_failure(loop, clock, resolver, nameserver):
    nameserver.zone["a.example", "A"] = silent
    asked = loop.start(resolver.ask("a.example", "A"))
    for number, seconds in enumerate(module.ROUNDS, 1):
        loop.until(lambda number=number: len(nameserver.asked) == number)
        assert not asked
        clock.advance(seconds)
    with pytest.raises(DNSUnavailable, match="timed out"):
        loop.result(asked)


def test_a_server_that_is_late_is_asked_last_from_then_on(loop, clock, two, nameserver, other):
    nameserver.zone["a.example", "A"] = silent
    other.zone |= {(name, "A"): ["192.0.2.1"] for name in ("a.example", "b.example")}
    asked = loop.start(two.ask("a.example", "A"))
    loop.until(lambda: nameserver.asked)
    clock.advance(module.ROUNDS[0])
    loop.until(lambda: asked)
    assert loop.wait(two.ask("b.example", "A")).records == ("192.0.2.1",)
    assert len(nameserver.asked) == 1


def test_nobody_listens(loop, clock, nameserver):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()
    resolver = Resolver(loop.reactor, [closed], clock=clock)
    with pytest.raises(DNSUnavailable, match="refused"):
        loop.wait(resolver.ask("a.example", "A"))


def test_a_lookup_has_an_end_whatever_the_servers_do(loop, clock, nameserver, monkeypatch):
    monkeypatch.setattr(module, "ROUNDS", (1000,))
    resolver = Resolver(loop.reactor, [nameserver.server], clock=clock)
    nameserver.zone["a.example", "A"] = silent
    asked = loop.start(resolver.ask("a.example", "A"))
    loop.until(lambda: nameserver.asked)
    clock.advance(module.LIMIT)
    with pytest.raises(DNSUnavailable, match="timed out"):
        loop.result(asked)
    assert not clock.getDelayedCalls()


def test_one_query_for_all_that_wait_though_one_of_them_goes(loop, resolver, nameserver):
    nameserver.zone["a.example", "A"] = ["192.0.2.1"]
    first, second = (loop.start(resolver.ask("a.example", "A")) for _ in range(2))
    loop.until(lambda: first and second)
    assert first == second
    assert len(nameserver.asked) == 1


def test_so_many_lookups_at_the_same_time_and_no_more(loop, resolver, nameserver, monkeypatch):
    monkeypatch.setattr(module, "OPEN", 1)
    monkeypatch.setattr(module, "WAITING", 1)
    nameserver.zone |= {(f"{name}.example", "A"): silent for name in "abc"}
    first, second, again = (loop.start(resolver.ask(f"{name}.example", "A")) for name in "aba")
    with pytest.raises(DNSUnavailable, match="too many lookups"):
        finish(resolver.ask("c.example", "A"))
    assert not first + second + again
    resolver.stop()
    assert first
    assert second
    assert again


def test_stopped_lookups_fail(loop, clock, resolver, nameserver):
    nameserver.zone["a.example", "A"] = silent
    asked = loop.start(resolver.ask("a.example", "A"))
    loop.until(lambda: nameserver.asked)
    resolver.stop()
    with pytest.raises(DNSUnavailable, match="stopped"):
        loop.result(asked)
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("name", "ttl", "seconds"),
    [
        ("a.example", 300, 300),
        ("a.example", 0, module.SHORTEST),
        ("a.example", 10**6, module.LONGEST),
        ("none.example", 300, 60),  # the least of the SOA record
        ("broken.example", 300, module.FAILED),
    ],
)
def test_answers_are_cached(loop, clock, resolver, nameserver, name, ttl, seconds):
    nameserver.ttl = ttl
    nameserver.zone |= {
        ("a.example", "A"): ["192.0.2.1"],
        ("broken.example", "A"): fails("SERVFAIL"),
    }

    def ask():
        outcome = loop.start(resolver.ask(name, "A"))
        loop.until(lambda: outcome)
        return len(nameserver.asked)

    assert ask() == 1
    clock.advance(seconds - 1)
    assert ask() == 1
    clock.advance(1)
    assert ask() == 2


def test_the_cache_is_bounded(loop, clock, nameserver, monkeypatch):
    monkeypatch.setattr(module, "CACHE", 2000)
    resolver = Resolver(loop.reactor, [nameserver.server], clock=clock)
    nameserver.zone |= {(f"{n}.example", "A"): ["192.0.2.1"] for n in range(10)}
    for n in range(10):
        loop.wait(resolver.ask(f"{n}.example", "A"))
    assert len(resolver._cache) == 3


def test_aliases_are_followed(loop, resolver, nameserver):
    nameserver.zone |= {(f"{n}.example", "CNAME"): [f"{n + 1}.example."] for n in range(8)}
    nameserver.zone["8.example", "A"] = ["192.0.2.1"]
    assert loop.wait(resolver.ask("0.example", "A")) == Answer(("192.0.2.1",), "8.example")
    assert loop.wait(resolver.ask("0.example", "MX")) == NoData("8.example")


def test_aliases_are_followed_over_several_responses(loop, resolver, nameserver):
    """As a server answers that has not the alias's target."""
    one_alias = {}
    for n in range(9):

        def answer(q, _, n=n):
            made = response(q)
            made.answer.append(records(f"{n}.example", "CNAME", f"{n + 1}.example."))
            return made.to_wire()

        one_alias[f"{n}.example", "A"] = answer
    nameserver.zone |= one_alias | {("9.example", "A"): ["192.0.2.1"]}
    assert loop.wait(resolver.ask("1.example", "A")) == Answer(("192.0.2.1",), "9.example")
    with pytest.raises(DNSUnavailable, match="aliases"):
        loop.wait(resolver.ask("0.example", "A"))
    nameserver.zone["gone.example", "CNAME"] = ["nowhere.example."]
    assert loop.wait(resolver.ask("gone.example", "A")) == NoSuchName("nowhere.example")


def test_two_names_that_are_aliases_of_each_other(loop, resolver, nameserver):
    def leads_to(target):
        def answer(q, _):
            made = response(q)
            made.answer.append(records(q.question[0].name.to_text()[:-1], "CNAME", target))
            return made.to_wire()

        return answer

    nameserver.zone |= {
        ("a.example", "A"): leads_to("b.example."),
        ("b.example", "A"): leads_to("a.example."),
    }
    asked = [loop.start(resolver.ask(f"{name}.example", "A")) for name in "ab"]
    loop.until(lambda: all(asked))
    for outcome in asked:
        with pytest.raises(DNSUnavailable, match="aliases"):
            loop.result(outcome)


def test_the_word_of_a_server_on_this_machine_that_it_is_secure(loop, resolver, nameserver):
    nameserver.secure = True
    nameserver.zone["a.example", "A"] = ["192.0.2.1"]
    assert loop.wait(resolver.ask("a.example", "A")).secure
    assert loop.wait(resolver.ask("a.example", "MX")) == NoData("a.example", secure=True)
    assert loop.wait(resolver.ask("b.example", "MX")) == NoSuchName("b.example", secure=True)


def test_the_word_of_others_counts_if_the_administrator_says_so(loop):
    q = query(wire_name("a.example"), 1, 7)
    made = response(q)
    made.flags |= dns.flags.AD
    made.answer.append(records("a.example", "A", "192.0.2.1"))
    assert read(made, trusted=True).outcome.secure
    assert not read(made, trusted=False).outcome.secure
    far, believed = (
        Resolver(loop.reactor, [("192.0.2.53", 53)], trust_ad=trust) for trust in (False, True)
    )
    assert not far._current()[0].trusted
    assert believed._current()[0].trusted


def test_the_systems_servers(tmp_path, loop, clock):
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# nameserver 192.0.2.9\nnameserver 192.0.2.1\nnameserver nonsense\n"
        "nameserver 2001:DB8::1\nsearch example\n"
    )
    assert nameservers(str(path)) == ["192.0.2.1", "2001:db8::1"]
    resolver = Resolver(loop.reactor, clock=clock, resolv_conf=str(path))
    assert [one.address for one in resolver._current()] == ["192.0.2.1", "2001:db8::1"]
    path.write_text("nameserver 192.0.2.3\n")
    assert len(resolver._current()) == 2
    clock.advance(module.REREAD)
    assert [one.address for one in resolver._current()] == ["192.0.2.3"]


def test_without_a_file_the_server_is_on_this_machine(tmp_path):
    assert nameservers(str(tmp_path / "missing")) == ["127.0.0.1"]


@given(octets=st.binary(max_size=200), good=st.booleans())
def test_any_octets_are_a_response_or_ignored_or_a_failure(octets, good):
    asked = query(wire_name("a.example"), 15, 0x1234)
    if good:  # behind the header and question of a response
        octets = response(asked).to_wire()[:6] + octets
    try:
        made = parse(b"\x12\x34" + octets[2:], asked)
        if made is not None:
            read(made, trusted=True)
    except DNSUnavailable:
        pass


@given(place=st.integers(0, 200), octet=st.integers(0, 255))
def test_a_response_with_one_octet_changed(place, octet):
    asked = query(wire_name("a.example"), 15, 0x1234)
    made = response(asked)
    made.answer.append(records("a.example", "CNAME", "b.example."))
    made.answer.append(records("b.example", "MX", "10 mx.example.", "20 mx2.example."))
    wire = bytearray(made.to_wire())
    wire[place % len(wire)] = octet
    try:
        heard = parse(bytes(wire), asked)
        if heard is not None:
            read(heard, trusted=True)
    except DNSUnavailable:
        pass
