"""`postoffice explain`: the path of a decision, and that it is the reception's."""

from __future__ import annotations

import pytest
from zope.interface import implementer

from postoffice.interfaces import IAccountDirectory
from postoffice.model.address import Account, Quota
from twisted.plugins.postoffice_makers import SQLiteMaker

ANN = "ann@example.net"


@pytest.fixture
def ann(run, office):
    run("account", "add", ANN, "--generate")
    return ANN


@pytest.fixture
def explained(ask, ann):
    """The steps, and the reply."""

    def explained(address: str, *words: str) -> tuple[dict[str, str], str]:
        said = ask("explain", "rcpt", address, *words)
        assert said["accepted"] == said["reply"].startswith("250 ")
        return {one["step"]: one["found"] for one in said["steps"]}, said["reply"]

    return explained


def test_somebody_who_is_here(explained):
    steps, reply = explained("Ann@Example.NET")
    assert steps == {
        "domain": "example.net is ours, by accounts[0] (sqlite)",
        "postmaster": "no",
        "account": "ann@example.net, in accounts[0] (sqlite)",
        "quota": "1 GiB (default), any number (default), over: reject (default)",
        "room": "yes: it holds 0 messages, 0 octets",
    }
    assert reply == "250 2.1.5 Recipient OK"


def test_a_domain_that_is_not_ours(explained):
    steps, reply = explained("ann@bücher.example")
    assert steps == {"domain": "xn--bcher-kva.example is not ours"}
    assert reply.startswith("550 5.7.1 ")


def test_nobody(explained):
    steps, reply = explained("nobody@example.net")
    assert list(steps) == ["domain", "postmaster", "account"]
    assert steps["account"] == "there is no nobody@example.net"
    assert reply.startswith("550 5.1.1 ")


@pytest.mark.parametrize("address", ["PostMaster", "POSTMASTER@example.net"])
def test_the_postmaster(explained, run, address):
    run("account", "set", "postmaster@example.net", "--quota", "1")
    steps, reply = explained(address, "--size", "40 MiB")
    assert ("domain" in steps) == ("@" in address)
    assert steps["postmaster"] == "yes: his account is postmaster@example.net"
    assert steps["quota"].startswith("1 GiB (postmaster)")
    assert reply.startswith("250 ")


def test_a_postmaster_who_is_not_there(explained, office):
    file = office / "postoffice.yaml"
    file.write_text(file.read_text().replace("postmaster: postmaster@", "postmaster: gone@"))
    steps, reply = explained("postmaster")
    assert steps["account"] == "there is no gone@example.net"
    assert reply.startswith("451 ")


@pytest.mark.parametrize(("over", "code"), [("reject", "552 5.2.2"), ("defer", "452 4.2.2")])
def test_no_room(explained, run, over, code):
    run("domain", "set", "example.net", "--quota", "1 KiB", "--over", over)
    assert explained(ANN, "--size", "1024")[1].startswith("250 ")
    steps, reply = explained(ANN, "--size", "1025")
    assert steps["size"] == "1 KiB: within limits.message_size, 50 MiB"
    assert steps["quota"] == f"1 KiB (domain), any number (default), over: {over} (domain)"
    assert steps["room"] == "no: ann@example.net: over its quota; it holds 0 messages, 0 octets"
    assert list(steps)[-1] == "room"
    assert reply.startswith(code)


def test_a_message_that_is_too_large_for_anybody(explained):
    steps, reply = explained(ANN, "--size", "50.5 MiB")
    assert steps == {"size": "50.5 MiB: over limits.message_size, 50 MiB"}
    assert reply.startswith("552 5.3.4 ")


def test_policies_are_named_with_where_they_are_asked(ask, ann, run, office):
    file = office / "postoffice.yaml"
    policies = (
        "[{kind: greylist}, {kind: rate, client_recipients: 5/h, services: [smtp, submission]},"
        " {kind: helo}]"
    )
    file.write_text(file.read_text().replace("policies: []", f"policies: {policies}"))
    steps = ask("explain", "rcpt", ann)["steps"]
    assert [one["found"] for one in steps if one["step"] == "policy"] == [
        "policies[0] (greylist), asked at recipient, of clients of smtp",
        "policies[1] (rate), asked at sender, recipient, of clients of smtp, submission",
        "policies[2] (helo), asked at recipient, of clients of smtp",
    ]
    assert not (office / "state" / "greylist.db").exists(), "it was not asked"
    run("domain", "set", "example.net", "--quota", "1")
    steps = ask("explain", "rcpt", ann, "--size", "2")["steps"]
    assert [one for one in steps if one["step"] == "policy"] == []


def test_a_directory_that_only_tells(explained, monkeypatch):
    @implementer(IAccountDirectory)
    class Tells:
        async def start(self):
            pass

        async def stop(self):
            pass

        async def serves(self, domain):
            return domain == "example.net"

        async def find(self, name):
            if name in (ANN, "postmaster@example.net"):
                return Account(name, name, quota=Quota(messages=7))
            return None

    monkeypatch.setattr(SQLiteMaker, "make", lambda *args: Tells())
    steps, _ = explained(ANN)
    assert steps["quota"] == "1 GiB (default), 7 messages (account), over: reject (default)"
    steps, _ = explained("postmaster")
    assert steps["quota"].startswith("1 GiB (postmaster)")


def test_people_read_it_in_columns(run, ann):
    assert run("explain", "rcpt", "nobody@example.net").output.splitlines() == [
        "domain      example.net is ours, by accounts[0] (sqlite)",
        "postmaster  no",
        "account     there is no nobody@example.net",
        "reply       550 5.1.1 No such mailbox here",
    ]


def test_what_is_no_address(ask, office):
    assert "is not an address" in ask("explain", "rcpt", "ann", status=2)["error"]
    assert "is not a size" in ask("explain", "rcpt", ANN, "--size", "big", status=2)["error"]
