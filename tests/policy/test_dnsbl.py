"""Lists over DNS, asked of a real server on loopback."""

from __future__ import annotations

import gc

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from postoffice.dns.resolver import Resolver
from postoffice.interfaces import Fields
from postoffice.model.dns_answer import DNSUnavailable
from postoffice.model.errors import TemporaryFailure
from postoffice.policy.dnsbl import DNSBLPolicy, Zone, ZoneLookup, reverse
from postoffice.testing import finish
from tests.nameserver import fails, silent

LISTED = {
    "4.4.8.8.bad.example": "127.0.0.2",
    "5.4.8.8.bad.example": "127.0.0.9",
    "6.4.8.8.bad.example": "127.255.255.254",
    f"{reverse('2001:4860::1')}.bad.example": "127.0.0.2",
}


@pytest.fixture
def resolver(loop, nameserver):
    nameserver.ttl = 3600
    nameserver.zone |= {(name, "A"): [address] for name, address in LISTED.items()}
    for client in ("4.4.8.8", "9.4.8.8"):
        nameserver.zone[f"{client}.broken.example", "A"] = fails("SERVFAIL")
        nameserver.zone[f"{client}.silent.example", "A"] = silent
    made = Resolver(loop.reactor, [nameserver.server], clock=Clock())
    yield made
    made.stop()


def lists(resolver, *zones):
    return ZoneLookup([Zone(*zone) for zone in zones], resolver.ask)


BAD = ("bad.example",)


def test_a_client_that_is_listed_and_one_that_is_not(loop, resolver):
    found = lists(resolver, ("good.example",), BAD)
    assert loop.wait(found.listed("8.8.4.4")) == "bad.example"
    assert loop.wait(found.listed("8.8.4.9")) is None
    assert loop.wait(found.listed("2001:4860::1")) == "bad.example"


def test_the_answers_that_count(loop, resolver):
    found = lists(resolver, ("bad.example", frozenset({"127.0.0.2"})))
    assert loop.wait(found.listed("8.8.4.4")) == "bad.example"
    assert loop.wait(found.listed("8.8.4.5")) is None


def test_all_who_ask_at_once_share_one_question(loop, resolver, nameserver):
    found = lists(resolver, BAD)
    found.begin("8.8.4.4")

    async def both():
        first = Deferred.fromCoroutine(found.listed("8.8.4.4"))
        second = Deferred.fromCoroutine(found.listed("8.8.4.4"))
        return await first, await second

    assert loop.wait(both()) == ("bad.example", "bad.example")
    assert len(nameserver.asked) == 1


def test_a_list_that_is_broken_does_not_hide_another(loop, resolver):
    found = lists(resolver, ("broken.example",), BAD)
    assert loop.wait(found.listed("8.8.4.4")) == "bad.example"
    with pytest.raises(TemporaryFailure, match=r"broken\.example"):
        loop.wait(found.listed("8.8.4.9"))


def test_nobody_waits_for_the_others_when_one_list_has_said_yes(loop, resolver):
    found = lists(resolver, ("silent.example",), BAD)
    assert loop.wait(found.listed("8.8.4.4")) == "bad.example"


def test_a_zone_may_be_named_twice_with_other_answers(loop, resolver):
    one, other = (("bad.example", frozenset({answer})) for answer in ("127.0.0.9", "127.0.0.2"))
    assert loop.wait(lists(resolver, one, other).listed("8.8.4.4")) == "bad.example"


def test_a_list_that_does_not_let_us_ask_is_a_failure_and_no_listing(loop, resolver):
    with pytest.raises(TemporaryFailure, match="refuses our lookups"):
        loop.wait(lists(resolver, BAD).listed("8.8.4.6"))


def test_a_client_that_leaves_while_a_list_is_silent_leaves_the_question_to_others(loop, resolver):
    found = lists(resolver, ("silent.example",))
    going = Deferred.fromCoroutine(found.listed("8.8.4.4"))
    staying = Deferred.fromCoroutine(found.listed("8.8.4.4"))
    going.addErrback(lambda _: None)
    going.cancel()
    assert going.called
    assert not staying.called
    staying.addErrback(lambda _: None)
    staying.cancel()


def test_the_policy_refuses_at_rcpt(loop, resolver, session_info, envelope, recipient, nameserver):
    policy = DNSBLPolicy([Zone("bad.example")], resolver)
    finish(policy.start())
    assert finish(policy.connect(session_info())) is None
    said = loop.wait(policy.recipient(envelope(), recipient()))
    assert (said.code, said.status) == (554, "5.7.1")
    assert said.text == "8.8.4.4 is on the list bad.example; ask there"
    assert len(nameserver.asked) == 1, "it was asked when the client came"
    assert loop.wait(policy.recipient(envelope(), recipient("postmaster@example.net"))) is None
    assert loop.wait(policy.recipient(envelope("8.8.4.9"), recipient())) is None
    finish(policy.stop())


def test_or_it_tags(loop, resolver, envelope, recipient):
    policy = DNSBLPolicy([Zone("bad.example")], resolver, tag=True)
    finish(policy.start())
    message = envelope()
    said = loop.wait(policy.recipient(message, recipient()))
    assert said == Fields(b"X-DNSBL: bad.example\r\n")
    message.fields.append(said.octets)
    assert loop.wait(policy.recipient(message, recipient())) is None, "once is enough"


@pytest.mark.parametrize("address", ["", "127.0.0.1", "10.1.2.3", "192.168.0.1", "fe80::1", "::1"])
def test_nobody_is_asked_about_clients_that_no_list_can_know(
    address, resolver, nameserver, envelope, recipient
):
    policy = DNSBLPolicy([Zone("bad.example")], resolver)
    finish(policy.start())
    assert finish(policy.recipient(envelope(address), recipient())) is None
    assert nameserver.asked == []


@pytest.fixture
def answer():
    """What the resolver waits for."""
    return Deferred()


@pytest.fixture
def waiting_lists(answer):
    async def ask(name, kind):
        return await answer

    return ZoneLookup([Zone("list.example")], ask)


def test_no_answer_about_a_client_that_has_gone_is_no_fault_of_ours(waiting_lists, answer):
    waiting_lists.begin("8.8.4.4")
    answer.errback(DNSUnavailable("timed out"))
    gc.collect()  # a failure that nobody took would be logged now


def test_a_client_that_leaves_while_a_list_is_silent_is_no_failure_of_the_list(waiting_lists):
    going = Deferred.fromCoroutine(waiting_lists.listed("8.8.4.4"))
    going.addErrback(lambda failure: failure.check(CancelledError))
    going.cancel()
    assert going.result is CancelledError
