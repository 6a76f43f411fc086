"""LMTP: Python's client, a real Postfix in front, and relays that say for whom they speak."""

from __future__ import annotations

import shutil
import smtplib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postfix import postfix as run_postfix
from tests.servers import free_port

TEXT = b"From: a@example.org\r\nSubject: x\r\n\r\n.dots\r\n.\r\n\xc3\xbc\r\n"
CONFIGURATION = """\
hostname: mail.example.net
postmaster: postmaster@example.net
state: state
tls: {certificates: [{certificate: mail.example.net.pem, key: mail.example.net.pem}]}
listeners:
  smtp: ["tcp:0:interface=127.0.0.1"]
  submission: []
  submissions: []
  lmtp: ["tcp:0:interface=127.0.0.1", "unix:lmtp.sock:mode=666"]
  pop3: ["tcp:0:interface=127.0.0.1"]
  pop3s: []
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that others may enter, as they may not enter pytest's: Postfix is many users."""
    with tempfile.TemporaryDirectory(prefix="lmtp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="module")
def office(folder, furnish, opened):
    """An office that takes mail from a mail server in front, over TCP and over a UNIX socket."""
    furnish(folder)
    yield from opened(folder, CONFIGURATION)


@pytest.fixture(params=["inet", "unix"])
def way(request) -> str:
    return request.param


@pytest.fixture
def lmtp(office, way):
    """Python's client."""
    if way == "inet":
        client = smtplib.LMTP("127.0.0.1", office.ports["lmtp"])
    else:
        client = smtplib.LMTP(str(office.folder / "lmtp.sock"))
    with client:
        client.ehlo("relay.example.org")
        yield client


def text_of(message: bytes) -> bytes:
    """A message as it was sent: without the fields that were put before it."""
    return message[message.index(b"From: ") :]


def test_every_recipient_has_a_reply_of_its_own(office, lmtp, way):
    accounts = [office.new_account() for _ in range(3)]
    lmtp.mail("a@example.org")
    said = []
    for address in (accounts[0].address, "nobody@example.net", accounts[1].address):
        said.append(lmtp.rcpt(address)[0])
    assert said == [250, 550, 250]
    code, text = lmtp.data(TEXT)
    replies = [(code, text), lmtp.getreply()]
    assert [(code, text[:6]) for code, text in replies] == [(250, b"2.0.0 ")] * 2
    assert lmtp.noop()[0] == 250, "and there were no more"
    for account in accounts[:2]:
        (message,) = office.collect(account)
        assert b" with LMTP id " in message
        assert (b"([127.0.0.1])" in message) == (way == "inet")
        assert text_of(message) == TEXT
    assert office.collect(accounts[2]) == []


def test_it_is_no_smtp(lmtp):
    assert lmtp.docmd("EHLO pc")[0] == 500
    assert lmtp.docmd("HELO pc")[0] == 500
    assert lmtp.docmd("LHLO pc")[0] == 250
    lmtp.mail("a@example.org")
    lmtp.rcpt("nobody@example.net")
    assert lmtp.docmd("DATA")[0] == 503


# -- a real Postfix --------------------------------------------------------------------

MAIN = """\
myhostname = relay.example.org
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = example.net, example.com
virtual_mailbox_maps = static:all
transport_maps = inline:{{
    {{ example.net = lmtp:inet:127.0.0.1:{lmtp} }}
    {{ example.com = lmtp:unix:{office}/lmtp.sock }} }}
lmtp_tls_security_level = may
local_header_rewrite_clients =
"""


@pytest.fixture(scope="module")
def postfix(folder, office, launch):
    """Debian's Postfix in front of the office: for example.net by TCP, for example.com not."""
    port = free_port()
    settings = MAIN.format(office=folder, lmtp=office.ports["lmtp"])
    with run_postfix(folder / "postfix", launch, settings, {f"127.0.0.1:{port}": ""}) as running:
        running.smtp = port
        yield running


@pytest.mark.parametrize(
    ("domain", "protocol"), [("example.net", b"LMTPS"), ("example.com", b"LMTP")]
)
def test_postfix_hands_on(office, postfix, domain, protocol):
    accounts = [office.account(f"{name}@{domain}", office.PASSWORD) for name in ("ann", "bob")]
    with smtplib.SMTP("127.0.0.1", postfix.smtp, timeout=30) as client:
        client.sendmail("a@example.org", [one.address for one in accounts], TEXT, ["BODY=8BITMIME"])
    sent = [postfix.wait_for(r"to=<(\w+)@.*status=sent \(250 2\.0\.0 Taken, ") for _ in accounts]
    assert {found[1] for found in sent} == {"ann", "bob"}
    for account in accounts:
        (message,) = office.collect(account)
        assert message.startswith(
            b"Return-Path: <a@example.org>\r\nReceived: from relay.example.org"
        )
        assert b" with %s id " % protocol in message
        assert b"by relay.example.org (Postfix)" in message
        assert text_of(message) == TEXT


def test_postfix_bounces_what_is_for_nobody(office, postfix):
    """And the bounce, from the null sender, comes the same way."""
    sender, known = office.new_account(), office.new_account()
    with smtplib.SMTP("127.0.0.1", postfix.smtp, timeout=30) as client:
        client.sendmail(sender.address, ["nobody@example.net", known.address], TEXT)
    postfix.wait_for(r"to=<nobody@.*status=bounced \(host .* said: 550 5\.1\.1 ")
    postfix.wait_for(rf"to=<{sender.address}>.*status=sent \(250 ")
    assert text_of(*office.collect(known)) == TEXT
    (bounce,) = office.collect(sender)
    assert bounce.startswith(b"Return-Path: <>\r\n")
    assert b"<nobody@example.net>: host 127.0.0.1" in bounce


# -- XCLIENT ---------------------------------------------------------------------------


def test_a_relay_says_by_xclient_for_whom_it_speaks(whole_office, raw):
    account = whole_office.new_account()
    with raw(whole_office.ports["lmtp"], "127.0.0.3") as client:
        client.reply()
        assert b"XCLIENT NAME ADDR PORT PROTO HELO\r\n" in client.ask(b"LHLO relay.example.org")
        told = b"XCLIENT NAME=pc.example.org ADDR=IPV6:2001:db8::7 PORT=4000 HELO=pc"
        assert client.ask(told).startswith(b"220 ")
        assert client.ask(b"MAIL FROM:<a@example.org>").startswith(b"503 "), "it begins anew"
        assert b"XCLIENT" in client.ask(b"LHLO relay.example.org"), "the next message's client"
        client.ask(b"MAIL FROM:<a@example.org>")
        client.ask(b"RCPT TO:<%s>" % account.address.encode())
        client.ask(b"DATA")
        assert client.ask(TEXT.replace(b"\r\n.", b"\r\n..") + b".").startswith(b"250 ")
    whole_office.wait_for(
        "message-taken .* client=2001:db8::7 .*sender=<a@example.org> recipients=1 "
        f"to=<{account.address}> "
    )
    (message,) = whole_office.collect(account)
    assert b"Received: from relay.example.org ([IPv6:2001:db8::7])" in message


def test_swaks_says_xclient(whole_office, tmp_path):
    if not shutil.which("swaks"):
        pytest.skip("swaks is not installed")
    account = whole_office.new_account()
    words = ["swaks", "--server", "127.0.0.1", "--port", str(whole_office.smtp)]
    words += ["--local-interface", "127.0.0.3", "--xclient", "ADDR=192.0.2.7 NAME=pc.example.org"]
    words += ["--from", "a@example.org", "--to", account.address]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (message,) = whole_office.collect(account)
    assert b" ([192.0.2.7])\r\n" in message


@pytest.mark.parametrize("service", ["smtp", "lmtp"])
def test_nobody_else_is_believed(whole_office, raw, service):
    with raw(whole_office.ports[service], "127.0.0.4") as client:
        client.reply()
        assert b"XCLIENT" not in client.ask(b"LHLO pc" if service == "lmtp" else b"EHLO pc")
        assert client.ask(b"XCLIENT ADDR=192.0.2.7") == b"550 5.7.0 Not from you\r\n"
