"""XCLIENT as the rules see it: a relay that is trusted says for whom it speaks."""

from __future__ import annotations

import pytest

from postoffice.model import reply
from postoffice.model.reply import Reply
from postoffice.smtp.options import SMTPOptions
from postoffice.smtp.questions import Abort, Impersonate, Mail

#: The client that the relay speaks for may do other things than the relay.
THEIRS = SMTPOptions("mail.example.net", xclient=True, submission=True)
MAIL = b"MAIL FROM:<a@example.org>\r\n"


@pytest.fixture
def relay(office):
    return office.greeted(xclient=True, answers={"Impersonate": THEIRS})


def test_it_is_offered_to_those_who_are_trusted(office):
    ehlo = b"EHLO pc\r\n"
    assert b"250-XCLIENT NAME ADDR PORT PROTO HELO\r\n" in office(xclient=True).hear(ehlo)
    assert b"XCLIENT" not in office().hear(ehlo)
    assert b"XCLIENT" not in office().hear(b"HELP\r\n")


def test_it_is_not_for_everybody(office):
    client = office.greeted()
    assert client.told(b"XCLIENT ADDR=192.0.2.7\r\n") == ["550 5.7.0"]
    assert client.asked == []


@pytest.mark.parametrize(
    ("attributes", "address", "port"),
    [
        (b"ADDR=192.0.2.7 PORT=4000", "192.0.2.7", 4000),
        (b"port=4000 addr=192.0.2.7", "192.0.2.7", 4000),
        (b"ADDR=192.0.2.7", "192.0.2.7", 0),
        (b"ADDR=IPV6:2001:DB8::1", "2001:db8::1", 0),
        (b"ADDR=2001:db8::1", "2001:db8::1", 0),
        (b"ADDR=IPV6:::ffff:192.0.2.7", "192.0.2.7", 0),
        (b"ADDR=192.0.2.7 LOGIN=u1@example.test NAME=[UNAVAILABLE]", "192.0.2.7", 0),
        (b"LOGIN= DESTADDR=192.0.2.9 ADDR=192.0.2.7 COLOUR=green", "192.0.2.7", 0),
        (b"ADDR=192.0.2+2E7", "192.0.2.7", 0),
        (b"PORT=65535", None, 65535),
        (b"ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE]", None, 0),
        (b"ADDR=[TEMPUNAVAIL] PORT=[TEMPUNAVAIL]", None, 0),
        (b"NAME=mx.example.org PROTO=ESMTP HELO=pc+20one", None, 0),
        (b"NAME=[UNAVAILABLE] ADDR=192.0.2.7 HELO=+0D+0AQUIT", "192.0.2.7", 0),
    ],
)
def test_what_it_tells(relay, attributes, address, port):
    assert relay.told(b"XCLIENT " + attributes + b"\r\n") == ["220"]
    assert relay.asked == [Impersonate(address, port)]


@pytest.mark.parametrize(
    "attributes",
    [
        b"",
        b"ADDR",
        b"ADDR=",
        b"ADDR=nobody",
        b"ADDR=192.0.2.777",
        b"ADDR=IPV6:192.0.2.7:1",
        b"ADDR=192.0.2.7 ADDR=192.0.2.8",
        b"PORT=65536",
        b"PORT=-1",
        b"PORT=\xd9\xa5",
        b"PORT=000025",
        b"ADDR=+zz",
        b"=x",
    ],
)
def test_what_it_does_not_understand_changes_nothing(relay, attributes):
    assert relay.told(b"XCLIENT " + attributes + b"\r\n") == ["501 5.5.4"]
    assert relay.asked == []
    assert relay.told(MAIL) == ["250 2.1.0"]


@pytest.mark.parametrize("name", [b"a+zzb", b"a+", b"", b"\xc3\xa4", b"B\xfcro", b"a=b"])
def test_a_name_of_the_client_is_handed_on_as_it_is(relay, name):
    line = b"XCLIENT NAME=" + name + b" HELO=" + name + b" ADDR=192.0.2.7\r\n"
    assert relay.told(line) == ["220"]


def test_the_session_begins_anew(relay):
    assert relay.hear(b"XCLIENT ADDR=192.0.2.7\r\n") == b"220 mail.example.net ESMTP postoffice\r\n"
    assert relay.told(MAIL) == ["503 5.5.1"], "hello is forgotten"
    assert relay.told(b"EHLO pc\r\n" + MAIL) == ["250", "530 5.7.0"], "and the terms are its own"


def test_the_login_is_forgotten(office, plain):
    login = {"mechanisms": ("PLAIN",), "passwords": True, "submission": True}
    theirs = SMTPOptions("mail.example.net", xclient=True, **login)
    relay = office.greeted(xclient=True, answers={"Impersonate": theirs}, **login)
    auth = b"AUTH PLAIN " + plain() + b"\r\n"
    assert relay.told(auth + b"XCLIENT ADDR=192.0.2.7\r\n") == ["235 2.7.0", "220"]
    assert relay.told(b"EHLO pc\r\n" + MAIL + auth + MAIL) == [
        "250",
        "530 5.7.0",
        "235 2.7.0",
        "250 2.1.0",
    ]


def test_it_may_be_said_again_and_for_another(relay):
    assert relay.told(b"XCLIENT ADDR=192.0.2.7\r\nXCLIENT ADDR=192.0.2.8\r\n") == ["220", "220"]
    assert relay.asked == [Impersonate("192.0.2.7", 0), Impersonate("192.0.2.8", 0)]


@pytest.mark.parametrize("chunk", [b"", b"BDAT 2\r\nhi"])
def test_it_has_no_place_in_a_transaction(relay, chunk):
    relay.hear(MAIL + b"RCPT TO:<b@example.net>\r\n" + chunk)
    assert relay.told(b"XCLIENT ADDR=192.0.2.7\r\n") == ["503 5.5.1"]
    assert not {Impersonate, Abort} & set(relay.kinds)
    assert Mail in relay.kinds


def test_a_client_that_shall_not_be_here_is_shown_out(relay):
    relay.answers["Connect"] = Reply(554, "5.7.1", "Not you")
    assert relay.told(b"XCLIENT ADDR=192.0.2.7\r\nNOOP\r\n") == ["554 5.7.1"]
    assert relay.session.closed


def test_it_may_be_refused(relay):
    relay.answers["Impersonate"] = reply.NOT_TRUSTED
    assert relay.told(b"XCLIENT ADDR=192.0.2.7\r\n" + MAIL) == ["550 5.7.0", "250 2.1.0"]


def test_it_needs_no_hello(office):
    relay = office(xclient=True, answers={"Impersonate": THEIRS})
    assert relay.told(b"XCLIENT ADDR=192.0.2.7\r\n") == ["220"]


def test_errors_are_counted_on(relay):
    relay.hear(b"FROBNICATE\r\n" * 10)
    assert relay.told(b"XCLIENT ADDR=192.0.2.7\r\nFROBNICATE\r\n") == ["220", "421 4.7.0"]


def test_it_is_there_over_lmtp(office):
    theirs = SMTPOptions("mail.example.net", lmtp=True)
    relay = office.greeted(xclient=True, lmtp=True, answers={"Impersonate": theirs})
    assert relay.hear(b"XCLIENT ADDR=192.0.2.7\r\n") == b"220 mail.example.net LMTP postoffice\r\n"
    assert relay.told(b"XCLIENT ADDR=192.0.2.7\r\n") == ["550 5.7.0"], "it may be said once only"
