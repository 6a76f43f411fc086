"""Letters to a sender: what they say to people and to programs, and who gets them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.hop import PeerReply
from postoffice.model.queued_message import QueuedMessage, QueuedRecipient
from postoffice.outbound import reports
from postoffice.outbound.reports import DELAYED, DELIVERED, EXPANDED, FAILED, RELAYED, Occasion

WHEN = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)
ORIGINAL = (
    b"Received: from a by b\r\nFrom: ann@here.example\r\nTo: bob@there.example\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@here.example>\r\n\r\nThe text.\r\n"
)
NO_USER = PeerReply(550, "5.1.1", "No such user here", "rcpt")
LATER = PeerReply(451, "4.3.0", "come again", "rcpt")
SILENT = PeerReply(0, "4.4.1", "connection refused", "connect")
OK = PeerReply(250, "2.0.0", "taken", "end")
VIA = "mx.there.example[192.0.2.1]:25"


def message(*recipients, **settings):
    recipients = tuple(
        QueuedRecipient(address=one) if isinstance(one, str) else one for one in recipients
    )
    facts = {"id": "m1", "sender": "ann@here.example", "came": WHEN.timestamp() - 60, "size": 500}
    return QueuedMessage(recipients=recipients, **facts | settings)


def occasion(**settings):
    facts = {"hostname": "post.here.example", "when": WHEN, "via": VIA, "original": ORIGINAL}
    return Occasion(**facts | settings)


def letter(kind, about, *replies, **settings):
    """The parts of a letter: its header, words, blocks of status, and third part."""
    report = reports.write(kind, about, dict(enumerate(replies)), occasion(**settings))
    parsed = message_from_bytes(report.octets, policy=policy.default)
    assert parsed.get_content_type() == "multipart/report"
    assert not parsed.defects
    assert all(len(line) <= reports.LINE for line in report.octets.split(b"\r\n"))
    assert b"\n" not in report.octets.replace(b"\r\n", b"")
    words, status, original = parsed.iter_parts()
    return parsed, words.get_content(), status.get_payload(), original


def test_a_letter_about_a_failure_is_for_people_and_for_programs():
    about = message("bob@there.example", envid="a+2Bb")
    header, words, status, original = letter(FAILED, about, NO_USER)
    assert header["From"] == "Mail Delivery System <MAILER-DAEMON@post.here.example>"
    assert header["To"] == "ann@here.example"
    assert header["Auto-Submitted"] == "auto-replied"
    assert header["References"] == header["In-Reply-To"] == "<1@here.example>"
    assert header["Message-ID"].endswith("@post.here.example>")
    assert header["Content-Type"].params["report-type"] == "delivery-status"
    assert "<bob@there.example>" in words
    assert "The server mx.there.example answered:" in words
    assert "550 5.1.1 No such user here" in words
    assert "Subject: Grüße" in words
    about_message, about_bob = status
    assert about_message.items() == [
        ("Reporting-MTA", "dns; post.here.example"),
        ("Original-Envelope-Id", "a+b"),
        ("Arrival-Date", "Sun, 29 Nov 2026 11:59:00 +0000"),
    ]
    assert about_bob.items() == [
        ("Final-Recipient", "rfc822; bob@there.example"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns; mx.there.example"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 No such user here"),
        ("Last-Attempt-Date", "Sun, 29 Nov 2026 12:00:00 +0000"),
    ]
    assert original.get_content_type() == "text/rfc822-headers"
    assert "Message-ID: <1@here.example>" in original.get_content()
    assert "The text" not in original.get_content()


def test_what_demands_tls_is_not_returned_with_its_text():
    """Nobody knows over what the letter goes (RFC 8689 §5)."""
    about = message("bob@there.example", ret="FULL")
    assert reports.returns_whole(FAILED, about)
    assert not reports.returns_whole(FAILED, replace(about, requiretls=True))


@pytest.mark.parametrize("kind", [DELAYED, FAILED])
@pytest.mark.parametrize("status", ["4.7.4", "4.7.5"])
def test_a_letter_says_that_tls_is_what_fails(kind, status):
    broken = PeerReply(0, status, "The TLS handshake failed", "tls")
    _, words, fields, _ = letter(kind, message("bob@there.example"), broken)
    assert fields[1]["Status"] == status
    assert fields[1]["Diagnostic-Code"] == f"x-postoffice; {status} The TLS handshake failed"
    assert "The TLS handshake failed" in words


def test_a_message_that_expired_was_refused_by_nobody():
    _, words, status, _ = letter(FAILED, message("bob@there.example"), SILENT)
    assert status[1]["Status"] == "4.4.7"
    assert status[1]["Diagnostic-Code"] == "x-postoffice; 4.4.1 connection refused"
    assert "Remote-MTA" not in status[1]
    assert "connection refused" in words


def test_a_letter_about_a_delay_says_until_when():
    until = WHEN.timestamp() + 86400
    _, words, status, _ = letter(DELAYED, message("bob@there.example"), LATER, until=until)
    assert status[1]["Action"] == "delayed"
    assert status[1]["Status"] == "4.3.0"
    assert status[1]["Will-Retry-Until"] == "Mon, 30 Nov 2026 12:00:00 +0000"
    assert "It is tried again until Mon, 30 Nov 2026 12:00:00 +0000." in words


@pytest.mark.parametrize("kind", [RELAYED, DELIVERED, EXPANDED])
def test_a_letter_about_success(kind):
    _, words, status, _ = letter(kind, message("bob@there.example"), OK)
    assert status[1]["Action"] == kind.action
    assert status[1]["Status"] == "2.0.0"
    assert kind.before in words
    assert ("Remote-MTA" in status[1]) == (kind is RELAYED)


def test_the_original_recipient_is_the_one_that_the_sender_named():
    bob = QueuedRecipient(address="bob@there.example", orcpt="rfc822;bob+2Bx@there.example")
    _, _, status, _ = letter(FAILED, message(bob), NO_USER)
    assert status[1]["Original-Recipient"] == "rfc822; bob+x@there.example"


def test_the_target_of_a_forward_is_hidden_with_its_server_and_words():
    bob = QueuedRecipient(
        address="secret@private.example", original="bob@here.example", forwarder="bob@here.example"
    )
    reply = PeerReply(550, "5.1.1", "secret@private.example unknown", "rcpt")
    via = "mx.private.example[192.0.2.1]:25"
    report = reports.write(FAILED, message(bob), {0: reply}, occasion(via=via))
    assert b"secret" not in report.octets
    assert b"private" not in report.octets
    assert b"Final-Recipient: rfc822; bob@here.example\r\n" in report.octets
    assert b"Status: 5.1.1\r\n" in report.octets


def test_ret_full_returns_all_of_a_short_message():
    *_, original = letter(FAILED, message("b@x.example", ret="FULL"), NO_USER)
    assert original.get_content_type() == "message/rfc822"
    assert "The text." in original.as_string()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (FAILED, {"ret": "HDRS"}),
        (FAILED, {"ret": "FULL", "size": reports.WHOLE}),
        (DELAYED, {"ret": "FULL"}),
    ],
)
def test_else_only_the_header_is_returned(kind, settings):
    *_, original = letter(kind, message("b@x.example", **settings), LATER)
    assert original.get_content_type() == "text/rfc822-headers"


def test_addresses_in_utf8_have_the_forms_of_rfc_6533():
    about = message("bücher@there.example", sender="änn@here.example", utf8=True)
    text = "Subject: Grüße\r\n\r\nHi\r\n".encode()
    report = reports.write(FAILED, about, {0: NO_USER}, occasion(original=text))
    assert report.utf8
    assert report.eight_bit
    assert b"Content-Type: message/global-delivery-status\r\n" in report.octets
    assert b"Content-Type: message/global-headers\r\n" in report.octets
    assert "Final-Recipient: utf-8; bücher@there.example\r\n".encode() in report.octets
    assert "To: <änn@here.example>\r\n".encode() in report.octets


def test_a_letter_about_plain_addresses_needs_no_smtputf8():
    reply = PeerReply(550, "5.1.1", "unbekannter Empfänger", "rcpt")
    report = reports.write(FAILED, message("b@x.example"), {0: reply}, occasion())
    assert not report.utf8
    assert rb"smtp; 550 5.1.1 unbekannter Empf\xe4nger" in report.octets


def test_many_recipients_are_named_for_programs_and_some_for_people():
    about = message(*(f"user{n}@x.example" for n in range(80)))
    _, words, status, _ = letter(FAILED, about, *[NO_USER] * 80)
    assert "and 30 more" in words
    assert len(status) == 81


@given(st.text(max_size=3000), st.text(max_size=300), st.text(max_size=300))
def test_a_hostile_peer_can_add_no_field_and_no_part(text, status, via):
    reply = PeerReply(550, status, f"\r\n\r\n--=_x\r\nX-Evil: 1\r\n{text}", "rcpt")
    header, _, blocks, _ = letter(FAILED, message("bob@there.example"), reply, via=via)
    assert "X-Evil" not in header
    assert len(blocks) == 2
    assert set(blocks[1].keys()) <= {
        "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code",
        "Last-Attempt-Date",
    }  # fmt: skip


@given(st.binary(max_size=3000))
def test_any_original_fits_into_a_letter(octets):
    original = b"X: " + octets.replace(b"\r", b"").replace(b"\n", b"\r\n ")
    report = reports.write(
        FAILED, message("b@x.example"), {0: NO_USER}, occasion(original=original)
    )
    assert all(len(line) <= reports.LINE for line in report.octets.split(b"\r\n"))


def test_a_message_id_that_is_none_is_not_referred_to():
    header, *_ = letter(
        FAILED, message("b@x.example"), NO_USER, original=b"Message-ID: <a b> c\r\n\r\n"
    )
    assert "References" not in header


@pytest.mark.parametrize(
    ("notify", "kinds"),
    [
        ("", [FAILED, DELAYED]),
        ("NEVER", []),
        ("success", [RELAYED, DELIVERED, EXPANDED]),
        ("FAILURE", [FAILED]),
        ("SUCCESS,DELAY", [DELAYED, RELAYED, DELIVERED, EXPANDED]),
    ],
)
def test_the_sender_gets_the_letters_that_notify_asks_for(notify, kinds):
    about = message(QueuedRecipient(address="bob@there.example", notify=notify))
    for kind in (FAILED, DELAYED, RELAYED, DELIVERED, EXPANDED):
        wanted = {0: NO_USER} if kind in kinds else {}
        assert reports.wanted(kind, about, {0: NO_USER}) == wanted


def test_nobody_gets_a_letter_about_a_letter():
    about = message("bob@there.example", sender="")
    assert reports.wanted(FAILED, about, {0: NO_USER}) == {}
