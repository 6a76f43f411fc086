"""The terms of a dialogue: what EHLO offers, and what the Received field calls it."""

from __future__ import annotations

import pytest

from postoffice.smtp.options import SMTPLimits, SMTPOptions

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


@pytest.mark.parametrize(("word", "options", "message"), WORDS)
def test_the_word_for_the_received_field(word, options, message):
    message = {"extended": True, "utf8": False, "login": False} | message
    assert SMTPOptions("mx", **options).protocol(**message) == word


@pytest.mark.parametrize(
    ("recipients", "told"), [(100, 100), (999_999, 999_999), (1_000_000, 999_999)]
)
def test_limits_has_room_for_six_digits(recipients, told):
    keywords = list(SMTPOptions("mx").keywords(SMTPLimits(recipients=recipients)))
    assert f"LIMITS RCPTMAX={told}" in keywords
