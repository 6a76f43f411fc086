"""The office hands its mail to a smarthost (Postfix, with Dovecot's SASL) and to Dovecot's LMTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.servers import Server
from tests.trip.peers.test_postfix import TEXT, text_of

DOVECOT = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
info_log_path = {folder}/log
protocols = lmtp
ssl = no
auth_mechanisms = plain login
mail_location = maildir:{folder}/mail/%n
first_valid_uid = 1
default_internal_user = dovecot
default_login_user = dovenull
passdb {{
  driver = static
  args = password=right
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home={folder}/mail/%n allow_all_users=yes
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = 12345
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 11.0.4.1
    port = 24
  }}
}}
"""


class Dovecot(Server):
    """Dovecot's LMTP and SASL servers; the password of everybody is "right"."""

    user = "root"
    programs = ("dovecot",)
    folders = ("/usr/sbin",)

    def _make(self) -> None:
        if not Path("/usr/lib/dovecot/lmtp").exists():
            pytest.skip("dovecot-lmtpd is not installed")
        self.folder.chmod(0o755)
        (self.folder / "mail").mkdir()
        (self.folder / "mail").chmod(0o777)
        (self.folder / "conf").write_text(DOVECOT.format(folder=self.folder))
        self.start()

    def _command(self) -> list[str]:
        return [self._paths["dovecot"], "-F", "-c", str(self.folder / "conf")]

    def _answers(self) -> bool:
        return "starting up" in (self.folder / "log").read_text()

    def kept(self, name: str) -> list[bytes]:
        """What there is for a user."""
        files = (self.folder / "mail" / name / "new").glob("*")
        return [file.read_bytes().replace(b"\n", b"\r\n") for file in files]


@pytest.fixture(scope="module")
def dovecot(network):
    yield from network.within(_dovecot())


def _dovecot():
    server = Dovecot()
    yield server
    server.remove()


@pytest.fixture(autouse=True)
def _login(dovecot):
    """Postfix asks Dovecot."""


def test_a_smarthost_that_wants_a_login(office, postfix, submit):
    submit(TEXT, "joe@smarthost.example")
    sent = office.wait_for(r" sent .*to=<joe@smarthost.example> .*").string
    assert 'tls="TLSv1.3' in sent
    assert "via=mx.login.example[" in sent
    assert text_of(*postfix.received("joe@smarthost.example")) == TEXT


def test_a_wrong_password_is_ours_to_mend(office, postfix, submit, ann, queue):
    """The mail waits, the log has an alarm, nothing is returned."""
    submit(TEXT, "joe@refused.example")
    alarm = office.wait_for(r"error\] smarthost-login-refused .*").string
    assert "to=wrong reply=" in alarm
    assert "authentication failed" in alarm.lower()
    assert "destination-down to=wrong" in office.wait_for(r" destination-down .*").string
    office.wait_for(r" deferred .*to=<joe@refused.example> .*535 5.7.8 .*phase=auth")
    [waiting] = json.loads(queue("list", "--to", "refused.example", "--json"))["messages"]
    assert "535" in json.dumps(waiting)
    assert office.collect(ann) == []


def test_a_neighbour_that_speaks_lmtp(office, dovecot, submit, ann):
    message = submit(TEXT, "joe@lmtp.example", "eve@lmtp.example")
    office.wait_for(f" left-queue id={message} ")
    for name in ("joe", "eve"):
        [found] = dovecot.kept(name)
        assert text_of(found) == TEXT
        assert b" with LMTP" in found
    assert office.collect(ann) == []
