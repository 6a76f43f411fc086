"""App passwords at the real daemon: collected and sent with, told of, and taken away."""

from __future__ import annotations

import json
import poplib
import shutil
import smtplib
import ssl
import subprocess

import pytest

from postoffice.accounts.app_passwords import AppPasswordToken
from postoffice.model.app_password import AppPassword
from postoffice.testing import finish

JOE, PASSWORD = "joe@example.net", "his own word"


@pytest.fixture
def office(tmp_path, furnish, start):
    furnish(tmp_path)
    office = start().open()
    office.account(JOE, PASSWORD)
    yield office
    office.check()


@pytest.fixture
def ask(command):
    def ask(*words):
        done = command(*words, "--json")
        assert done.returncode == 0, done.stdout
        return json.loads(done.stdout)

    return ask


@pytest.fixture
def collect(office, tmp_path):
    """Logs in to collect; whether it may."""
    trusted = ssl.create_default_context(cafile=tmp_path / "mail.example.net.pem")

    def collect(password: str, tls: bool = True) -> bool:
        client = poplib.POP3("localhost", office.pop3, timeout=30)
        if tls:
            client.close()
            client = poplib.POP3_SSL("localhost", office.ports["pop3s"], context=trusted)
        try:
            client.user(JOE)
            client.pass_(password)
        except poplib.error_proto as error:
            return b"[AUTH]" not in error.args[0]
        finally:
            client.quit()
        return True

    return collect


@pytest.fixture
def send(office, tmp_path):
    """Logs in to send, by AUTH PLAIN over STARTTLS; whether it may."""
    trusted = ssl.create_default_context(cafile=tmp_path / "mail.example.net.pem")

    def send(password: str) -> bool:
        with smtplib.SMTP("localhost", office.ports["submission"], timeout=30) as client:
            client.starttls(context=trusted)
            client.user, client.password = JOE, password
            client.ehlo()
            try:
                client.auth("PLAIN", client.auth_plain)
            except smtplib.SMTPAuthenticationError:
                return False
            return client.mail(JOE)[0] == 250

    return send


def by_scram(office, folder, password: str) -> int:
    """Sends with msmtp, by SCRAM: its exit status."""
    words = ["msmtp", "--file=/dev/null", "--host=localhost", f"--from={JOE}", f"--user={JOE}"]
    words += [f"--port={office.ports['submission']}", "--auth=scram-sha-256", "--tls=on"]
    words += [f"--tls-trust-file={folder}/mail.example.net.pem", f"--passwordeval=echo {password}"]
    done = subprocess.run([*words, JOE], input=b"Subject: x\r\n\r\nx\r\n", timeout=60)
    return done.returncode


def add(office, name: str, **how) -> str:
    """A device, made as the command makes it, but without keys: its password."""
    password = AppPasswordToken.generate()
    with office.directory() as directory:
        device = AppPassword(name, password.id, password.digest, **how)
        assert finish(directory.add_app_password(JOE, device))
    return password.text


def test_devices_collect_and_send_where_they_may(office, ask, collect, send, tmp_path):
    phone = ask("account", "device", "add", JOE, "phone")["generated_password"]
    scanner = add(office, "scanner", protocol="smtp")
    elsewhere = add(office, "elsewhere", networks=("192.0.2.0/24",))
    assert collect(phone)
    assert collect(phone.upper().replace("-", ""), tls=False)
    assert collect(PASSWORD)
    assert not collect(scanner)
    assert send(scanner)
    assert not send(elsewhere)
    if shutil.which("msmtp"):
        assert by_scram(office, tmp_path, phone) == 0
    with office.directory() as directory:
        assert finish(directory.remove_app_password(JOE, "scanner"))
    assert not send(scanner)
    office.stop()  # what waits to be written is written now
    shown = ask("account", "show", JOE)
    last = {one["name"]: one["last_login"] for one in shown["devices"]}
    assert last["elsewhere"] is None
    assert last["phone"]["tls"].startswith("TLSv1.") or not shutil.which("msmtp")
    assert shown["last_login"]["service"] == "pop3s"
    (plain,) = ask("report", "logins")["plaintext"]
    assert (plain["account"], plain["device"], plain["service"]) == (JOE, "phone", "pop3")
    for password in (phone, scanner, elsewhere, PASSWORD):
        assert password not in office.said
