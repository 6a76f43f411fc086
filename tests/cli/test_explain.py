"""`postoffice explain`: the path of a decision, and that it is the reception's."""

from __future__ import annotations

import re

import pytest
from zope.interface import implementer

from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.interfaces import IAccountDirectory
from postoffice.model.address import Account, Address, Quota
from postoffice.model.alias import DISCARD, REFUSE, Alias
from postoffice.testing import ImmediateExecutor, finish
from twisted.plugins.postoffice_makers import SQLiteMaker

ANN = "ann@example.net"


@pytest.fixture
def ann(furnish):
    furnish(f"account add {ANN} --generate")
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
        "exact": "ann@example.net: account, in accounts[0] (sqlite)",
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
    assert list(steps) == ["domain", "exact", "refused"]
    assert steps["exact"] == "nobody@example.net: nothing"
    assert reply.startswith("550 5.1.1 ")


@pytest.mark.parametrize("address", ["PostMaster", "POSTMASTER@example.net"])
def test_the_postmaster(explained, run, address):
    run("account", "set", "postmaster@example.net", "--quota", "1")
    steps, reply = explained(address, "--size", "40 MiB")
    assert ("domain" in steps) == ("@" in address)
    assert steps["exact"] == "postmaster@example.net: account, in accounts[0] (sqlite)"
    assert steps["quota"].startswith("1 GiB (postmaster)")
    assert reply.startswith("250 ")


def test_a_postmaster_who_is_not_there(explained, office):
    file = office / "postoffice.yaml"
    file.write_text(file.read_text().replace("postmaster: postmaster@", "postmaster: gone@"))
    steps, reply = explained("postmaster")
    assert steps["failed"] == "the postmaster's account gone@example.net does not exist"
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
        "domain   example.net is ours, by accounts[0] (sqlite)",
        "exact    nobody@example.net: nothing",
        "refused  nobody@example.net: 550 5.1.1 No such mailbox here",
        "reply    550 5.1.1 No such mailbox here",
    ]


def targets(*names):
    return tuple(Address.parse(f"{name}@example.net") for name in names)


@pytest.fixture
def aliases(ann, office):
    """Aliases of Ann, of the postmaster and of nobody, in the office's database."""

    async def add():
        directory = SQLiteDirectory(str(office / "state" / "accounts.db"), ImmediateExecutor())
        await directory.start()
        for name, to in {
            "info": ("ann", "team"),
            "team": ("postmaster", "left", "null"),
            "a": ("b",),
            "b": ("a",),
        }.items():
            assert await directory.add_alias(Alias(f"{name}@example.net", targets(*to)))
        left = Alias("left@example.net", kind=REFUSE, words="She has left")
        assert await directory.add_alias(left)
        assert await directory.add_alias(Alias("null@example.net", kind=DISCARD))
        await directory.stop()

    finish(add())


def test_the_whole_path_of_an_alias(run, aliases):
    lines = run("explain", "rcpt", "info+news@example.net").output.splitlines()
    held = "it holds 0 messages, 0 octets"
    assert [re.sub(" {2,}", "  ", line) for line in lines] == [
        "domain  example.net is ours, by accounts[0] (sqlite)",
        "exact  info+news@example.net: nothing",
        "without the tag  info@example.net: alias of ann@example.net, team@example.net",
        "exact  ann@example.net: account, in accounts[0] (sqlite)",
        "exact  team@example.net: alias of postmaster@example.net, left@example.net,"
        " null@example.net",
        "exact  postmaster@example.net: account, in accounts[0] (sqlite)",
        "exact  left@example.net: refused, She has left",
        "exact  null@example.net: discarded",
        "refused  left@example.net: 550 5.2.1 She has left",
        "discarded  null@example.net",
        "quota  ann@example.net: 1 GiB (default), any number (default), over: reject (default)",
        f"room  ann@example.net: yes: {held}",
        "quota  postmaster@example.net: 1 GiB (postmaster), any number (postmaster), over: "
        "make-room (postmaster)",
        f"room  postmaster@example.net: yes: {held}",
        "reply  250 2.1.5 Recipient OK",
    ]


def test_a_loop_is_shown(ask, aliases):
    said = ask("explain", "rcpt", "a@example.net")
    assert [one["step"] for one in said["steps"]] == ["domain", "exact", "exact", "exact", "failed"]
    assert "a loop of aliases: a@example.net -> b@example.net" in said["steps"][-1]["found"]
    assert said["reply"].startswith("451 ")


def test_an_envelope_is_played_against_the_policies(ask, ann, office):
    file = office / "postoffice.yaml"
    file.write_text(file.read_text().replace("policies: []", "policies: [{kind: greylist}]"))
    words = ("explain", "rcpt", ann, "--sender", "joe@elsewhere.example")
    assert ask(*words)["reply"].startswith("250 ")
    assert ask(*words, "--from-ip", "192.0.2.1")["reply"].startswith("451 4.7.1 You are new here")
    assert ask(*words, "--from-ip", "::1")["reply"].startswith("250 ")
    assert "192.0.2" in ask(*words, "--from-ip", "192.0.2", status=2)["error"]


@pytest.mark.parametrize("null", ["<>", ""])
def test_the_sender_of_a_bounce_can_be_given(ask, ann, null):
    assert ask("explain", "rcpt", ann, "--sender", null)["accepted"]
    assert "joe" in ask("explain", "rcpt", ann, "--sender", "joe", status=2)["error"]


def test_what_is_no_address(ask, office):
    assert "is not an address" in ask("explain", "rcpt", "ann", status=2)["error"]
    assert "is not a size" in ask("explain", "rcpt", ANN, "--size", "big", status=2)["error"]


def test_the_route_of_a_target_elsewhere_is_shown(explained, run, office):
    with (office / "postoffice.yaml").open("a") as file:
        file.write("outbound: {routes: [{from: [a@b.example], via: refuse}, {via: direct}]}\n")
    run("alias", "add", "far@example.net", "x@elsewhere.example")
    steps, reply = explained("far@example.net")
    assert steps["remote"] == "x@elsewhere.example: direct, to the mail servers of its domain"
    assert reply == "250 2.1.5 Recipient OK"
    steps, reply = explained("far@example.net", "--sender", "a@b.example")
    assert steps["remote"] == (
        "x@elsewhere.example: refused: There is no route to this address from here"
    )
    assert reply == "550 5.7.1 There is no route to this address from here"
    steps, reply = explained("x@elsewhere.example")
    assert steps["route"] == (
        "direct, to the mail servers of its domain (for users who have logged in)"
    )
    assert reply.startswith("550 5.7.1 This domain is not ours")
