"""The terms of a dialogue: what EHLO offers, and what the Received field calls it."""

from __future__ import annotations

import pytest

from postoffice.smtp.terms import SMTPLimits, Terms

WORDS = [
    ("SMTP", {}, {"extended": False}),
    ("SMTP", {"encrypted": True}, {"extended": False}),
    ("ESMTP", {}, {}),
    ("ESMTPS", {"encrypted": True}, {}),
    ("ESMTPA", {}, {"login": True}),
    ("ESMTPSA", {"encrypted": True}, {"login": True}),
    ("UTF8SMTP", {}, {"utf8": True}),
    ("UTF8SMTPS", {"encrypted": True}, {"utf8": True}),
    ("UTF8SMTPA", {}, {"utf8": True, "login": True}),
    ("UTF8SMTPSA", {"encrypted": True}, {"utf8": True, "login": True}),
    ("LMTP", {"lmtp": True}, {}),
    ("LMTPS", {"lmtp": True, "encrypted": True}, {}),
    ("UTF8LMTP", {"lmtp": True}, {"utf8": True}),
    ("UTF8LMTPS", {"lmtp": True, "encrypted": True}, {"utf8": True}),
]


@pytest.mark.parametrize(("word", "terms", "message"), WORDS)
def test_the_word_for_the_received_field(word, terms, message):
    message = {"extended": True, "utf8": False, "login": False} | message
    assert Terms("mx", **terms).protocol(**message) == word


@pytest.mark.parametrize(
    ("recipients", "told"), [(100, 100), (999_999, 999_999), (1_000_000, 999_999)]
)
def test_limits_has_room_for_six_digits(recipients, told):
    keywords = list(Terms("mx").keywords(SMTPLimits(recipients=recipients)))
    assert f"LIMITS RCPTMAX={told}" in keywords


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
def test_requiretls_is_offered_in_private_only(lmtp):
    assert "REQUIRETLS" not in list(Terms("mx", lmtp=lmtp, starttls=True).keywords(SMTPLimits()))
    assert "REQUIRETLS" in list(Terms("mx", lmtp=lmtp, encrypted=True).keywords(SMTPLimits()))


@pytest.mark.parametrize(
    ("said", "encrypted", "told"),
    [
        (b"REQUIRETLS", True, "250 2.1.0"),
        (b"SIZE=100 requiretls", True, "250 2.1.0"),
        (b"REQUIRETLS=yes", True, "501 5.5.4"),
        (b"REQUIRETLS REQUIRETLS", True, "501 5.5.4"),
        (b"REQUIRETLS", False, "555 5.5.4"),
    ],
)
def test_requiretls_has_no_value_and_is_unknown_in_clear(office, said, encrypted, told):
    client = office.greeted(encrypted=encrypted)
    assert client.told(b"MAIL FROM:<a@example.org> " + said + b"\r\n") == [told]


@pytest.mark.parametrize("asked", ["RET=HDRS", "ENVID=x", "RET=FULL ENVID=x"])
def test_notices_are_not_promised(office, asked):
    """DSN (RFC 3461) waits for a relay that sends them."""
    client = office.greeted(encrypted=True)
    assert client.told(b"MAIL FROM:<a@example.org> %b\r\n" % asked.encode()) == ["555 5.5.4"]
    assert client.told(b"MAIL FROM:<a@example.org>\r\n") == ["250 2.1.0"]
    assert client.told(b"RCPT TO:<b@example.net> NOTIFY=NEVER\r\n") == ["555 5.5.4"]
    assert client.told(b"RCPT TO:<b@example.net> ORCPT=rfc822;b\r\n") == ["555 5.5.4"]
