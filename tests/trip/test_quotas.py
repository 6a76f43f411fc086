"""Maildrops that are full: at RCPT, by what MAIL declares, and when the text is there."""

from __future__ import annotations

import poplib
import smtplib

import pytest

from postoffice.model.address import Quota
from postoffice.testing import finish

CONFIGURATION = """\
hostname: mail.example.net
postmaster: postmaster@example.net
state: state
listeners:
  smtp: ["tcp:0:interface=127.0.0.1"]
  submission: []
  lmtp: ["tcp:0:interface=127.0.0.1"]
  pop3: ["tcp:0:interface=127.0.0.1"]
quota: {bytes: 20 KiB, messages: 3, warnings: []}
"""
TEXT = b"From: a@example.org\r\nSubject: x\r\n\r\nx\r\n"
LARGE = TEXT + (b"x" * 70 + b"\r\n") * 350
REJECTED, DEFERRED = (552, b"5.2.2"), (452, b"4.2.2")


@pytest.fixture(scope="module")
def office(tmp_path_factory, opened):
    """An office where a maildrop holds 20 KiB and three messages."""
    for office in opened(tmp_path_factory.mktemp("quotas"), CONFIGURATION):
        office.account("postmaster@example.net", office.PASSWORD)
        yield office


@pytest.fixture
def smtp(office):
    with smtplib.SMTP("127.0.0.1", office.smtp, timeout=30) as client:
        client.ehlo("pc")
        yield client


@pytest.fixture
def lmtp(office):
    with smtplib.LMTP("127.0.0.1", office.ports["lmtp"], timeout=30) as client:
        client.ehlo("relay.example.org")
        yield client


@pytest.fixture
def account(office):
    """Makes an account, with what is its own of a quota."""

    def account(**own):
        made = office.new_account()
        with office.directory() as directory:
            finish(directory.set_quota(made.address, Quota(**own)))
        return made

    return account


def begun(client, *accounts, size: int | None = None) -> list[tuple[int, bytes]]:
    """MAIL, which must do, and RCPT for each: what is said to these, without the words."""
    assert client.mail("a@example.org", [] if size is None else [f"SIZE={size}"])[0] == 250
    return [short(client.rcpt(one.address)) for one in accounts]


def short(said: tuple[int, bytes]) -> tuple[int, bytes]:
    code, text = said
    return code, text.split()[0]


TAKEN, WELCOME = (250, b"2.0.0"), (250, b"2.1.5")


@pytest.mark.parametrize("counter", ["smtp", "lmtp"])
def test_what_is_declared_too_large_is_refused_to_each_who_has_no_room(
    request, office, account, counter
):
    client = request.getfixturevalue(counter)
    small, later, roomy = account(), account(over="defer"), account(octets=0)
    said = begun(client, small, later, roomy, size=30_000)
    assert said == [REJECTED, DEFERRED, WELCOME]
    assert short(client.data(LARGE)) == TAKEN
    assert [len(office.collect(one)) for one in (small, later, roomy)] == [0, 0, 1]
    assert begun(client, small, later, size=100) == [WELCOME, WELCOME]
    client.rset()


@pytest.fixture
def full(account, smtp):
    """An account with as many messages as it may have."""
    full = account()
    for _ in range(3):
        assert begun(smtp, full) == [WELCOME]
        assert short(smtp.data(TEXT)) == TAKEN
    assert begun(smtp, full) == [REJECTED]
    smtp.rset()
    return full


def test_a_full_maildrop_takes_mail_again_when_some_was_collected(office, full, smtp):
    client = poplib.POP3("127.0.0.1", office.pop3, timeout=30)
    client.user(full.address)
    client.pass_(full.password)
    client.dele(1)
    assert begun(smtp, full) == [REJECTED]
    client.quit()
    assert short(smtp.rcpt(full.address)) == WELCOME
    assert short(smtp.data(TEXT)) == TAKEN
    assert begun(smtp, full) == [REJECTED]
    smtp.rset()
    assert len(office.collect(full)) == 3


def test_a_quota_that_is_changed_works_at_once(office, full, smtp):
    domain = full.address.partition("@")[2]
    assert begun(smtp, full) == [REJECTED]
    with office.directory() as directory:
        finish(directory.set_domain_quota(domain, Quota(messages=4)))
        try:
            assert short(smtp.rcpt(full.address)) == WELCOME
            finish(directory.set_quota(full.address, Quota(messages=1, over="defer")))
            smtp.rset()
            assert begun(smtp, full) == [DEFERRED]
            smtp.rset()
        finally:
            finish(directory.set_domain_quota(domain, Quota()))
    assert len(office.collect(full)) == 3, "what is there stays"


def test_a_text_that_is_too_large_when_it_is_there_is_refused_then(office, account, smtp):
    small, later = account(), account(over="defer")
    for one, code in ((small, REJECTED), (later, DEFERRED)):
        assert begun(smtp, one) == [WELCOME]
        assert short(smtp.data(LARGE)) == code
        assert office.collect(one) == []


def test_over_smtp_the_next_try_sorts_several_recipients(office, account, smtp):
    """One reply stands for all: nobody who has room is told that there is none for good."""
    small, roomy = account(), account(octets=0)
    assert begun(smtp, small, roomy) == [WELCOME, WELCOME]
    assert short(smtp.data(LARGE)) == DEFERRED
    assert office.collect(roomy) == []
    assert begun(smtp, small, roomy, size=len(LARGE)) == [REJECTED, WELCOME]
    assert short(smtp.data(LARGE)) == TAKEN
    assert [len(office.collect(one)) for one in (small, roomy)] == [0, 1]


def test_over_lmtp_each_has_an_answer_of_his_own(office, account, lmtp):
    accounts = [account(), account(octets=0), account(over="defer"), account(octets=0)]
    assert begun(lmtp, *accounts) == [WELCOME] * 4
    said = [lmtp.data(LARGE), *(lmtp.getreply() for _ in accounts[1:])]
    assert [short(one) for one in said] == [REJECTED, TAKEN, DEFERRED, TAKEN]
    assert [len(office.collect(one)) for one in accounts] == [0, 1, 0, 1]


def test_the_oldest_messages_make_room_where_that_is_settled(office, account, smtp):
    account = account(over="make-room")
    for number in range(5):
        for declared in ({}, {"size": 100}):
            assert begun(smtp, account, **declared) == [WELCOME]
            smtp.rset()
        assert begun(smtp, account) == [WELCOME]
        assert short(smtp.data(TEXT + b"number %d\r\n" % number)) == TAKEN
    kept = [text.rpartition(b"number ")[2] for text in office.collect(account)]
    assert kept[-1] == b"4\r\n"
    assert len(kept) <= 3
    assert begun(smtp, account, size=30_000) == [REJECTED], "it would not fit if it were alone"


def test_mail_to_the_postmaster_is_never_too_much(office, smtp):
    for _ in range(5):
        assert smtp.mail("a@example.org", [f"SIZE={len(LARGE)}"])[0] == 250
        assert short(smtp.docmd("RCPT TO:<Postmaster>")) == WELCOME
        assert short(smtp.data(LARGE)) == TAKEN


def test_strangers_cannot_fill_the_disk_through_the_postmaster(start, written):
    written("quota: {postmaster: 20 KiB, warnings: []}\n")
    office = start().open()
    account = office.account("postmaster@example.net", office.PASSWORD)
    with smtplib.SMTP("127.0.0.1", office.smtp, timeout=30) as client:
        client.ehlo("pc")
        for number in range(40):
            assert client.mail("a@example.org")[0] == 250
            assert short(client.docmd("RCPT TO:<Postmaster>")) == WELCOME
            assert short(client.data(b"Subject: %d\r\n\r\n" % number + b"x" * 900)) == TAKEN
    kept = [text for text in office.collect(account) if b"auto-generated" not in text]
    assert sum(map(len, kept)) <= 20 << 10
    assert b"Subject: 39\r\n" in kept[-1]
    assert 10 < len(kept) < 25


def test_an_owner_is_told_in_the_words_of_the_house(start, written, tmp_path):
    written("quota: {messages: 5, warning_text: words.txt}\n")
    (tmp_path / "words.txt").write_text("Fast voll: $percent %\n\nGuten Tag, ${address}!\n")
    office = start().open()
    account = office.new_account()
    with smtplib.SMTP("127.0.0.1", office.smtp, timeout=30) as client:
        client.ehlo("pc")
        for _ in range(4):
            assert begun(client, account) == [WELCOME]
            assert short(client.data(TEXT)) == TAKEN
    messages = office.collect(account)
    while len(messages) < 5:  # the letter comes behind the reply
        messages += office.collect(account)
    letters = [text for text in messages if b"Auto-Submitted: auto-generated" in text]
    assert [b"Fast voll: 80 %" in text for text in letters] == [True]
