"""What was refused, and no secrets of it."""

from __future__ import annotations

import pytest

from postoffice.protocol.refusals import MOST, Refusals

KNOWN = ("MAIL", "RCPT", "AUTH", "USER", "PASS", "APOP", "RETR", "NOOP")


def heard(*lines: bytes) -> list[str]:
    refusals = Refusals(KNOWN)
    for line in lines:
        refusals.hear(line)
        refusals.add("500 no")
    return [one.command for one in refusals.take()]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"MAIL FROM:<a@example.org>", "MAIL FROM:<a@example.org>"),
        (b"rcpt TO:<\xff@x>", "RCPT TO:<\\xff@x>"),
        (b"AUTH PLAIN AGpvZQBodW50ZXIy", "AUTH PLAIN"),
        (b"auth scram-sha-256 x", "AUTH SCRAM-SHA-256"),
        (b"AUTH hunter2", "AUTH"),
        (b"AUTH hunter2 PLAIN", "AUTH"),
        (b"PASS hunter2", "PASS"),
        (b"pass hunter2 and more", "PASS"),
        (b"APOP joe hunter2", "APOP"),
        (b"GET /hunter2 HTTP/1.1", "GET"),
        (b"PASS=hunter2", "PASS"),
        (b"PASShunter", "PASS"),
        (b"AUTH\tPLAIN\thunter2", "AUTH"),
        (b" PASS hunter2", "PASS"),
        (b"\x16\x03\x01\x02hunter2", "(11 octets)"),
        (b"", ""),
    ],
)
def test_a_command_is_told_without_its_secrets(line, said):
    assert heard(line) == [said]


@pytest.mark.parametrize("login", [b"AUTH LOGIN", b"USER joe", b"PASS", b"APOP x"])
def test_behind_a_login_an_unknown_line_may_be_its_password(login):
    assert heard(login, b"hunter2", b"aHVudGVyMg==", b"NOOP x")[1:] == [
        "(7 octets)",
        "(12 octets)",
        "NOOP x",
    ]


def test_no_more_than_some_are_told_and_all_are_counted():
    refusals = Refusals(KNOWN)
    for _ in range(MOST + 7):
        refusals.add("550 no")
    assert len(refusals.take()) == MOST
    assert refusals.count == MOST + 7
    assert refusals.take() == []
