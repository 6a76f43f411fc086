"""Who has to log in has a time for it, whatever he says meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.logger import globalLogPublisher

from postoffice.server.login_connection import LOGIN_TIME

POP3_LOGIN = b"USER joe@example.net\r\nPASS secret word\r\n"


@pytest.fixture
def told(caught):
    return lambda name: [event for event in caught if event.get("event") == name]


@pytest.fixture
def caught():
    events = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@pytest.fixture(params=["pop3", "submission"])
def chatty(request, memory_office):
    """A client, and what it says again and again."""
    if request.param == "pop3":
        return memory_office.client("pop3"), b"CAPA\r\n"
    memory_office.smtp.profile = replace(memory_office.smtp.profile, submission=True)
    return memory_office.client("smtp"), b"NOOP\r\n"


def talk(office, client, what, seconds) -> bool:
    """It says something every minute; whether it is still there in the end."""
    for _ in range(int(seconds // 60)):
        office.clock.advance(60)
        if client.transport.disconnecting or client.transport.disconnected:
            return False
        client.say(what)
    return True


def test_a_client_that_never_logs_in_is_disconnected_and_the_log_says_so(
    memory_office, chatty, told
):
    client, what = chatty
    assert talk(memory_office, client, what, LOGIN_TIME - 60)
    assert not told("login-timed-out")
    assert not talk(memory_office, client, what, 180)
    assert len(told("login-timed-out")) == 1


def test_a_client_that_logged_in_in_time_may_stay(memory_office, told):
    client = memory_office.client("pop3")
    assert talk(memory_office, client, b"CAPA\r\n", LOGIN_TIME - 60)
    assert b"+OK" in client.say(POP3_LOGIN)
    assert talk(memory_office, client, b"NOOP\r\n", 3 * LOGIN_TIME)
    assert not told("login-timed-out")


def test_incoming_mail_needs_no_login(memory_office, told):
    client = memory_office.client("smtp")
    assert talk(memory_office, client, b"NOOP\r\n", 3 * LOGIN_TIME)
    assert not told("login-timed-out")


def test_the_time_goes_on_behind_a_silence(memory_office, chatty, told):
    client, what = chatty
    memory_office.clock.advance(299)
    client.say(what)
    memory_office.clock.advance(299)
    client.say(what)
    assert not talk(memory_office, client, what, 120)
    assert len(told("login-timed-out")) == 1
