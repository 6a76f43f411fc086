"""Lists over DNS, asked of a real server on loopback."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.pollreactor import PollReactor
from twisted.internet.task import Clock
from twisted.names import client, common, dns, error, server

from postoffice.interfaces import Fields
from postoffice.model.errors import TemporaryFailure
from postoffice.policy import dnsbl
from postoffice.policy.dnsbl import DNSBLPolicy, Zone, ZoneLookup, reverse
from postoffice.testing import finish

LISTED = {
    "4.4.8.8.bad.example": ("127.0.0.2", 3600),
    "5.4.8.8.bad.example": ("127.0.0.9", 3600),
    "6.4.8.8.bad.example": ("127.255.255.254", 60),
    f"{reverse('2001:4860::1')}.bad.example": ("127.0.0.2", 3600),
}


class Records(common.ResolverBase):
    """What the server knows; it counts the questions."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def _lookup(self, name, cls, type, timeout):  # noqa: A002
        name = name.decode()
        self.asked.append(name)
        done = Deferred()
        if name.endswith("silent.example"):
            return done  # for ever
        if name.endswith("broken.example"):
            done.errback(RuntimeError("broken"))
        elif name in LISTED:
            address, ttl = LISTED[name]
            record = dns.RRHeader(name, dns.A, dns.IN, ttl, dns.Record_A(address, ttl))
            done.callback(([record], [], []))
        else:
            done.errback(error.DNSNameError())
        return done


@pytest.fixture
def loop():
    """A reactor of this test's own."""
    reactor = PollReactor()
    yield reactor
    for reader in reactor.removeAll():
        reader.connectionLost(None)
    for call in reactor.getDelayedCalls():
        if call.time - reactor.seconds() > 0:  # the next questions to a silent server
            call.cancel()
    reactor.iterate(0)  # sockets are closed in the next turn
    for reader in reactor._internalReaders:
        reader.connectionLost(None)


@pytest.fixture
def records(loop):
    return Records()


@pytest.fixture
def resolver(loop, records):
    factory = server.DNSServerFactory(clients=[records])
    protocol = dns.DNSDatagramProtocol(factory, reactor=loop)
    port = loop.listenUDP(0, protocol, "127.0.0.1")
    yield client.Resolver(servers=[("127.0.0.1", port.getHost().port)], reactor=loop)
    port.stopListening()


def wait(loop, coroutine):
    """The result of a coroutine, while the reactor turns."""
    outcome = []
    Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
    while not outcome:
        loop.iterate(0.05)
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


def lists(resolver, *zones, clock=None):
    return ZoneLookup([Zone(*zone) for zone in zones], resolver, (clock or Clock()).seconds)


BAD = ("bad.example",)


def test_a_client_that_is_listed_and_one_that_is_not(loop, resolver):
    found = lists(resolver, ("good.example",), BAD)
    assert wait(loop, found.listed("8.8.4.4")) == "bad.example"
    assert wait(loop, found.listed("8.8.4.9")) is None
    assert wait(loop, found.listed("2001:4860::1")) == "bad.example"


def test_the_answers_that_count(loop, resolver):
    found = lists(resolver, ("bad.example", frozenset({"127.0.0.2"})))
    assert wait(loop, found.listed("8.8.4.4")) == "bad.example"
    assert wait(loop, found.listed("8.8.4.5")) is None


def test_answers_are_remembered_for_their_time(loop, resolver, records):
    clock = Clock()
    found = lists(resolver, BAD, clock=clock)
    for _ in range(3):
        assert wait(loop, found.listed("8.8.4.4")) == "bad.example"
        assert wait(loop, found.listed("8.8.4.9")) is None
    assert len(records.asked) == 2
    clock.advance(3601)
    assert wait(loop, found.listed("8.8.4.4")) == "bad.example"
    assert len(records.asked) == 3


def test_all_who_ask_at_once_share_one_question(loop, resolver, records):
    found = lists(resolver, BAD)
    found.begin("8.8.4.4")

    async def both():
        first = Deferred.fromCoroutine(found.listed("8.8.4.4"))
        second = Deferred.fromCoroutine(found.listed("8.8.4.4"))
        return await first, await second

    assert wait(loop, both()) == ("bad.example", "bad.example")
    assert len(records.asked) == 1


def test_a_list_that_is_broken_does_not_hide_another(loop, resolver, failures):
    found = lists(resolver, ("broken.example",), BAD)
    assert wait(loop, found.listed("8.8.4.4")) == "bad.example"
    with pytest.raises(TemporaryFailure, match=r"broken\.example"):
        wait(loop, found.listed("8.8.4.9"))
    failures.clear()  # of the server, which is in this process


def test_nobody_waits_for_the_others_when_one_list_has_said_yes(loop, resolver):
    found = lists(resolver, ("silent.example",), BAD)
    assert wait(loop, found.listed("8.8.4.4")) == "bad.example"


def test_a_zone_may_be_named_twice_with_other_answers(loop, resolver):
    one, other = (("bad.example", frozenset({answer})) for answer in ("127.0.0.9", "127.0.0.2"))
    assert wait(loop, lists(resolver, one, other).listed("8.8.4.4")) == "bad.example"


def test_so_many_questions_are_open_and_no_more(loop, resolver, monkeypatch):
    """Each holds a socket."""
    monkeypatch.setattr(dnsbl, "OPEN", 2)
    found = lists(resolver, ("silent.example",))
    for number in range(2):
        found.begin(f"8.8.4.{number}")
    with pytest.raises(TemporaryFailure, match="too many lookups"):
        finish(found.listed("8.8.4.4"))


def test_a_list_that_does_not_let_us_ask_is_a_failure_and_no_listing(loop, resolver):
    with pytest.raises(TemporaryFailure, match="refuses our lookups"):
        wait(loop, lists(resolver, BAD).listed("8.8.4.6"))


def test_who_goes_while_a_list_is_silent_leaves_the_question_to_others(loop, resolver):
    found = lists(resolver, ("silent.example",))
    going = Deferred.fromCoroutine(found.listed("8.8.4.4"))
    staying = Deferred.fromCoroutine(found.listed("8.8.4.4"))
    going.addErrback(lambda _: None)
    going.cancel()
    assert going.called
    assert not staying.called
    staying.addErrback(lambda _: None)
    staying.cancel()


def test_the_policy_refuses_at_rcpt(loop, resolver, session_info, envelope, recipient, records):
    policy = DNSBLPolicy([Zone("bad.example")], lambda: resolver, Clock().seconds)
    finish(policy.start())
    assert finish(policy.connect(session_info())) is None
    said = wait(loop, policy.recipient(envelope(), recipient()))
    assert (said.code, said.status) == (554, "5.7.1")
    assert said.text == "8.8.4.4 is on the list bad.example; ask there"
    assert len(records.asked) == 1, "it was asked when the client came"
    assert wait(loop, policy.recipient(envelope(), recipient("postmaster@example.net"))) is None
    assert wait(loop, policy.recipient(envelope("8.8.4.9"), recipient())) is None
    finish(policy.stop())


def test_or_it_tags(loop, resolver, envelope, recipient):
    policy = DNSBLPolicy([Zone("bad.example")], lambda: resolver, Clock().seconds, tag=True)
    finish(policy.start())
    message = envelope()
    said = wait(loop, policy.recipient(message, recipient()))
    assert said == Fields(b"X-DNSBL: bad.example\r\n")
    message.fields.append(said.octets)
    assert wait(loop, policy.recipient(message, recipient())) is None, "once is enough"


@pytest.mark.parametrize("address", ["", "127.0.0.1", "10.1.2.3", "192.168.0.1", "fe80::1", "::1"])
def test_nobody_is_asked_about_clients_that_no_list_can_know(
    address, resolver, records, envelope, recipient
):
    policy = DNSBLPolicy([Zone("bad.example")], lambda: resolver, Clock().seconds)
    finish(policy.start())
    assert finish(policy.recipient(envelope(address), recipient())) is None
    assert records.asked == []
