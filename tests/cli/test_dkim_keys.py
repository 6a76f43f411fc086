"""``postoffice dkim``: keys, and their records in the DNS."""

from __future__ import annotations

import pytest

from postoffice.cli import dkim_keys
from postoffice.model.dns_answer import Answer, DNSUnavailable, NoSuchName
from postoffice.server.dkim_keys import ACTIVE, OLD, WAITING

DOMAIN = "example.net"


@pytest.fixture
def zone(office, monkeypatch):
    """What the DNS has: the text by the name; or None where it does not answer."""
    zone = {}

    class Resolver:
        def __init__(self, reactor, servers):
            pass

        async def ask(self, name, kind):
            assert kind == "TXT"
            if name not in zone:
                return NoSuchName()
            if zone[name] is None:
                raise DNSUnavailable("timed out")
            return Answer((b"v=other", zone[name].encode()))

    monkeypatch.setattr(dkim_keys, "Resolver", Resolver)
    return zone


@pytest.fixture
def states(ask):
    return lambda: [(one["kind"], one["state"]) for one in ask("dkim", "list")["keys"]]


def publish(zone, answer):
    for one in answer["records"]:
        zone[one["name"]] = one["text"]


def test_keys_sign_once_their_records_are_in_the_dns(zone, run, ask, states):
    assert run("dkim", "list").stdout == "no keys\n"
    made = ask("dkim", "add", DOMAIN)
    assert [one["kind"] for one in made["records"]] == ["rsa", "ed25519"]
    assert states() == [("rsa", WAITING), ("ed25519", WAITING)]
    said = run("dkim", "check", DOMAIN, status=1).stdout
    assert "missing" in said
    assert made["records"][0]["line"] in said
    publish(zone, made)
    assert {one["record"] for one in ask("dkim", "check", DOMAIN)["keys"]} == {"right"}
    assert states() == [("rsa", ACTIVE), ("ed25519", ACTIVE)]


def test_new_keys_replace_the_old_ones_and_the_old_ones_go(zone, run, ask, states):
    first = ask("dkim", "add", DOMAIN)
    publish(zone, first)
    ask("dkim", "check", DOMAIN)
    publish(zone, ask("dkim", "rotate", DOMAIN))
    assert "wait for their records already" in run("dkim", "rotate", DOMAIN, status=1).output
    assert states()[:2] == [("rsa", ACTIVE), ("ed25519", ACTIVE)]
    ask("dkim", "check", DOMAIN)
    assert [state for _, state in states()] == [OLD, OLD, ACTIVE, ACTIVE]
    assert "less than a week ago" in run("dkim", "retire", DOMAIN, status=1).output
    retired = ask("dkim", "retire", DOMAIN, "--now")
    assert retired["names"] == [one["name"] for one in first["records"]]
    assert [state for _, state in states()] == [ACTIVE, ACTIVE]


@pytest.mark.parametrize(("text", "said"), [("v=DKIM1; p=AAAA", "wrong"), (None, "unknown")])
def test_a_record_that_is_wrong_or_does_not_come_is_told(zone, ask, states, text, said):
    for one in ask("dkim", "add", DOMAIN)["records"]:
        zone[one["name"]] = text
    answer = ask("dkim", "check", DOMAIN, status=1)
    assert {one["record"] for one in answer["keys"]} == {said}
    assert states() == [("rsa", WAITING), ("ed25519", WAITING)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "example.com"), "example.com"),
        (("rotate", DOMAIN), "no keys yet"),
        (("check", DOMAIN), "no keys yet"),
        (("retire", DOMAIN), "no old keys"),
    ],
)
def test_what_cannot_be_done_is_refused(zone, run, words, said):
    assert said in run("dkim", *words, status=1).output


def test_the_first_keys_are_made_once(zone, run):
    run("dkim", "add", DOMAIN)
    assert "has keys already" in run("dkim", "add", DOMAIN, status=1).output
