"""Trace fields (RFC 5321 §4.4) and who the client is."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest

from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def envelope(**named) -> Envelope:
    named = {"id": "abc.1", "client": Client("192.0.2.1"), "hello": "pc.example.org"} | named
    return Envelope(**named, protocol="ESMTP")


def recipient(name: str) -> Recipient:
    return Recipient(Address.parse(name), Account(name, name))


def test_the_fields_of_a_message_for_one():
    one = envelope(sender=Address("a", "example.org"), recipients=[recipient("b@example.net")])
    assert one.trace("mail.example.net", NOON) == (
        b"Return-Path: <a@example.org>\r\n"
        b"Received: from pc.example.org ([192.0.2.1])\r\n"
        b"\tby mail.example.net with ESMTP id abc.1\r\n"
        b"\tfor <b@example.net>;\r\n"
        b"\tMon, 23 Nov 2026 12:00:00 +0000\r\n"
    )


def test_several_recipients_are_not_told_of_each_other():
    two = envelope(recipients=[recipient("b@example.net"), recipient("c@example.net")])
    trace = two.trace("mail.example.net", NOON)
    assert trace.startswith(b"Return-Path: <>\r\n")
    assert b"for " not in trace


@pytest.mark.parametrize(
    ("client", "hello", "came"),
    [
        (Client("192.0.2.1"), "pc", "from pc ([192.0.2.1])"),
        (Client("2001:db8::1"), "pc", "from pc ([IPv6:2001:db8::1])"),
        (Client("192.0.2.1"), "[192.0.2.9]", "from [192.0.2.9] ([192.0.2.1])"),
        (Client(""), "pc", "from pc"),
        (Client("192.0.2.1"), "", "from [192.0.2.1] ([192.0.2.1])"),
        (Client(""), "", "from localhost"),
    ],
)
def test_where_a_message_came_from(client, hello, came):
    trace = envelope(client=client, hello=hello, recipients=[recipient("b@example.net")]).trace(
        "mail.example.net", NOON
    )
    assert f"Received: {came}\r\n".encode() in trace


@pytest.mark.parametrize(
    ("hello", "told"),
    [
        ("under_score", "under_score"),
        ("-x", "-x"),
        ("host.example.org.", "host.example.org."),
        ("Büro-PC", "B+C3+BCro-PC"),
        (r"B\xfcro", "B+5Cxfcro"),
        ("Annas MacBook", "Annas+20MacBook"),
        ("router.(none)", "router.+28none+29"),
        ("[fe80::1%en0]", "[fe80::1%en0]"),
        ("a+b=c", "a+2Bb+3Dc"),
        (') by evil; "', "+29+20by+20evil+3B+20+22"),
        ("x\r\nEvil: y", "x+0D+0AEvil:+20y"),
        ("${HOSTNAME}", "${HOSTNAME}"),
        ("<a@b>", "+3Ca@b+3E"),
        ("x" * 500, "x" * 240 + "..."),
        ("ä" * 500, "+C3+A4" * 40 + "..."),
    ],
)
def test_an_odd_greeting_stands_in_a_comment(hello, told):
    for client, came in (
        (Client("192.0.2.1"), "from [192.0.2.1] ([192.0.2.1])"),
        (Client(""), "from localhost"),
    ):
        one = envelope(client=client, hello=hello, recipients=[recipient("b@example.net")])
        trace = one.trace("mail.example.net", NOON)
        assert f"Received: {came}\r\n\t(HELO {told})\r\n\tby ".encode() in trace
        lines = trace.split(b"\r\n")
        assert all(len(line) < 300 for line in lines)
        message = message_from_bytes(trace + b"\r\nbody\r\n", policy=policy.default)
        assert message.keys() == ["Return-Path", "Received"]


def test_others_can_read_the_fields():
    one = envelope(sender=Address("a b", "example.org"), recipients=[recipient("b@example.net")])
    message = message_from_bytes(one.trace("h", NOON) + b"\r\nbody\r\n", policy=policy.default)
    assert message["Return-Path"] == '<"a b"@example.org>'
    assert not message.defects


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("", True),
        ("192.0.2.1", False),
        ("12.7.0.1", False),
        ("::2", False),
    ],
)
def test_local_clients(address, local):
    assert Client(address).local is local
