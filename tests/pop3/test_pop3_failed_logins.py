"""Logins that fail: what the client hears, and when it is disconnected."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.errors import (
    LoginRefused,
    LoginTooSoon,
    MaildropLocked,
    PermanentFailure,
    TemporaryFailure,
    TooManyTries,
)
from postoffice.model.reply import Reply
from postoffice.pop3.options import POP3Limits
from postoffice.pop3.questions import Enter
from postoffice.protocol.sasl import (
    Prove,
)
from postoffice.testing import cut
from tests.pop3.guest import AUTH, IN, OPEN, PLAIN, STAMPED, WORD, Guest, by_apop, line, secured

# -- response codes ----------------------------------------------------------------------------
HOWS = {
    "USER": [b"USER joe", b"PASS secret word"],
    "APOP": [by_apop()],
    "AUTH": [b"AUTH PLAIN " + PLAIN],
    "XOAUTH2": [b"AUTH XOAUTH2 " + line(b"user=joe\1auth=Bearer a.token\1\1")],
}
LATER, NEVER = TemporaryFailure(), PermanentFailure("", Reply(550, "5.2.1", "It is closed"))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    ("question", "failure", "code"),
    [
        (Prove, LATER, b"[SYS/TEMP]"),
        (Prove, NEVER, b"[SYS/PERM]"),
        (Enter, MaildropLocked(), b"[IN-USE]"),
        (Enter, LoginTooSoon(), b"[LOGIN-DELAY]"),
        (Enter, LATER, b"[SYS/TEMP]"),
        (Enter, NEVER, b"[SYS/PERM]"),
        (Enter, LoginRefused(), b"[AUTH]"),
    ],
)
def test_why_nobody_got_in_has_its_code_however_it_was_tried(how, question, failure, code):
    guest = Guest(STAMPED)
    guest.failures[question] = failure
    for command in HOWS[how]:
        said = guest.ask(command)
    assert said.startswith(b"-ERR " + code + b" ")
    assert said.endswith(b"\r\n")
    assert guest.ask(b"STAT") == b"-ERR not in this state\r\n"
    guest.failures.clear()
    for command in HOWS[how]:
        said = guest.ask(command)
    assert said == IN, "and it may be tried again"


def test_too_many_wrong_passwords_are_told_in_the_clients_language():
    guest = Guest(OPEN)
    guest.failures[Prove] = TooManyTries()
    guest.ask(b"USER joe")
    assert b"[SYS/TEMP] too many wrong passwords lately" in guest.ask(b"PASS x")
    guest.ask(b"LANG de")
    guest.ask(b"USER joe")
    assert "[SYS/TEMP] zu viele falsche Passwörter".encode() in guest.ask(b"PASS x")


WRONG = {
    "USER": [b"USER joe", b"PASS x"],
    "APOP": [by_apop(secret=b"x")],
    "PLAIN": [b"AUTH PLAIN " + line(b"\0joe\0x")],
    "XOAUTH2": [b"AUTH XOAUTH2 " + line(b"user=joe\1auth=Bearer x\1\1"), b"*"],
    "in turn": [b"USER joe", b"PASS x", by_apop(secret=b"x"), b"AUTH PLAIN " + line(b"\0a\0b")],
}


@pytest.mark.parametrize("how", WRONG)
def test_a_client_that_guesses_passwords_is_disconnected(how):
    guest = Guest(STAMPED, POP3Limits(logins=3))
    said = b""
    while not guest.session.closed:
        for command in WRONG[how]:
            said += guest.ask(command)
    assert said.count(b"-ERR [AUTH]") == 3
    assert said.endswith(AUTH)


def test_guesses_count_across_the_handshake():
    guest = Guest(replace(OPEN, starttls=True), POP3Limits(logins=2))
    guest.ask(b"AUTH PLAIN " + line(b"\0joe\0x"))
    assert secured(guest).ask(b"AUTH PLAIN " + line(b"\0joe\0x")) == AUTH
    assert guest.session.closed


def test_what_failed_for_now_does_not_count():
    guest = Guest(STAMPED, POP3Limits(logins=2))
    guest.failures[Enter] = MaildropLocked()
    for _ in range(5):
        assert b"[IN-USE]" in guest.ask(b"AUTH PLAIN " + PLAIN)


def test_broken_exchanges_are_errors():
    guest = Guest(OPEN, POP3Limits(errors=3))
    said = guest.hear(b"AUTH PLAIN\r\n*\r\n" * 5)
    assert said.endswith(b"-ERR too many errors\r\n")
    assert guest.session.closed


# -- any octets --------------------------------------------------------------------------------
LINES = st.sampled_from(
    [*(command for how in (HOWS, WRONG) for commands in how.values() for command in commands),
     b"AUTH PLAIN", b"AUTH LOGIN", b"AUTH CRAM-MD5", b"AUTH SCRAM-SHA-256", b"AUTH SCRAM-SHA-256 ",
     b"AUTH", b"*", b"", PLAIN, line(b"joe"), line(WORD), line(b"n,,n=joe,r=x"), b"CAPA", b"QUIT",
     b"STAT", b"\xff", b"AUTH OAUTHBEARER", b"AUTH XOAUTH2 =", b"x" * 1100]
)  # fmt: skip


@given(st.lists(LINES, max_size=12), st.lists(st.integers(0, 1000), max_size=10))
def test_any_attempts_cut_anywhere_get_the_same_answers(lines, cuts):
    octets = b"".join(one + b"\r\n" for one in lines)
    one, two = Guest(STAMPED), Guest(STAMPED)
    whole = one.hear(octets)
    pieces = b"".join(map(two.hear, cut(octets, cuts)))
    nonce = re.compile(rb"^\+ \S{20,}", re.MULTILINE)  # challenges are drawn by lot
    assert nonce.sub(b"", whole) == nonce.sub(b"", pieces)
    assert [type(q) for q in one.asked] == [type(q) for q in two.asked]
    assert one.session.state == two.session.state
