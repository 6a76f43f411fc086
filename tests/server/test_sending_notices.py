"""The owner of an account that is stopped, and the postmaster, are told by mail."""

from __future__ import annotations

import email
from email.policy import default

import pytest
from twisted.logger import capturedLogs

from postoffice.model.address import Address, Quota
from postoffice.model.hop import PeerReply
from postoffice.outbound.sending_notice import HELD, OVER
from postoffice.server.sending_notices import SendingNotices
from postoffice.testing import finish

JOE, ANN, POSTMASTER = (f"{name}@example.net" for name in ("joe", "ann", "postmaster"))
FACTS = {"limit": "200 recipients in an hour", "device": "", "recipients": "7", "outcome": "held"}


@pytest.fixture
def notices(memory_office):
    made = SendingNotices(memory_office.reception_context)
    yield made
    finish(made.finished())


def mail(office, name):
    """What is in a maildrop."""
    drop = office.store.maildrop(name)
    listing = finish(drop.open())
    texts = [finish(finish(drop.fetch(entry)).read()) for entry in listing.entries]
    drop.release()
    return [email.message_from_bytes(text, policy=default) for text in texts]


def test_both_get_the_same_message(memory_office, notices):
    finish(memory_office.directory.set_quota(JOE, Quota(octets=1)))
    notices.tell(JOE, OVER, FACTS | {"device": "phone"})
    (ours,), (theirs,) = mail(memory_office, JOE), mail(memory_office, POSTMASTER)
    assert ours["message-id"] == theirs["message-id"]
    assert (ours["to"], ours["cc"], ours["from"]) == (
        JOE,
        POSTMASTER,
        f"Post office <{POSTMASTER}>",
    )
    assert (ours["return-path"], ours["auto-submitted"]) == ("<>", "auto-generated")
    assert ours["subject"] == "You have reached a limit for sending mail"
    words = " ".join(ours.get_content().split())
    assert (
        "reached the limit of 200 recipients in an hour in other domains, with a message" in words
    )
    assert "to 7 recipients sent by the device 'phone'. What is over the limit is accepted" in words
    assert f"write to {POSTMASTER}" in words


@pytest.mark.parametrize(
    ("kind", "facts", "words"),
    [
        (OVER, FACTS | {"outcome": "refused"}, "What is over the limit is refused"),
        (HELD, {"why": "9 of 30 recipients in an hour were refused"}, "9 of 30 recipients in an"),
    ],
)
def test_what_the_notice_says(memory_office, notices, kind, facts, words):
    notices.tell(JOE, kind, facts)
    (ours,) = mail(memory_office, JOE)
    said = " ".join(ours.get_content().split())
    assert words in said
    assert "$" not in said


def test_the_postmaster_is_told_once(memory_office, notices):
    notices.tell(POSTMASTER, HELD, {"why": "x"})
    (ours,) = mail(memory_office, POSTMASTER)
    assert ours["cc"] is None


def test_an_owner_whose_mail_goes_elsewhere_is_told_in_the_own_maildrop(memory_office, notices):
    far = (Address.parse("far@elsewhere.example"),)
    finish(memory_office.directory.set_forward(JOE, far, keep_copy=False))
    finish(memory_office.directory.set_forward(ANN, (Address.parse(JOE),), keep_copy=False))
    notices.tell(JOE, HELD, {"why": "x"})
    notices.tell(ANN, HELD, {"why": "x"})
    assert [len(mail(memory_office, name)) for name in (JOE, ANN, POSTMASTER)] == [1, 1, 2]


def test_an_unknown_account_gets_no_notice(memory_office, notices):
    notices.tell("gone@example.net", HELD, {"why": "x"})
    assert len(mail(memory_office, POSTMASTER)) == 1
    finish(memory_office.directory.remove(POSTMASTER))
    with capturedLogs() as logged:
        notices.tell("gone@example.net", HELD, {"why": "x"})
    assert any("a notice to" in str(one.get("log_format")) for one in logged)


def test_the_postmaster_is_told_of_a_refused_login_once_a_day(memory_office):
    now = [0.0]
    notices = SendingNotices(memory_office.reception_context, lambda: now[0])
    wrong = PeerReply(535, "5.7.8", "Wrong password", "auth")
    with capturedLogs() as logged:
        for now[0] in (0.0, 100.0, 86_500.0):
            notices.login_refused("provider", wrong)
    first, second = mail(memory_office, POSTMASTER)
    assert first["subject"] == "The smarthost provider refuses our login"
    assert (first["to"], first["cc"], first["return-path"]) == (POSTMASTER, None, "<>")
    assert "535 5.7.8 Wrong password" in first.get_content()
    assert first["message-id"] != second["message-id"]
    lines = [one["line"] for one in logged if one.get("event") == "smarthost-login-refused"]
    assert lines == ['smarthost-login-refused to=provider reply="535 5.7.8 Wrong password"'] * 3
    assert mail(memory_office, JOE) == []
