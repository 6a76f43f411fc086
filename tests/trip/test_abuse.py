"""Clients that do not behave, against the live post office: each costs itself only."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import pytest


@pytest.fixture
def smtp(raw, office):
    with raw(office.smtp) as client:
        assert client.hear()[0].startswith(b"220 ")
        client.say(b"HELO pc.example.org\r\n")
        assert client.hear()[0].startswith(b"250 ")
        yield client


@pytest.fixture
def pop3(raw, office):
    with raw(office.pop3) as client:
        assert client.hear()[0].startswith(b"+OK ")
        yield client


def post(client, account, text: bytes) -> list[bytes]:
    client.say(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<%s>\r\nDATA\r\n" % account.address.encode())
    client.hear(3)
    client.say(text + b"\r\n.\r\n")
    return client.hear()


def log_in(client, account) -> bytes:
    client.say(b"USER %s\r\nPASS %s\r\n" % (account.address.encode(), account.password.encode()))
    return client.hear(2)[1]


def test_octets_behind_quit_do_not_cost_the_goodbye(smtp, pop3):
    smtp.say(b"QUIT\r\n" + b"NOOP\r\n" * 10_000)
    assert smtp.rest().startswith(b"221 ")
    pop3.say(b"QUIT\r\n" + b"x" * 50_000)
    assert pop3.rest() == b"+OK goodbye\r\n"


def test_a_client_that_has_said_all_and_closed_its_side_hears_the_answers(smtp, office):
    account = office.new_account()
    smtp.say(
        b"MAIL FROM:<a@example.org>\r\nRCPT TO:<%s>\r\nDATA\r\nhi\r\n.\r\n"
        % account.address.encode()
    )
    smtp.socket.shutdown(socket.SHUT_WR)
    assert [line[:3] for line in smtp.rest().splitlines()] == [b"250", b"250", b"354", b"250"]


def test_an_endless_command_costs_one_reply(smtp):
    for _ in range(100):
        smtp.say(b"x" * 100_000)
    smtp.say(b"\r\nNOOP\r\n")
    assert [line[:3] for line in smtp.hear(2)] == [b"500", b"250"]


def test_a_hundred_thousand_address_fields(smtp, office):
    account = office.new_account()
    text = b"To: a@example.org\r\n" * 100_000 + b"\r\nhi"
    assert post(smtp, account, text)[0].startswith(b"250 ")


@pytest.mark.parametrize(
    ("service", "command"), [("smtp", b"NOOP\r\n"), ("smtp", b"HELP\r\n"), ("pop3", b"CAPA\r\n")]
)
def test_a_client_that_reads_no_replies_is_not_read_from(raw, office, service, command):
    before = office.held
    with raw(getattr(office, service)) as client:
        client.socket.settimeout(1)
        taken = 0
        with suppress(TimeoutError, ConnectionError):  # SMTP has a budget of commands, too
            while taken < 100_000_000:
                taken += client.socket.send(command * 1000)
        assert taken < 100_000_000, "it would have listened for ever"
        assert office.held - before < 8 << 20
        client.reset()


def test_a_client_that_does_not_read_its_mail_is_sent_no_more(raw, office, smtp, pop3):
    account = office.new_account()
    line = b"x" * 998 + b"\r\n"
    assert post(smtp, account, line * 20_000)[0].startswith(b"250 ")
    assert log_in(pop3, account).startswith(b"+OK 1 ")
    before = office.held
    pop3.say(b"RETR 1\r\n" * 100)
    assert pop3.hear()[0].startswith(b"+OK 2")
    with raw(office.pop3) as other:  # others are served meanwhile
        other.hear()
        assert log_in(other, account).startswith(b"-ERR [IN-USE]")
    assert office.held - before < 8 << 20
    pop3.reset()


def test_a_link_that_is_reset_frees_the_maildrop(raw, office, smtp, pop3):
    account = office.new_account()
    post(smtp, account, b"Subject: x\r\n\r\nx")
    assert log_in(pop3, account).startswith(b"+OK 1 ")
    pop3.say(b"DELE 1\r\n")
    pop3.hear()
    pop3.reset()
    while True:  # as soon as the news has come there
        with raw(office.pop3) as other:
            other.hear()
            said = log_in(other, account)
            if said.startswith(b"+OK"):
                break
            assert said.startswith(b"-ERR [IN-USE]")
    assert said.startswith(b"+OK 1 "), "nothing was removed"


def test_a_text_that_breaks_off_leaves_nothing(raw, office, smtp):
    account = office.new_account()
    smtp.say(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<%s>\r\nDATA\r\n" % account.address.encode())
    smtp.hear(3)
    smtp.say(b"Subject: x\r\n\r\n" + b"x" * 900 + b"\r\n")
    smtp.reset()
    with raw(office.pop3) as client:
        client.hear()
        assert log_in(client, account).startswith(b"+OK 0 ")


def test_random_octets_get_answers_and_nothing_else(raw, office):
    for service in ("smtp", "pop3"):
        for _ in range(20):
            with raw(getattr(office, service)) as client:
                client.say(os.urandom(2000).replace(b"\n", b"\r\n") + b"\r\nQUIT\r\n")
                lines = client.rest().splitlines()
                assert lines
                for line in lines:
                    assert line[:1] in (b"2", b"4", b"5", b"+", b"-"), line


@pytest.mark.parametrize(
    "name",
    [
        b'"../../../etc/passwd"',
        b'"a/b"',
        b"%2e%2e",
        b'".."',
        b'"."',
        b'"$(id)"',
        b"|id",
        b"~root",
    ],
)
def test_names_that_are_paths_are_nobody_here(office, smtp, name):
    smtp.say(b"MAIL FROM:<%s@example.org>\r\nRCPT TO:<%s@example.net>\r\nRSET\r\n" % (name, name))
    assert [line[:9] for line in smtp.hear(3)] == [b"250 2.1.0", b"550 5.1.1", b"250 2.0.0"]


def test_what_a_sender_is_called_stands_escaped_in_the_trace(office, smtp, pop3):
    account = office.new_account()
    smtp.say(b'MAIL FROM:<"a\\"\\\\ <b>: c"@example.org>\r\n')
    smtp.say(b"RCPT TO:<%s>\r\nDATA\r\n" % account.address.encode())
    smtp.hear(3)
    smtp.say(b"Subject: x\r\n\r\nx\r\n.\r\n")
    assert smtp.hear()[0].startswith(b"250 ")
    log_in(pop3, account)
    pop3.say(b"TOP 1 0\r\n")
    assert pop3.hear(2)[1] == b'Return-Path: <"a\\"\\\\ <b>: c"@example.org>\r\n'


def test_many_clients_that_say_nothing_do_not_harm_one_that_does(raw, office, smtp):
    crowd = []
    try:
        for number in range(90):
            crowd.append(raw(office.smtp if number % 2 else office.pop3))
        for client in crowd:
            assert client.hear()[0][:1] in b"2+"
        assert post(smtp, office.new_account(), b"Subject: x\r\n\r\nx")[0].startswith(b"250 ")
    finally:
        for client in crowd:
            client.__exit__()
