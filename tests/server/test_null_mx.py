"""A user who writes to a domain that takes no mail (null MX, RFC 7505) hears it at RCPT."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from postoffice.dns.mx_lookup import MXLookup
from postoffice.model.address import Address
from postoffice.model.dns_answer import Answer, DNSUnavailable, NoSuchName
from postoffice.model.envelope import Client, Envelope, SessionInfo
from postoffice.model.reply import NO_RELAY, RECIPIENT_OK, TAKES_NO_MAIL
from postoffice.model.route import Direct, Host
from postoffice.outbound.mail_hosts import HostRules
from postoffice.outbound.routes import Router, Rule
from postoffice.server.null_mx import PATIENCE, NullMX
from postoffice.testing import finish

NULL = Answer(((0, ""),))
SILENT = "silent"


class Office:
    """A session of Joe's; ``zone`` says what the DNS answers, or later (a Deferred)."""

    def __init__(self, context, account, route):
        self.clock = Clock()
        self.zone = {}
        self.asked = []
        null_mx = NullMX(self.clock)
        null_mx.mx = MXLookup(self._ask, HostRules(), lambda _: None)
        router = Router([Rule(route, None, None)])
        info = SessionInfo("id", "submission", Client("192.0.2.1"), "pc")
        self.context = replace(context, router=router, null_mx=null_mx)
        self.joe = self.context.submission(info, account)
        self.stranger = self.context.reception(info)
        self.envelope = Envelope("id", Client("192.0.2.1"), sender=Address.parse("joe@example.net"))
        finish(self.joe.sender(self.envelope))

    async def _ask(self, name, kind):
        self.asked.append((name, kind))
        said = self.zone[name]
        if said is SILENT:
            said = await Deferred()
        if isinstance(said, Deferred):
            said = await said
        if isinstance(said, Exception):
            raise said
        return said

    def to(self, address):
        return Deferred.fromCoroutine(self.joe.recipient(self.envelope, Address.parse(address)))


@pytest.fixture
def made(reception_context, directory):
    joe = finish(directory.find("joe@example.net"))
    return lambda route: Office(reception_context, joe, route)


@pytest.fixture
def office(made):
    return made(Direct())


def test_what_the_dns_answers_at_once_is_refused_at_once(office):
    office.zone["null.example"] = NULL
    assert office.to("x@null.example").result == TAKES_NO_MAIL
    assert not office.envelope.queued


@pytest.mark.parametrize("said", [DNSUnavailable("SERVFAIL"), NoSuchName()])
def test_nothing_else_that_the_dns_says_is_a_reason_to_refuse(office, said):
    office.zone["x.example"] = said
    assert office.to("x@x.example").result == RECIPIENT_OK
    assert office.envelope.queued


def test_all_recipients_of_a_message_wait_so_long_together_and_no_longer(office):
    office.zone = {"a.example": Deferred(), "b.example": SILENT, "null.example": NULL}
    first = office.to("x@a.example")
    office.clock.advance(PATIENCE / 2)
    assert not first.called
    office.zone["a.example"].callback(NoSuchName())
    assert first.result == RECIPIENT_OK
    second = office.to("x@b.example")
    assert not second.called
    office.clock.advance(PATIENCE / 2)
    assert second.result == RECIPIENT_OK
    third = office.to("x@b.example")
    office.clock.advance(0)
    assert third.result == RECIPIENT_OK
    assert office.to("x@null.example").result == TAKES_NO_MAIL, "what is known counts"
    finish(office.joe.sender(office.envelope))
    fourth = office.to("x@b.example")
    office.clock.advance(PATIENCE / 2)
    assert not fourth.called, "the next message waits again"
    office.clock.advance(PATIENCE)


def test_nobody_is_asked_about_mail_for_us_or_from_strangers(office):
    assert office.to("joe@example.net").result == RECIPIENT_OK
    far = Address.parse("x@null.example")
    assert finish(office.stranger.recipient(office.envelope, far)) == NO_RELAY
    assert office.asked == []


def test_a_route_to_a_host_asks_nobody(made):
    office = made(Host("mx.example", 25))
    assert office.to("x@null.example").result == RECIPIENT_OK
    assert office.asked == []
