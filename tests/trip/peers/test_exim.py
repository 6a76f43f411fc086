"""The whole office sends to Debian's Exim."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.trip.peers.conftest import OFFICE, mail_host
from tests.trip.peers.test_postfix import TEXT, UTF8, status_of, text_of

EXIM = "11.0.5.1"
#: It may stand outside of the system, beside which Debian's packages have no place for it.
FOLDERS = "/usr/sbin:/opt/exim4/usr/sbin"
USER = "Debian-exim"
CONFIGURATION = """\
primary_hostname = mx.exim.example
exim_path = {program}
spool_directory = {home}/spool
log_file_path = {home}/log/%slog
pid_file_path = {home}/pid
local_interfaces = {address}
daemon_smtp_ports = 25
deliver_drop_privilege
host_lookup =
hosts_treat_as_local =
recipients_max = 10
prdr_enable
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
tls_advertise_hosts = *
tls_certificate = {certificate}
tls_privatekey = {certificate}
acl_smtp_rcpt = rcpt
begin acl
rcpt:
  deny local_parts = nobody
       message = There is nobody here
  accept
begin routers
office:
  driver = manualroute
  domains = example.net
  transport = sent
  route_list = * {office}
all:
  driver = accept
  transport = kept
begin transports
sent:
  driver = smtp
  hosts_avoid_tls = *
kept:
  driver = appendfile
  directory = {home}/mail
  create_file = anywhere
  maildir_format
  envelope_to_add
  return_path_add
"""


@pytest.fixture(scope="module")
def exim(shared, network, zone, authority, launch):
    """It keeps all mail, whatever the recipient."""
    program = shutil.which("exim4", path=FOLDERS)
    if program is None:
        pytest.skip("exim4 is not installed")
    mail_host(zone, "exim.example", EXIM)
    home = shared / "exim"
    for name in ("", "spool", "log", "mail"):
        (home / name).mkdir()
        shutil.chown(home / name, USER)
    certificate = shutil.copy(authority.certify("mx.exim.example"), home)
    shutil.chown(certificate, USER)
    names = {"program": program, "home": home, "address": EXIM, "office": OFFICE}
    (home / "conf").write_text(CONFIGURATION.format(**names, certificate=certificate))
    yield from network.within(_exim(program, home, launch))


def _exim(program: str, home: Path, launch):
    (home / "log" / "mainlog").touch()
    shutil.chown(home / "log" / "mainlog", USER)
    with (
        launch([program, "-C", str(home / "conf"), "-bdf"], home),
        launch(["tail", "-n", "+1", "-F", str(home / "log" / "mainlog")], home) as log,
    ):
        log.wait_for("daemon started")
        yield Exim(log, home)


class Exim:
    """What Exim has kept."""

    def __init__(self, log, home: Path) -> None:
        self._log = log
        self._home = home

    def received(self, recipient: str) -> list[bytes]:
        """Wait for mail of a recipient; all of it, with CRLF."""
        self._log.wait_for(rf"=> .*{recipient}.* T=kept")
        texts = [file.read_bytes() for file in (self._home / "mail" / "new").glob("*")]
        wanted = f"Envelope-to: {recipient}\n".encode()
        return [text.replace(b"\n", b"\r\n") for text in texts if wanted in text]


def test_the_text_comes_octet_for_octet(office, exim, submit):
    text = TEXT + "grüße\r\n".encode()
    submit(text, "whole@exim.example", mail=["BODY=8BITMIME"])
    assert 'tls="TLSv1.3' in office.wait_for(r" sent .*to=<whole@exim.example> .*").string
    [message] = exim.received("whole@exim.example")
    assert text_of(message) == text
    assert message.count(b"Return-path:") + message.count(b"Return-Path:") == 1


def test_more_recipients_than_one_transaction_takes(office, exim, submit, ann):
    everyone = [f"n{n}@exim.example" for n in range(25)]
    message = submit(TEXT, *everyone)
    office.wait_for(f" left-queue id={message} ")
    assert office.collect(ann) == []
    taken = [line for line in office.out + office.err if f" sent id={message} " in line]
    assert all(any(name in line for line in taken) for name in everyone)


def test_an_unknown_recipient(office, exim, submit, ann):
    message = submit(TEXT, "nobody@exim.example", "known@exim.example")
    office.wait_for(f" left-queue id={message} ")
    status = status_of(office, ann)
    assert "Final-Recipient: rfc822; nobody@exim.example" in status
    assert "There is nobody here" in status
    assert "; known@" not in status
    exim.received("known@exim.example")


def test_success_is_told_by_exim(office, exim, submit, ann):
    submit(TEXT, "told@exim.example", rcpt=["NOTIFY=SUCCESS"])
    office.wait_for(f" message-taken .*service=smtp.* to=<{ann.address}>")
    status = status_of(office, ann)
    assert "Reporting-MTA: dns; mx.exim.example" in status
    assert "Action: delivered" in status


def test_utf_8_in_addresses_and_in_the_header(exim, submit):
    submit(UTF8, "jörg@exim.example", mail=["SMTPUTF8", "BODY=8BITMIME"])
    assert text_of(*exim.received("jörg@exim.example")) == UTF8
