"""Getting in, as the rules see it: TLS, APOP, AUTH (RFC 1939 §7, 2595, 5034, 7628)."""

from __future__ import annotations

import json
from dataclasses import replace
from hmac import new as hmac

import pytest

from postoffice.model.errors import (
    TemporaryFailure,
)
from postoffice.model.listing import Listing
from postoffice.model.reply import NO_TLS_NOW
from postoffice.pop3.questions import Enter, Entered
from postoffice.protocol import sasl
from postoffice.protocol.auth_exchange import LINE_MAXIMUM
from postoffice.protocol.questions import Secure
from postoffice.protocol.sasl import (
    BearerClaim,
    PasswordClaim,
    Prove,
)
from postoffice.testing import ScramClient
from tests.pop3.guest import (
    AUTH,
    BINDINGS,
    IN,
    OPEN,
    PLAIN,
    SHARED,
    STAMP,
    STAMPED,
    TOKEN,
    WORD,
    Guest,
    by_apop,
    line,
    secured,
)

BOUND = replace(OPEN, encrypted=True, bindings=BINDINGS)
PUBLIC = replace(OPEN, passwords=False, starttls=True)

# -- AUTH -----------------------------------------------------------------------------


def test_plain():
    guest = Guest()
    assert guest.challenge(b"AUTH PLAIN") == b""
    assert guest.ask(PLAIN) == IN
    assert guest.asked == [Prove(PasswordClaim(b"joe", WORD), "PLAIN"), Enter()]
    assert guest.ask(b"STAT") == b"+OK 2 30\r\n"


def test_an_initial_response_saves_a_step():
    assert Guest().ask(b"auth plain " + PLAIN) == IN
    guest = Guest()
    assert guest.challenge(b"AUTH LOGIN " + line(b"joe")) == b"Password:"
    assert guest.ask(line(WORD)) == IN


def test_an_initial_response_of_nothing_is_an_equals_sign():
    assert Guest().ask(b"AUTH PLAIN =") == b"-ERR invalid message for this mechanism\r\n"


def test_login():
    guest = Guest()
    assert guest.challenge(b"AUTH LOGIN") == b"Username:"
    assert guest.challenge(line(b"joe")) == b"Password:"
    assert guest.ask(line(WORD)) == IN


def test_cram_md5():
    guest = Guest()
    challenge = guest.challenge(b"AUTH CRAM-MD5")
    assert challenge.endswith(b"@mail.example.net>")
    digest = hmac(SHARED, challenge, "md5").hexdigest().encode()
    assert guest.ask(line(b"joe " + digest)) == IN


@pytest.mark.parametrize("bound", [False, True])
def test_scram_opens_the_maildrop_when_its_last_word_was_heard(bound):
    guest = Guest(BOUND)
    gs2, binding = (b"p=tls-exporter,,", b"e" * 32) if bound else (b"n,,", b"")
    client = ScramClient(b"joe", WORD, b"nonce", gs2, binding)
    name = b"SCRAM-SHA-256-PLUS" if bound else b"SCRAM-SHA-256"
    challenge = guest.challenge(b"AUTH " + name + b" " + line(client.first))
    assert guest.challenge(line(client.final(challenge))) == client.verdict
    assert Enter() not in guest.asked
    assert guest.ask(b"") == IN


def test_scram_with_another_channel_is_refused_as_a_wrong_password_is():
    guest = Guest(BOUND)
    client = ScramClient(b"joe", WORD, b"nonce", b"p=tls-exporter,,", b"x" * 32)
    challenge = guest.challenge(b"AUTH SCRAM-SHA-256-PLUS " + line(client.first))
    assert guest.ask(line(client.final(challenge))) == AUTH


def test_a_token():
    guest = Guest()
    message = b"n,a=joe,\1host=mail.example.net\1port=995\1auth=Bearer a.token\1\1"
    assert guest.ask(b"AUTH OAUTHBEARER " + line(message)) == IN
    guest = Guest()
    assert guest.challenge(b"AUTH XOAUTH2") == b""
    assert guest.ask(line(b"user=joe\1auth=Bearer a.token\1\1")) == IN
    assert guest.asked[0] == Prove(BearerClaim(b"joe", TOKEN), "XOAUTH2")


@pytest.mark.parametrize("dummy", [line(b"\1"), b"", b"*", b"%"])
@pytest.mark.parametrize(
    ("mechanism", "message"),
    [("OAUTHBEARER", b"n,a=joe,\1auth=Bearer x\1\1"), ("XOAUTH2", b"user=joe\1auth=Bearer x\1\1")],
)
def test_a_token_that_is_refused_is_told_why_in_json(mechanism, message, dummy):
    guest = Guest()
    why = guest.challenge(f"AUTH {mechanism} ".encode() + line(message))
    assert json.loads(why)["status"] in ("invalid_token", "401")
    assert guest.ask(dummy) == AUTH
    assert guest.ask(b"AUTH PLAIN " + PLAIN) == IN


def test_a_token_that_nobody_can_judge_now_is_for_later():
    guest = Guest()
    guest.failures[Prove] = TemporaryFailure()
    said = guest.ask(b"AUTH XOAUTH2 " + line(b"user=joe\1auth=Bearer x\1\1"))
    assert said.startswith(b"-ERR [SYS/TEMP] ")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"*", b"-ERR the login is cancelled\r\n"),
        (b"%%%", b"-ERR that is not base64\r\n"),
        (b"AAA", b"-ERR that is not base64\r\n"),
        (b" " + PLAIN, b"-ERR that is not base64\r\n"),
        (line(b"joe"), b"-ERR invalid message for this mechanism\r\n"),
        (line(b"\0joe\0wrong"), AUTH),
        (line(b"ann\0joe\0" + WORD), AUTH),
        (b"x" * LINE_MAXIMUM, b"-ERR line too long\r\n"),
        (b"AA\r", b"-ERR a line may have a CR only at its end, before LF\r\n"),
    ],
)
def test_an_exchange_that_goes_wrong_is_over(said, why):
    guest = Guest()
    guest.challenge(b"AUTH PLAIN")
    assert guest.ask(said) == why
    assert guest.ask(PLAIN) == b"-ERR unknown command\r\n"
    assert guest.ask(b"AUTH PLAIN " + PLAIN) == IN


def test_the_longest_message_is_taken_and_no_other_line_so_long():
    guest = Guest()
    user = b"j" * (LINE_MAXIMUM // 4 * 3 - 3 - len(WORD) - 2)
    guest.challenge(b"AUTH PLAIN")
    assert guest.ask(line(b"\0%b\0%b" % (user, WORD))) == AUTH
    assert guest.ask(b"AUTH PLAIN " + line(b"\0%b\0%b" % (user[:-9], WORD))) == AUTH
    assert guest.ask(b"USER " + b"j" * 1017) == b"+OK\r\n"
    assert guest.ask(b"USER " + b"j" * 1018) == b"-ERR line too long\r\n"
    assert guest.ask(b"PASS " + b"j" * 2000) == b"-ERR line too long\r\n"


@pytest.mark.parametrize("name", [b"SCRAM-SHA-256-PLUS", b"GSSAPI", b"\xff", b"APOP", b"USER"])
def test_what_is_not_offered_is_not_to_be_had(name):
    assert Guest().ask(b"AUTH " + name).startswith(b"-ERR mechanism not offered here")


def test_old_clients_ask_for_the_mechanisms_by_auth_alone():
    """From before there was CAPA."""
    said = Guest(replace(OPEN, mechanisms=("SCRAM-SHA-256", "LOGIN"))).ask(b"AUTH")
    assert said == b"+OK\r\nSCRAM-SHA-256\r\nLOGIN\r\n.\r\n"


def test_what_is_pipelined_behind_a_login_waits_for_it():
    said = Guest().hear(b"AUTH PLAIN " + PLAIN + b"\r\nSTAT\r\nNOOP\r\n")
    assert said == IN + b"+OK 2 30\r\n+OK\r\n"


def test_commands_within_an_exchange_are_none():
    guest = Guest()
    guest.challenge(b"AUTH PLAIN")
    assert guest.ask(b"QUIT").startswith(b"-ERR ")
    assert not guest.session.closed


# -- APOP ---------------------------------------------------------------------------------


def test_the_stamp_stands_in_the_greeting_where_there_is_apop_and_only_there():
    assert Guest(STAMPED).greeting == f"+OK postoffice ready {STAMP}\r\n".encode()
    assert b"<" not in Guest().greeting


def test_apop():
    guest = Guest(STAMPED)
    assert guest.ask(by_apop()) == IN
    (prove, enter) = guest.asked
    assert (prove.claim.user, prove.mechanism, enter) == (b"joe", "APOP", Enter())
    assert Guest(STAMPED).ask(by_apop().upper().replace(b"JOE", b"joe")) == IN


def test_apop_works_on_a_link_where_passwords_are_not_taken():
    guest = Guest(replace(STAMPED, passwords=False))
    assert guest.ask(by_apop()) == IN


@pytest.mark.parametrize(
    "wrong", [by_apop("<another@stamp>"), by_apop(secret=WORD), by_apop(user=b"ann")]
)
def test_apop_with_another_stamp_secret_or_user(wrong):
    assert Guest(STAMPED).ask(wrong) == AUTH


@pytest.mark.parametrize("rest", [b"", b" joe", b" joe x", b" " + b"a" * 32, b" joe " + b"g" * 32])
def test_apop_without_a_name_and_a_digest(rest):
    guest = Guest(STAMPED)
    assert guest.ask(b"APOP" + rest) == b"-ERR APOP has a name and a digest\r\n"
    assert not guest.asked


def test_there_is_no_apop_without_a_stamp():
    assert Guest().ask(by_apop()).startswith(b"-ERR there is no APOP here")


def test_tls_begins_and_passwords_are_taken():
    guest = Guest(PUBLIC)
    assert guest.capabilities()[:3] == ["TOP", "UIDL", "STLS"]
    assert guest.ask(b"USER joe").startswith(b"-ERR [SYS/PERM] ")
    secured(guest)
    assert guest.hear(b"") == b"", "no second greeting"
    offered = " ".join(("SASL", "SCRAM-SHA-256-PLUS", *sasl.MECHANISMS))
    assert guest.capabilities()[:5] == ["TOP", "UIDL", "USER", offered, "PIPELINING"]
    assert guest.ask(b"STLS") == b"-ERR TLS has begun already\r\n"
    assert guest.ask(b"AUTH PLAIN " + PLAIN) == IN


def test_the_user_is_forgotten_when_tls_begins():
    guest = Guest(replace(OPEN, starttls=True))
    assert guest.ask(b"USER joe") == b"+OK\r\n"
    secured(guest)
    assert guest.ask(b"PASS " + WORD) == b"-ERR USER first\r\n"


@pytest.mark.parametrize("behind", [b"U", b"NOOP\r\n", b"USER joe\r\nPASS x\r\n", b"\x16\x03\x01"])
def test_octets_behind_stls_end_the_session_and_are_not_looked_at(behind):
    guest = Guest(PUBLIC)
    said = guest.hear(b"STLS\r\n" + behind)
    assert said == b"-ERR no command may follow STLS before TLS has begun\r\n"
    assert guest.session.closed
    assert guest.session.injected
    assert not guest.session.upgrading
    assert not guest.asked


def test_so_do_octets_that_come_in_clear_before_tls_has_begun():
    guest = Guest(PUBLIC)
    assert guest.ask(b"STLS") == b"+OK begin TLS\r\n"
    guest.hear(b"NOOP\r\n")
    assert guest.session.closed
    assert guest.session.injected


def test_tls_that_cannot_begin_now_is_for_later():
    guest = Guest(PUBLIC)
    guest.failures[Secure] = TemporaryFailure(reply=NO_TLS_NOW)
    assert guest.ask(b"STLS").startswith(b"-ERR [SYS/TEMP] ")
    assert not guest.session.upgrading


def test_there_is_no_tls_without_a_certificate():
    assert Guest().ask(b"STLS") == b"-ERR there is no TLS here\r\n"
    assert "STLS" not in Guest().capabilities()
    assert Guest(PUBLIC).ask(b"STLS now").startswith(b"-ERR ")


def test_nobody_begins_tls_or_logs_in_after_login():
    guest = Guest(replace(STAMPED, starttls=True))
    guest.ask(b"AUTH PLAIN " + PLAIN)
    for command in (b"STLS", b"AUTH", b"AUTH PLAIN", by_apop(), b"USER joe", b"PASS x"):
        assert guest.ask(command) == b"-ERR not in this state\r\n"


# -- what is offered, and where -------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "offered"),
    [
        (OPEN, ["USER", " ".join(("SASL", *sasl.MECHANISMS))]),
        (replace(OPEN, mechanisms=("PLAIN",)), ["USER", "SASL PLAIN"]),
        (replace(OPEN, mechanisms=("SCRAM-SHA-256",)), ["SASL SCRAM-SHA-256"]),
        (replace(BOUND, mechanisms=("SCRAM-SHA-256",)), ["SASL SCRAM-SHA-256-PLUS SCRAM-SHA-256"]),
        (replace(OPEN, mechanisms=()), []),
        (replace(OPEN, starttls=True), ["USER", " ".join(("SASL", *sasl.MECHANISMS)), "STLS"]),
        (PUBLIC, ["STLS"]),
    ],
)
def test_only_tls_and_policy_change_user_sasl_and_stls(options, offered):
    ours = [one for one in Guest(options).capabilities() if one[:4] in ("USER", "SASL", "STLS")]
    assert ours == offered


def test_stls_alone_is_of_one_state():
    guest = Guest(replace(OPEN, starttls=True))
    before = guest.capabilities()
    guest.ask(b"AUTH PLAIN " + PLAIN)
    assert guest.capabilities() == [one for one in before if one != "STLS"]


def test_what_accounts_differ_in_is_their_own_after_login():
    guest = Guest(replace(OPEN, expire="7 USER", login_delay="60 USER"))
    guest.failures[Enter] = Entered(Listing(()), replace(OPEN, expire="0", login_delay="900"))
    before = guest.capabilities()
    assert {"EXPIRE 7 USER", "LOGIN-DELAY 60 USER"} < set(before)
    guest.ask(b"AUTH PLAIN " + PLAIN)
    assert {"EXPIRE 0", "LOGIN-DELAY 900"} < set(guest.capabilities())


def test_passwords_are_for_listeners_that_offer_a_mechanism_of_them():
    guest = Guest(replace(OPEN, mechanisms=("SCRAM-SHA-256", "CRAM-MD5")))
    assert (
        guest.ask(b"USER joe") == b"-ERR [SYS/PERM] passwords are not accepted here; use AUTH\r\n"
    )
    assert guest.ask(b"PASS x").startswith(b"-ERR [SYS/PERM] ")
    guest = Guest(replace(STAMPED, mechanisms=()))
    assert (
        guest.ask(b"USER joe") == b"-ERR [SYS/PERM] passwords are not accepted here; use APOP\r\n"
    )


@pytest.mark.parametrize("command", [b"USER joe", b"PASS x", b"AUTH PLAIN", b"AUTH"])
def test_on_a_link_that_others_hear_nobody_logs_in(command):
    for options, hint in ((PUBLIC, b"say STLS first"), (replace(PUBLIC, starttls=False), b"only")):
        guest = Guest(options)
        said = guest.ask(command)
        assert said.startswith(b"-ERR [SYS/PERM] ")
        assert said.endswith(hint + b"\r\n")
        assert not guest.asked
