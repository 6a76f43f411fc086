"""Mail leaves one office for another, both real, and its sender hears what became of it."""

from __future__ import annotations

import json
import smtplib
import socket
from email import message_from_bytes, policy

import pytest

from postoffice.model.address import Address
from postoffice.model.alias import Alias
from postoffice.server.dkim_keys import DKIMKeys
from postoffice.testing import finish
from tests.trip.conftest import CONFIGURATION, NEVER, Office

TEXT = "From: {sender}\r\nTo: you\r\nSubject: hello\r\n\r\nHello\r\n.dot\r\n"
THERE = CONFIGURATION.replace("example.net", "example.com")


@pytest.fixture(scope="module")
def there(tmp_path_factory, opened):
    """The office of another domain."""
    for office in opened(tmp_path_factory.mktemp("there"), THERE):
        office.account("eve@example.com", office.PASSWORD)
        yield office


@pytest.fixture(scope="module")
def office(tmp_path_factory, opened, there):
    """An office that sends all that is not its own to the other one."""
    outbound = f'outbound: {{routes: [{{via: "smtp:127.0.0.1:{there.smtp}"}}]}}\n'
    for office in opened(tmp_path_factory.mktemp("here"), CONFIGURATION + outbound):
        office.account("postmaster@example.net", office.PASSWORD)
        yield office


def submit(office: Office, account, *to: str, **more) -> None:
    with smtplib.SMTP("127.0.0.1", office.ports["submission"], timeout=NEVER) as client:
        client.login(account.address, account.password)
        text = TEXT.format(sender=account.address)
        client.sendmail(account.address, list(to), text.encode(), **more)


def letter(octets: bytes):
    return message_from_bytes(octets, policy=policy.default)


def test_a_message_goes_to_another_office_and_to_a_maildrop_here(office, there):
    ann, bob = office.new_account(), office.new_account()
    eve = there.account("first@example.com", there.PASSWORD)
    submit(office, ann, "first@example.com", bob.address)
    office.wait_for(r" left-queue ")
    [arrived] = there.collect(eve)
    [here] = office.collect(bob)
    assert arrived.endswith(b"\r\n\r\nHello\r\n.dot\r\n")
    assert arrived.startswith(f"Return-Path: <{ann.address}>\r\n".encode())
    assert arrived.count(b"Return-Path:") == 1
    sent = here.partition(b"\r\n")[2]
    assert arrived.endswith(sent), "what is sent is what lies here, but for the Return-Path"


def test_mail_to_an_unknown_recipient_comes_back_as_a_bounce(office):
    ann = office.new_account()
    submit(office, ann, "nobody@example.com")
    office.wait_for(r" left-queue ")
    [found] = office.collect(ann)
    report = letter(found)
    assert report["Return-Path"] == "<>"
    assert report.get_content_type() == "multipart/report"
    status = report.get_payload(1).as_string()
    assert "Final-Recipient: rfc822; nobody@example.com" in status
    assert "Action: failed" in status
    assert "5.1.1" in status


def test_an_account_forwards_to_another_office(office, there):
    ann, bob = office.new_account(), office.new_account()
    eve = there.account("forwarded@example.com", there.PASSWORD)
    with office.directory() as directory:
        finish(directory.set_forward(bob.address, (Address.parse(eve.address),), True))
    submit(office, ann, bob.address)
    office.wait_for(r" left-queue ")
    assert len(there.collect(eve)) == 1
    assert len(office.collect(bob)) == 1


def test_success_is_told_where_it_is_wanted(office, there):
    ann = office.new_account()
    there.account("wanted@example.com", there.PASSWORD)
    submit(office, ann, "wanted@example.com", rcpt_options=["NOTIFY=SUCCESS"])
    office.wait_for(r" left-queue ")
    [found] = office.collect(ann)
    assert "Action: relayed" in letter(found).get_payload(1).as_string()


def test_success_here_is_told_where_it_is_wanted(office):
    ann, bob = office.new_account(), office.new_account()
    submit(office, ann, bob.address, rcpt_options=["NOTIFY=SUCCESS"])
    office.wait_for(r" letter-written .*outcome=delivered")
    [found] = office.collect(ann)
    status = letter(found).get_payload(1).as_string()
    assert "Action: delivered" in status
    assert f"Final-Recipient: rfc822; {bob.address}" in status
    assert "Subject: hello" in letter(found).get_payload(2).as_string()


def test_an_alias_of_several_accounts_is_told_as_one_address(office):
    ann, bob, eve = office.new_account(), office.new_account(), office.new_account()
    team = f"team-{bob.address}"
    with office.directory() as directory:
        targets = tuple(Address.parse(one.address) for one in (bob, eve))
        finish(directory.add_alias(Alias(team, targets)))
    submit(office, ann, team, rcpt_options=["NOTIFY=SUCCESS"])
    office.wait_for(r" letter-written .*outcome=expanded")
    [found] = office.collect(ann)
    status = letter(found).get_payload(1).as_string()
    assert "Action: expanded" in status
    assert f"Final-Recipient: rfc822; {team}" in status
    assert bob.address not in status.replace(team, "")


@pytest.fixture
def silent():
    """A port at which nobody answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        yield listening.getsockname()[1]


def test_what_waits_is_listed_held_and_removed(tmp_path, start, command, written, silent, there):
    written(f'outbound: {{routes: [{{via: "smtp:127.0.0.1:{silent}"}}]}}\n')
    office = start().open()
    ann = office.account("ann@example.net", office.PASSWORD)
    submit(office, ann, "eve@example.com")
    office.wait_for(r" destination-down ")
    [waiting] = json.loads(command("queue", "list", "--json").stdout)["messages"]
    assert waiting["recipients"] == ["eve@example.com"]
    assert waiting["state"] == "unreachable"
    assert waiting["id"] in command("queue", "show", waiting["id"]).stdout
    assert command("queue", "hold", waiting["id"], "--why", "a look").returncode == 0
    assert "a look" in command("queue", "list").stdout
    assert command("queue", "release", "--to", "example.com").returncode == 0
    office.wait_for(r" deferred ")
    shown = json.loads(command("queue", "destinations", "--json").stdout)["destinations"]
    assert [one["state"] for one in shown] == ["unreachable"]
    tested = json.loads(command("queue", "test", "eve@example.com", "--json").stdout)
    assert tested["hosts"][0]["port"] == silent
    assert command("queue", "pause", "example.com").returncode == 0
    assert command("queue", "resume", "example.com").returncode == 0
    assert command("queue", "resume", "example.com").returncode == 1
    office.stop()
    assert waiting["id"] in command("queue", "list").stdout
    other = f'outbound: {{routes: [{{via: "smtp:127.0.0.1:{there.smtp}"}}]}}\n'
    written(other)
    again = start().open()
    assert command("queue", "retry", "--all").returncode in (0, 1)
    again.wait_for(r" left-queue ")
    assert len(there.collect(there.account("eve@example.com", there.PASSWORD))) == 1
    again.check()


def test_what_is_over_the_limit_of_an_account_is_held(tmp_path, start, command, written, there):
    route = f'routes: [{{via: "smtp:127.0.0.1:{there.smtp}"}}]'
    written(f"outbound: {{{route}, limits: {{recipients: [2/h]}}}}\n")
    office = start().open()
    ann = office.account("ann@example.net", office.PASSWORD)
    within = there.account("within@example.com", there.PASSWORD)
    beyond = there.account("beyond@example.com", there.PASSWORD)
    submit(office, ann, "within@example.com")
    office.wait_for(r" left-queue ")
    submit(office, ann, "within@example.com", "beyond@example.com")
    office.wait_for(r" sending-stopped .* outcome=held")
    [held] = json.loads(command("queue", "list", "--state", "held", "--json").stdout)["messages"]
    assert "over the limit" in held["held"]
    assert len(there.collect(within)) == 1
    assert command("queue", "release", held["id"]).returncode == 0
    office.wait_for(r" left-queue ")
    assert len(there.collect(beyond)) == 1
    office.check()


def test_nothing_is_sent_twice_or_lost_over_a_kill(tmp_path, start, written, there):
    written(f'outbound: {{routes: [{{via: "smtp:127.0.0.1:{there.smtp}"}}]}}\n')
    office = start().open()
    ann = office.account("ann@example.net", office.PASSWORD)
    killed = there.account("killed@example.com", there.PASSWORD)
    submit(office, ann, "killed@example.com")
    office.stop(9)
    start().open().wait_for(r" left-queue |$^")
    assert 1 <= len(there.collect(killed)) <= 2


def test_what_a_user_sends_is_signed_as_soon_as_there_are_keys(office, there):
    dkim = pytest.importorskip("dkim", reason="dkimpy is not installed")
    keys = DKIMKeys(str(office.folder / "state"))
    made = keys.add("example.net", 0.0)
    keys.activate("example.net", [one.selector for one in made], 0.0)
    ann = office.new_account()
    eve = there.account("signed@example.com", there.PASSWORD)
    submit(office, ann, "signed@example.com")
    office.wait_for(r" left-queue ")
    [arrived] = there.collect(eve)
    records = {f"{one.name}.": one.record.encode() for one in keys.signing("example.net")}
    for number in (0, 1):
        assert dkim.DKIM(arrived).verify(number, lambda name, timeout=5: records[name.decode()])


def test_a_bounce_of_a_forward_finds_the_stranger_who_wrote(office, there):
    bob = office.new_account()
    eve = there.account("target@example.com", there.PASSWORD)
    stranger = there.account("stranger@example.com", there.PASSWORD)
    with office.directory() as directory:
        finish(directory.set_forward(bob.address, (Address.parse(eve.address),), False))
    with smtplib.SMTP("127.0.0.1", office.smtp, timeout=NEVER) as client:
        client.sendmail(stranger.address, bob.address, TEXT.format(sender="x").encode())
    office.wait_for(r" left-queue ")
    [arrived] = there.collect(eve)
    rewritten = letter(arrived)["Return-Path"].strip("<>")
    assert rewritten.startswith("SRS0=")
    assert rewritten.endswith("=example.com=stranger@example.net")
    with smtplib.SMTP("127.0.0.1", office.smtp, timeout=NEVER) as client:
        client.sendmail("", rewritten, b"Subject: bounce\r\n\r\nlost\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("x@example.com", rewritten, b"Subject: spam\r\n\r\nbuy\r\n")
    office.wait_for(r" left-queue ")
    [bounce] = there.collect(stranger)
    assert letter(bounce)["Return-Path"] == "<>"
    assert letter(bounce)["Subject"] == "bounce"


def test_a_user_who_writes_as_somebody_else_is_refused_where_that_is_wanted(
    tmp_path, start, written
):
    written("submission: {foreign_from: refuse}\n")
    office = start().open()
    ann = office.account("ann@example.net", office.PASSWORD)
    with smtplib.SMTP("127.0.0.1", office.ports["submission"], timeout=NEVER) as client:
        client.login(ann.address, ann.password)
        with pytest.raises(smtplib.SMTPDataError, match="From"):
            client.sendmail(ann.address, [ann.address], TEXT.format(sender="eve@x.example"))
    office.check()
