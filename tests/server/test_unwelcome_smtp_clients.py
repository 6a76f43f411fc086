"""Clients that speak before the greeting, or guess recipients, are disconnected."""

from __future__ import annotations

import ipaddress

import pytest

from postoffice.server.listener_options import ListenerOptions
from postoffice.server.smtp_service import ServiceProfile
from postoffice.testing import finish
from postoffice.util.token_bucket import TokenBucket

HEAD = b"EHLO pc.example.org\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<joe@example.net>\r\nDATA\r\n"
TEXT = b"Subject: x\r\n\r\nhello\r\n.\r\n"


@pytest.fixture
def client(memory_office):
    client = memory_office.client("smtp")
    client.hear()
    return client


# -- before the greeting ----------------------------------------------------------------


@pytest.fixture
def slow(memory_office):
    """The counter lets clients from elsewhere wait for its greeting."""
    memory_office.smtp.profile = ServiceProfile(greeting_delay=5)
    return memory_office


def test_a_client_that_waits_is_greeted(slow):
    client = slow.client("smtp", "192.0.2.1")
    slow.clock.advance(4)
    assert client.hear() == b""
    slow.clock.advance(1)
    assert client.hear().startswith(b"220 mail.example.net ")
    assert b"250 " in client.say(b"HELO pc.example.org\r\n")


def test_a_client_that_speaks_first_is_disconnected(slow, logged):
    client = slow.client("smtp", "192.0.2.1")
    slow.clock.advance(4)
    said = client.say(HEAD + TEXT + b"QUIT\r\n")
    assert said == b"554 5.5.1 You did not wait for the greeting; closing the connection\r\n"
    assert client.transport.disconnecting
    assert finish(slow.store.count("joe@example.net"))[0] == 0
    assert any('reply="554 5.5.1 You did not wait' in line for line in logged)
    client.leave()
    assert not slow.clock.getDelayedCalls()


def test_neighbours_do_not_wait(slow):
    assert slow.client("smtp", "127.0.0.1").hear().startswith(b"220 ")


@pytest.mark.parametrize("octet", [b"\r", b"\x16"])
def test_one_octet_is_enough_to_have_spoken(slow, octet):
    assert slow.client("smtp", "192.0.2.1").say(octet).startswith(b"554 5.5.1 ")


def test_a_client_that_leaves_before_the_greeting_leaves_nothing_behind(slow, failures):
    client = slow.client("smtp", "192.0.2.1")
    client.leave()
    assert not slow.clock.getDelayedCalls()
    assert not failures


def test_behind_a_balancer_it_is_the_client_that_waits(slow):
    slow.smtp.listener_options = ListenerOptions(
        "smtp", proxies=[ipaddress.ip_network("203.0.113.1")]
    )
    header = b"PROXY TCP4 192.0.2.1 203.0.113.9 4000 25\r\n"
    early, patient = (slow.client("smtp", "203.0.113.1") for _ in range(2))
    assert early.say(header + b"EHLO pc\r\n").startswith(b"554 5.5.1 ")
    assert patient.say(header) == b""
    slow.clock.advance(5)
    assert patient.hear().startswith(b"220 ")


# -- unknown recipients -----------------------------------------------------------------


@pytest.fixture
def harvested(memory_office):
    """The counter hears of three unknown recipients of each client in an hour."""
    memory_office.smtp.unknown = TokenBucket(3, 3600, memory_office.clock.seconds)
    return memory_office


def guess(office, count: int, address="192.0.2.1") -> list[bytes]:
    """The codes that a client hears who names so many whom nobody knows."""
    client = office.client("smtp", address)
    client.say(b"EHLO pc\r\nMAIL FROM:<a@example.org>\r\n")
    said = [client.say(b"RCPT TO:<guess%d@example.net>\r\n" % n) for n in range(count)]
    client.leave()
    return [line[:3] for line in said]


def test_a_client_that_guesses_names_is_disconnected(harvested, logged):
    assert guess(harvested, 5) == [b"550", b"550", b"550", b"421", b""]
    assert any('reply="421 4.7.1 Too many unknown' in line for line in logged)


def test_a_new_session_brings_no_new_guesses(harvested):
    guess(harvested, 3)
    assert guess(harvested, 1) == [b"421"]
    assert guess(harvested, 1, "192.0.2.2") == [b"550"]


def test_time_brings_new_guesses(harvested):
    guess(harvested, 4)
    harvested.clock.advance(1200)
    assert guess(harvested, 2) == [b"550", b"421"]


def test_a_client_with_known_recipients_is_not_slowed(harvested):
    guess(harvested, 3)
    client = harvested.client("smtp", "192.0.2.1")
    said = client.say(b"EHLO pc\r\nMAIL FROM:<>\r\nRCPT TO:<joe@example.net>\r\n")
    assert said.endswith(b"250 2.1.5 Recipient OK\r\n")


def test_all_of_one_network_guess_together(harvested):
    assert guess(harvested, 3, "2001:db8::1") == [b"550"] * 3
    assert guess(harvested, 1, "2001:db8::ffff:1") == [b"421"]
    assert guess(harvested, 1, "2001:db8:0:1::1") == [b"550"]


def test_neighbours_may_guess(harvested):
    assert guess(harvested, 10, "127.0.0.1") == [b"550"] * 10
