"""Who may post, and to whom."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from postoffice import reply
from postoffice.accounts.memory import MemoryDirectory
from postoffice.address import Address
from postoffice.envelope import Client, Envelope, Visit
from postoffice.errors import TemporaryFailure
from postoffice.maildrop.memory import MemoryStore
from postoffice.smtp.reception import House
from postoffice.testing import finish

POSTMASTER = Address("postmaster", "example.net")


@pytest.fixture
def directory():
    directory = MemoryDirectory()
    for domain in ("example.net", "example.com", "xn--bcher-kva.example"):
        finish(directory.add_domain(domain))
    for name in ("joe@example.net", "postmaster@example.net", "joe@xn--bcher-kva.example"):
        finish(directory.add(name, None))
    return directory


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def reception(directory, store):
    house = House(
        directory,
        store,
        hostname="mail.example.net",
        postmaster=POSTMASTER,
        now=lambda: datetime(2026, 11, 23, tzinfo=UTC),
    )
    return house.reception(Visit("id", "smtp", Client("192.0.2.1"), "pc"))


@pytest.fixture
def envelope():
    return Envelope("id.1", Client("192.0.2.1"), "pc", "ESMTP", Address("a", "example.org"))


def ask(reception, envelope, text):
    return finish(reception.recipient(envelope, Address.parse(text) if text else None))


def test_anyone_may_send(reception, envelope):
    assert finish(reception.sender(envelope)) == reply.SENDER_OK


@pytest.mark.parametrize(
    ("address", "account"),
    [
        ("joe@example.net", "joe@example.net"),
        ("JOE@Example.NET", "joe@example.net"),
        ('"joe"@example.net', "joe@example.net"),
        ("joe@bücher.example", "joe@xn--bcher-kva.example"),
        ("postmaster@example.net", "postmaster@example.net"),
        ("PostMaster@example.com", "postmaster@example.net"),
        ("POSTMASTER@BÜCHER.example", "postmaster@example.net"),
        (None, "postmaster@example.net"),
    ],
)
def test_those_who_are_here(reception, envelope, address, account):
    assert ask(reception, envelope, address) == reply.RECIPIENT_OK
    assert [one.account.address for one in envelope.recipients] == [account]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("jim@example.net", reply.UNKNOWN_RECIPIENT),
        ("joe@example.com", reply.UNKNOWN_RECIPIENT),
        ("joe@example.org", reply.NO_RELAY),
        ("postmaster@example.org", reply.NO_RELAY),
        ("joe%example.org@example.net", reply.UNKNOWN_RECIPIENT),
        ("example.org!joe@example.net", reply.UNKNOWN_RECIPIENT),
        ('"joe@example.org"@example.net', reply.UNKNOWN_RECIPIENT),
        ("joe@[127.0.0.1]", reply.NO_RELAY),
        ("joe@sub.example.net", reply.NO_RELAY),
        ('"../joe"@example.net', reply.UNKNOWN_RECIPIENT),
    ],
)
def test_those_who_are_not(reception, envelope, address, said):
    assert ask(reception, envelope, address) == said
    assert not envelope.recipients


def test_one_account_gets_one_copy(reception, envelope):
    for address in ("joe@example.net", "JOE@example.net", "postmaster@example.com", None):
        assert ask(reception, envelope, address) == reply.RECIPIENT_OK
    assert [one.account.address for one in envelope.recipients] == [
        "joe@example.net",
        "postmaster@example.net",
    ]


def test_a_missing_postmaster_is_our_fault(reception, envelope, directory):
    finish(directory.remove("postmaster@example.net"))
    with pytest.raises(TemporaryFailure):
        ask(reception, envelope, None)


def test_the_trace_fields_come_first(reception, envelope, store):
    ask(reception, envelope, "joe@example.net")
    delivery = finish(reception.begin(envelope))
    finish(delivery.write(b"Subject: x\r\n\r\n"))
    finish(delivery.commit())
    maildrop = store.maildrop("joe@example.net")
    listing = finish(maildrop.open())
    text = finish(finish(maildrop.fetch(listing.entries[0])).read())
    assert text.startswith(b"Return-Path: <a@example.org>\r\nReceived: from pc ([192.0.2.1])\r\n")
    assert text.endswith(b"+0000\r\nSubject: x\r\n\r\n")
    maildrop.release()
