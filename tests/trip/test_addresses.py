"""Aliases, forwards, catch-alls and states, in a real daemon: posted with smtplib, collected."""

from __future__ import annotations

import contextlib
import poplib
import smtplib

import pytest

from postoffice.model.address import Address
from postoffice.model.alias import DISCARD, REFUSE, Alias, Domain
from postoffice.testing import finish
from tests.trip.conftest import CONFIGURATION

TEXT = b"From: a@example.org\r\nSubject: x\r\n\r\nx\r\n"


def targets(*names):
    return tuple(Address.parse(name if "@" in name else f"{name}@example.net") for name in names)


@pytest.fixture(scope="module")
def office(tmp_path_factory, opened):
    """An office with aliases of every kind."""
    for office in opened(tmp_path_factory.mktemp("addresses"), CONFIGURATION):
        for name in ("postmaster", "ann", "bob", "carl"):
            office.account(f"{name}@example.net", office.PASSWORD)
        with office.directory() as directory:
            for domain in ("example.com", "example.org"):
                finish(directory.add_domain(domain))
            finish(directory.set_domain(Domain("example.org", same_as="example.net")))
            finish(directory.set_domain(Domain("example.com", catch_all=targets("ann"))))
            finish(directory.set_forward("carl@example.net", targets("ann"), False))
            for alias in (
                Alias("info@example.net", targets("ann", "bob")),
                Alias("all@example.net", targets("info", "carl", "ann+x"), send=True),
                Alias("left@example.net", kind=REFUSE, words="She has left; write to bob"),
                Alias("null@example.net", kind=DISCARD),
            ):
                assert finish(directory.add_alias(alias))
        yield office


@pytest.fixture
def smtp(office):
    with smtplib.SMTP("127.0.0.1", office.smtp, timeout=30) as client:
        client.ehlo("pc")
        yield client


@contextlib.contextmanager
def collecting(office, name):
    client = poplib.POP3("127.0.0.1", office.pop3, timeout=30)
    try:
        client.user(f"{name}@example.net")
        client.pass_(office.PASSWORD)
        yield client
    finally:
        client.quit()


def collected(office, name):
    """How many messages an account had; they are deleted."""
    with collecting(office, name) as client:
        many, _ = client.stat()
        for number in range(1, many + 1):
            client.dele(number)
    return many


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [
        (["info@example.net"], [1, 1]), (["All+tag@example.org"], [1, 1]),
        (["carl@example.net"], [1, 0]), (["what@example.com", "bob+1@example.org"], [1, 1]),
        (["info@example.net", "ann@example.net", "all@example.net"], [1, 1]),
        (["null@example.net"], [0, 0]), (["null@example.net", "bob@example.net"], [0, 1]),
    ],
)  # fmt: skip
def test_all_to_whom_an_address_leads_collect_one_copy(office, smtp, recipients, expected):
    assert smtp.sendmail("a@example.org", recipients, TEXT) == {}
    assert [collected(office, name) for name in ("ann", "bob")] == expected
    assert collected(office, "carl") == 0


def test_a_refusal_has_its_own_words(smtp):
    smtp.mail("a@example.org")
    assert smtp.rcpt("left@example.net") == (550, b"5.2.1 She has left; write to bob")
    assert smtp.rcpt("nobody@example.org")[0] == 550
    assert smtp.rcpt("abuse@example.org")[0] == 250


def test_lmtp_has_a_reply_for_each_recipient(office):
    with smtplib.LMTP("127.0.0.1", office.ports["lmtp"], timeout=30) as client:
        client.ehlo("relay.example.org")
        assert client.sendmail("a@b.example", ["all@example.net", "ann@example.net"], TEXT) == {}
        assert client.getreply()[0] == 250, "the second recipient's, of which smtplib knows nothing"
    assert [collected(office, name) for name in ("ann", "bob")] == [1, 1]


def submitted(office, name, sender):
    with smtplib.SMTP("127.0.0.1", office.ports["submission"], timeout=30) as client:
        client.ehlo("pc")
        client.login(f"{name}@example.net", office.PASSWORD)
        return client.mail(sender)[0]


def test_users_send_as_what_leads_to_them(office):
    assert submitted(office, "ann", "anything@example.com") == 250
    assert submitted(office, "bob", "all@example.org") == 250
    assert submitted(office, "bob", "info@example.net") == 553
    assert submitted(office, "carl", "carl+x@example.org") == 250


def test_a_state_holds_at_once(office, smtp):
    def state(word):
        with office.directory() as directory:
            assert finish(directory.set_state("bob@example.net", word))

    state("held")
    assert submitted(office, "bob", "bob@example.net") == 550
    smtp.sendmail("a@example.org", ["bob@example.net"], TEXT)
    assert collected(office, "bob") == 1
    state("collect-only")
    smtp.mail("a@example.org")
    assert smtp.rcpt("bob@example.net")[0] == 550
    assert smtp.rcpt("info@example.net")[0] == 250
    assert collected(office, "bob") == 0
    state("receive-only")
    assert smtp.rcpt("bob@example.net")[0] == 250
    with pytest.raises(poplib.error_proto, match="AUTH"), collecting(office, "bob"):
        pass
    with pytest.raises(smtplib.SMTPAuthenticationError, match="disabled"):
        submitted(office, "bob", "bob@example.net")
    state("enabled")
    assert submitted(office, "bob", "bob@example.net") == 250


def test_the_log_tells_where_an_alias_led(office, smtp):
    smtp.sendmail("log@example.org", ["info@example.net", "null@example.net"], TEXT)
    message = office.wait_for(r"message-taken id=(\S+) .*sender=<log@example\.org>")[1]
    led = f"recipient-followed id={message} recipient=<info@example.net> to=<ann@example.net>,<bob@"
    assert led in office.said
    assert (
        f"message-discarded id={message} sender=<log@example.org> recipient=<null@" in office.said
    )
    assert [collected(office, name) for name in ("ann", "bob")] == [1, 1]
