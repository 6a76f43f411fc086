"""The log alone tells which message came, which was refused and why, and what became of it."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

import pytest
from twisted.logger import globalLogPublisher

from postoffice.accounts.app_passwords import AppPasswordToken
from postoffice.daemon.log_json import json_of
from postoffice.model import log_event
from postoffice.model.app_password import AppPassword
from postoffice.model.log_events import EVENTS
from postoffice.server.listener_options import ListenerOptions
from postoffice.server.smtp_service import ServiceProfile
from postoffice.testing import finish

DOCS = Path(__file__).parent.parent / "docs"
TEXT = b"Message-ID: <1@example.org>\r\nSubject: hidden words\r\n\r\nhello\r\n"
PLAIN = b"AUTH PLAIN " + b64encode(b"\0joe@example.net\0secret word") + b"\r\n"


def envelope(*recipients: bytes, sender: bytes = b"ann@example.org") -> bytes:
    to = b"".join(b"RCPT TO:<%s>\r\n" % one for one in recipients)
    return b"EHLO pc.example.org\r\nMAIL FROM:<%s>\r\n%sDATA\r\n" % (sender, to)


def of(logged, name):
    """The lines of an event."""
    return [line for line in logged if line.split(" ")[0] == name]


@pytest.fixture
def client(memory_office):
    return memory_office.client("smtp", "192.0.2.1")


def test_a_message_that_is_taken_is_told_with_all_there_is(client, memory_office, logged):
    client.say(envelope(b"joe@example.net", b"ann@example.net"))
    client.say(TEXT + b".\r\n")
    [line] = of(logged, "message-taken")
    [uidl] = memory_office.store.drop("joe@example.net").texts
    assert line == (
        f"message-taken id={client.connection.id}.1 service=smtp client=192.0.2.1 "
        "sender=<ann@example.org> recipients=2 to=<joe@example.net>,<ann@example.net> "
        f"message_id=<1@example.org> size={len(TEXT)} uidl={uidl} helo=pc.example.org"
    )
    assert not any("hidden" in line for line in logged)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"message-id:<a@b>\r\n", "message_id=<a@b> "),
        (b"X: y\r\nMESSAGE-ID : <a@b> (comment)\r\n", "message_id=<a@b> "),
        (b"Message-ID:\r\n\t<a@b>\r\n", "message_id=<a@b> "),
        (b"Message-ID: \xff<a\x1b>\r\n", 'message_id="\\\\xff<a\\x1b>" '),
        (b"Message-ID:\r\nTo: x\r\n", "size="),
        (b"Message-IDs: <a@b>\r\n", "size="),
        (b"Subject: message-id: <a@b>\r\n", "size="),
        (b"Subject: x\r\n\r\nMessage-ID: <a@b>\r\n", "size="),
        (b"X-Message-ID: <a@b>\r\n", "size="),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_the_message_id_is_the_headers(client, logged, head, said, piece):
    client.say(envelope(b"joe@example.net"))
    octets = head + b"\r\nhello\r\n.\r\n"
    for at in range(0, len(octets), piece):
        client.say(octets[at : at + piece])
    [line] = of(logged, "message-taken")
    assert f"to=<joe@example.net> {said}" in line


@pytest.mark.parametrize("length", [5, 60])
def test_each_of_many_recipients_is_told_in_short_lines(memory_office, logged, length):
    names = [f"{n:0{length}d}@example.net" for n in range(90)]
    for name in names:
        finish(memory_office.directory.add(name, None))
    client = memory_office.client("smtp")
    client.say(envelope(*(name.encode() for name in names)) + TEXT + b".\r\n")
    [first] = of(logged, "message-taken")
    others = of(logged, "message-taken-for")
    assert " recipients=90 " in first
    told = [re.search(r" to=(\S+)", line) for line in (first, *others)]
    assert ",".join(found[1] for found in told if found) == ",".join(f"<{n}>" for n in names)
    assert all(f" id={client.connection.id}.1 " in line for line in others)
    assert max(len(line.encode()) for line in logged) <= log_event.LINE


REFUSED = [
    (b"MAIL TO:<a@x>\r\n", 'command="MAIL TO:<a@x>" reply="5'),
    (
        b"MAIL FROM:<a@example.org>\r\nRCPT TO:<nobody@example.net>\r\n",
        "sender=<a@example.org> recipient=<nobody@example.net> helo=pc.example.org "
        'command="RCPT TO:<nobody@example.net>" reply="550 5.1.1 ',
    ),
    (
        b"MAIL FROM:<>\r\nRCPT TO:<joe@example.org>\r\n",
        "sender=<> recipient=<joe@example.org> helo=pc.example.org "
        'command="RCPT TO:<joe@example.org>" reply="550 5.7.1 ',
    ),
    (
        b"MAIL FROM:<a@example.org> SIZE=99999999999\r\n",
        "sender=<a@example.org> helo=pc.example.org "
        'command="MAIL FROM:<a@example.org> SIZE=99999999999" reply="552 5.3.4 ',
    ),
    (b"MAIL FROM:a@example.org SIZE=99999999999\r\n", "sender=a@example.org helo="),
    (b"FROB x\r\n", 'helo=pc.example.org command=FROB reply="500 5.5.1 '),
    (b"\x16\x03\x01\r\n", 'helo=pc.example.org reply="554 5.5.1 '),
    (b"NOOP\nQUIT\r\n", 'helo=pc.example.org reply="500 5.5.2 '),
    (b"RCPT TO:<joe@example.net>\r\n", "recipient=<joe@example.net> helo=pc.example.org command="),
    (b"x" * 20_000 + b"\r\n", 'helo=pc.example.org reply="500 5.5.2 Line too long"'),
    (
        b"MAIL FROM:<a@example.org>\r\nRCPT TO:<joe@example.net>\r\nDATA\r\nbare\rCR\r\n.\r\n",
        "sender=<a@example.org> recipients=1 to=<joe@example.net> helo=pc.example.org "
        'command=DATA reply="550 5.6.11 ',
    ),
]


@pytest.mark.parametrize(("said", "told"), REFUSED)
def test_each_refusal_is_a_line(client, logged, said, told):
    client.say(b"EHLO pc.example.org\r\n" + said)
    [line] = of(logged, "refused")
    assert " service=smtp client=192.0.2.1 " in line
    assert told in line


def test_a_refusal_behind_a_message_is_not_of_that_message(client, logged):
    client.say(envelope(b"joe@example.net") + TEXT + b".\r\nFROB\r\nDATA\r\n")
    client.say(envelope(b"joe@example.net")[:-6] + b"RSET\r\nDATA\r\n")
    assert len(of(logged, "refused")) == 3
    assert not any("sender=" in line for line in of(logged, "refused"))


def test_a_session_ends_with_what_it_did(client, logged):
    client.say(envelope(b"joe@example.net") + TEXT + b".\r\nFROB\r\nQUIT\r\n")
    client.leave()
    [line] = of(logged, "session-ended")
    assert line == (
        f"session-ended id={client.connection.id} service=smtp client=192.0.2.1 "
        "helo=pc.example.org taken=1 refused=1"
    )


@pytest.fixture
def submission(memory_office):
    factory = memory_office.smtp
    factory.profile = ServiceProfile(submission=True, mechanisms=("PLAIN",))
    factory.listener_options = ListenerOptions("submission")
    return memory_office


def test_a_submission_says_who_sent_it_and_the_message_id_that_it_got(submission, logged):
    client = submission.client("smtp")
    client.say(b"EHLO pc\r\n" + PLAIN)
    client.say(envelope(b"joe@example.net", sender=b"joe@example.net") + b"Subject: x\r\n\r\n.\r\n")
    [line] = of(logged, "message-taken")
    assert " account=joe@example.net " in line
    [text] = submission.store.drop("joe@example.net").texts.values()
    [message_id] = re.findall(rb"Message-ID: (\S+)", text)
    assert f" message_id={message_id.decode()} " in line


@pytest.mark.parametrize(
    ("said", "command", "reply"),
    [
        (b"AUTH PLAIN hunter2!\r\n", '"AUTH PLAIN"', "501 5.5.2 "),
        (b"AUTH PLAIN aHVudGVyMg==\r\n", '"AUTH PLAIN"', "501 5.5.2 "),
        (b"AUTH hunter2\r\n", "AUTH", "504 5.5.4 "),
        (b"AUTH PLAIN\r\n*\r\n", '"AUTH PLAIN"', "501 5.7.0 "),
        (PLAIN.replace(b"AGpv", b"AGFu"), '"AUTH PLAIN"', "535 5.7.8 "),
    ],
)
def test_a_login_that_fails_says_how_and_no_secret(submission, logged, said, command, reply):
    client = submission.client("smtp")
    client.say(b"EHLO pc\r\n" + said)
    client.say(b"aHVudGVyMg==\r\nhunter2\r\n")
    line = of(logged, "refused")[0]
    assert f' command={command} reply="{reply}' in line
    assert not any(word in line for line in logged for word in ("hunter2", "aHVudG"))


PHONE = AppPasswordToken.read("k3hxqt-8acdfw-9pnrt4-yjhm7e")


@pytest.fixture
def phone(memory_office):
    """Joe has a telephone; what it says for PLAIN."""
    device = AppPassword("Joe's phone", PHONE.id, PHONE.digest)
    assert finish(memory_office.directory.add_app_password("joe@example.net", device))
    return b64encode(b"\0joe@example.net\0" + PHONE.text.encode())


def test_a_message_and_a_session_say_of_which_device(submission, phone, logged):
    client = submission.client("smtp")
    client.say(b"EHLO pc\r\nAUTH PLAIN " + phone + b"\r\n")
    client.say(envelope(b"joe@example.net", sender=b"joe@example.net") + TEXT + b".\r\n")
    client.leave()
    collecting = submission.client("pop3")
    collecting.say(b"AUTH PLAIN " + phone + b"\r\nDELE 1\r\nQUIT\r\n")
    collecting.leave()
    who = ' client=127.0.0.1 account=joe@example.net device="Joe\'s phone" '
    for name in ("login", "message-taken", "message-deleted", "session-ended"):
        assert of(logged, name)
        assert all(who in line for line in of(logged, name))
    assert len(of(logged, "login")) == len(of(logged, "session-ended")) == 2
    assert PHONE.text not in "\n".join(logged)


# -- POP3 ---------------------------------------------------------------------


@pytest.fixture
def collected(memory_office):
    poster = memory_office.client("smtp")
    for _ in range(3):
        poster.say(envelope(b"joe@example.net") + TEXT + b".\r\n")
    return memory_office


LOGIN = b"USER joe@example.net\r\nPASS secret word\r\n"


def test_a_session_tells_what_it_collected_and_deleted(collected, logged):
    client = collected.client("pop3")
    first, _, third = collected.store.drop("joe@example.net").texts
    client.say(LOGIN + b"RETR 1\r\nDELE 1\r\nDELE 3\r\nQUIT\r\n")
    client.leave()
    who = f"id={client.connection.id} service=pop3 client=127.0.0.1 account=joe@example.net"
    assert of(logged, "login") == [f"login {who} mechanism=USER"]
    assert of(logged, "message-deleted") == [
        f"message-deleted {who} uidl={uidl}" for uidl in (first, third)
    ]
    assert of(logged, "session-ended") == [f"session-ended {who} retrieved=1 deleted=2 refused=0"]


def test_a_session_without_quit_deletes_nothing(collected, logged):
    client = collected.client("pop3")
    client.say(LOGIN + b"DELE 1\r\n")
    client.leave()
    assert of(logged, "message-deleted") == []
    assert " deleted=0 " in of(logged, "session-ended")[0]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"PASS hunter2\r\n", 'command=PASS reply="-ERR '),
        (b"USER joe@example.net\r\nPASS hunter2\r\n", 'command=PASS reply="-ERR [AUTH] '),
        (b"APOP joe hunter2\r\n", 'command=APOP reply="-ERR '),
        (b"AUTH hunter2\r\n", 'command=AUTH reply="-ERR '),
        (LOGIN + b"RETR 99\r\n", 'account=joe@example.net command="RETR 99" reply="-ERR '),
        (LOGIN + b"hunter2\r\n", 'account=joe@example.net command="(7 octets)" reply="-ERR '),
        (b"LANG de\r\n" + LOGIN + b"FROB\r\n", 'command="(4 octets)" reply="-ERR unknown'),
    ],
)
def test_each_err_is_a_line_without_secrets(collected, logged, said, told):
    client = collected.client("pop3")
    client.say(said)
    [line] = of(logged, "refused")
    assert line.startswith(f"refused id={client.connection.id} service=pop3 client=127.0.0.1 ")
    assert told in line
    assert "hunter2" not in "\n".join(logged)


@pytest.mark.parametrize("password", [b"secret word", b"wrong"])
@pytest.mark.parametrize("service", ["smtp", "pop3"])
def test_a_disabled_account_hears_it_only_with_its_password(submission, logged, service, password):
    finish(submission.directory.set_state("joe@example.net", "disabled"))
    client = submission.client(service)
    client.say(b"EHLO pc\r\n" if service == "smtp" else b"CAPA\r\n")
    said = client.say(
        b"AUTH PLAIN " + b64encode(b"\0joe@example.net\0" + password) + b"\r\n"
        if service == "smtp"
        else b"USER joe@example.net\r\nPASS " + password + b"\r\n"
    )
    right = password != b"wrong"
    told = b"525 5.7.13 " if service == "smtp" else b"-ERR [AUTH] this account is disabled"
    assert (told in said) == right
    assert [line.startswith(f"login-disabled id={client.connection.id} ") for line in
            of(logged, "login-disabled")] == [True] * right  # fmt: skip
    assert len(of(logged, "login-refused")) == (not right)
    assert not any("secret" in line for line in logged)


# -- the manual -----------------------------------------------------------------


def test_the_manual_lists_the_events_and_its_recipes_name_real_ones():
    page = (DOCS / "log.rst").read_text()
    assert ".. from the code: events\n" in page
    named = set(re.findall(r"(?<![\w-])[a-z]+(?:-[a-z]+)+(?= id=)", page))
    assert named <= set(EVENTS)
    for name in ("message-taken", "message-deleted", "login-refused", "refused"):
        assert name in EVENTS
        assert name in page


def test_the_recipe_for_fail2ban_finds_the_client_and_only_that(submission, logged):
    page = (DOCS / "log.rst").read_text()
    recipes = re.findall(r"failregex = (.*)", page)
    pattern, of_json = (
        re.compile(recipe.replace("<HOST>", r"(?P<host>[0-9A-Fa-f:.]+)")) for recipe in recipes
    )
    objects: list[str] = []

    def watch(event):
        objects.append(json_of(event) or "")

    globalLogPublisher.addObserver(watch)
    liar = b"\0x client=203.0.113.9 login-refused id=1 service=a client=203.0.113.9 \0wrong"
    for address, octets in (("192.0.2.1", b"\0joe@example.net\0x"), ("2001:db8::7", liar)):
        submission.smtp.profile = ServiceProfile(
            submission=True, mechanisms=("PLAIN",), plaintext_login="always"
        )
        client = submission.client("smtp", address)
        client.say(b"EHLO pc\r\nAUTH PLAIN " + b64encode(octets) + b"\r\n")
    globalLogPublisher.removeObserver(watch)
    lines = [f"2026-11-29T10:05:03+0000 [postoffice#info] {line}" for line in logged]
    for recipe, written in ((pattern, lines), (of_json, objects)):
        assert [found["host"] for line in written for found in recipe.finditer(line)] == [
            "192.0.2.1",
            "2001:db8::7",
        ]
