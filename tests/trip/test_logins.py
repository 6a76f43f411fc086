"""Logins by clients that others wrote, and those that are refused, against the live post office."""

from __future__ import annotations

import shutil
import smtplib
import subprocess
from base64 import b64decode, b64encode
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from hashlib import sha256

import pytest

from postoffice.testing import ScramClient, finish

TEXT = "Subject: x\r\nBcc: c@example.org\r\n\r\nfrom our own user\r\n"
MECHANISMS = ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN")


@dataclass
class User:
    """One of our own, who can log in by all mechanisms."""

    address: str
    password: str
    shared: str

    def secret(self, mechanism: str) -> str:
        return self.shared if mechanism == "CRAM-MD5" else self.password


@pytest.fixture
def user(whole_office) -> User:
    account = whole_office.new_account()
    with whole_office.directory() as directory:
        finish(directory.set_shared(account.address, "a secret of its own"))
    return User(account.address, account.password, "a secret of its own")


@pytest.fixture
def program(tmp_path):
    """Runs a mail program with a message on its standard input; skips where it is missing."""

    def program(*words: str, status: int = 0) -> str:
        if not shutil.which(words[0]):
            pytest.skip(f"{words[0]} is not installed")
        done = subprocess.run(
            words, input=TEXT, capture_output=True, text=True, timeout=60, cwd=tmp_path
        )
        said = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == status, said
        return said

    return program


@pytest.fixture
def arrived(whole_office, user):
    """Says that the one message is there, and was completed as a user's own (RFC 6409 §8)."""

    def arrived(protocol: str = "ESMTPSA") -> None:
        (text,) = whole_office.collect(user)
        header, _, body = text.partition(b"\r\n\r\n")
        assert body.rstrip() == b"from our own user"
        assert f" with {protocol} id ".encode() in header
        assert b"\r\nBcc:" not in header
        assert header.count(b"Message-ID: <") == 1
        (date,) = [line[6:] for line in header.split(b"\r\n") if line.startswith(b"Date: ")]
        assert parsedate_to_datetime(date.decode())

    return arrived


# -- smtplib -------------------------------------------------------------------------


def connect(office, service: str, context) -> smtplib.SMTP:
    if service == "submissions":
        return smtplib.SMTP_SSL("localhost", office.ports[service], timeout=30, context=context)
    client = smtplib.SMTP("localhost", office.ports[service], timeout=30)
    client.starttls(context=context)
    return client


def log_in(client: smtplib.SMTP, mechanism: str, user: str, password: str) -> None:
    client.ehlo()
    client.user, client.password = user, password
    client.auth(mechanism, getattr(client, "auth_" + mechanism.lower().replace("-", "_")))


@pytest.mark.parametrize("service", ["submission", "submissions"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_smtplib(whole_office, trusted, user, arrived, service, mechanism):
    with connect(whole_office, service, trusted) as client:
        log_in(client, mechanism, user.address, user.secret(mechanism))
        client.sendmail(user.address, [user.address], TEXT)
    arrived()


def test_no_mechanism_takes_a_wrong_secret(whole_office, trusted, user):
    wrong = [
        ("PLAIN", user.address, "wrong"),
        ("LOGIN", user.address, user.shared),
        ("CRAM-MD5", user.address, user.password),
        ("PLAIN", "nobody@example.net", user.password),
    ]
    with connect(whole_office, "submission", trusted) as client:
        for mechanism, name, password in wrong:
            with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
                log_in(client, mechanism, name, password)
            assert caught.value.smtp_code == 535
            assert caught.value.smtp_error.startswith(b"5.7.8 "), "one reply, whatever is wrong"
            whole_office.wait_for(f"login-refused .* client=127.0.0.1 .*user=.*{name}")
        assert client.mail(user.address)[0] == 530
        log_in(client, "PLAIN", user.address, user.password)
        assert client.mail(user.address)[0] == 250


def test_a_client_that_guesses_is_disconnected(whole_office, trusted, user):
    with connect(whole_office, "submission", trusted) as client:
        for _ in range(5):
            with pytest.raises(smtplib.SMTPAuthenticationError):
                log_in(client, "PLAIN", user.address, "wrong")
        assert client.getreply()[0] == 421
        assert client.sock.recv(100) == b""


def test_the_login_is_in_the_log(whole_office, trusted, user):
    with connect(whole_office, "submission", trusted) as client:
        client.login(user.address, user.password)
        whole_office.wait_for(f"login id=.* account={user.address} ")


@pytest.mark.parametrize(
    "sender", ["ann@example.org", "postmaster@example.net", "nobody@example.net"]
)
def test_a_user_sends_as_himself_only(whole_office, trusted, user, sender):
    with connect(whole_office, "submissions", trusted) as client:
        client.login(user.address, user.password)
        code, text = client.mail(sender)
        assert (code, text[:6]) == (553, b"5.7.1 ")
        assert client.mail(user.address.upper())[0] == 250
        code, text = client.rcpt("ann@example.org")
        assert (code, text[:6]) == (550, b"5.7.1 ")


def test_another_user_is_another(whole_office, trusted, user):
    other = whole_office.new_account()
    with connect(whole_office, "submission", trusted) as client:
        client.login(user.address, user.password)
        assert client.mail(other.address)[0] == 553


# -- the link ------------------------------------------------------------------------


@pytest.fixture
def from_afar(raw, whole_office):
    """A client of a service whose link is public and plain, as the balancer says."""

    def from_afar(service: str):
        client = raw(whole_office.ports[service], "127.0.0.2")
        client.say(b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 587\r\n")
        return client

    return from_afar


def test_no_password_goes_over_a_public_link_in_clear(from_afar, user):
    plain = b64encode(f"\0{user.address}\0{user.password}".encode())
    with from_afar("submission") as client:
        assert client.reply().startswith(b"220 ")
        offered = client.ask(b"EHLO pc")
        assert b"STARTTLS\r\n" in offered
        assert b"AUTH" not in offered
        assert client.ask(b"AUTH PLAIN " + plain).startswith(b"538 5.7.11 ")
        assert client.ask(b"AUTH SCRAM-SHA-256").startswith(b"538 5.7.11 ")
        assert client.ask(b"MAIL FROM:<%s>" % user.address.encode()).startswith(b"530 5.7.0 ")
    with from_afar("pop3") as client:
        assert client.hear()[0].startswith(b"+OK ")
        client.say(b"CAPA\r\n")
        capabilities = iter(client.lines.readline, b".\r\n")
        assert not [line for line in capabilities if line.startswith((b"USER", b"SASL"))]
        assert client.ask(b"USER " + user.address.encode()).startswith(b"-ERR ")
        assert client.ask(b"PASS " + user.password.encode()).startswith(b"-ERR ")


def test_it_does_in_private(from_afar, trusted, user):
    plain = b64encode(f"\0{user.address}\0{user.password}".encode())
    with from_afar("submission") as client:
        client.reply()
        client.ask(b"EHLO pc")
        assert client.ask(b"STARTTLS").startswith(b"220 ")
        client.begin_tls(trusted)
        assert b"250-AUTH SCRAM-SHA-256-PLUS SCRAM" in client.ask(b"EHLO pc")
        assert client.ask(b"AUTH PLAIN " + plain).startswith(b"235 ")


@pytest.mark.parametrize("service", ["submission", "submissions"])
@pytest.mark.parametrize("between", [False, True], ids=["the office", "somebody in between"])
def test_scram_plus_shows_who_is_at_the_other_end(
    whole_office, raw, trusted, user, service, between
):
    """Somebody in between has a certificate of his own."""
    with raw(whole_office.ports[service]) as client:
        if service == "submission":
            client.reply()
            client.ask(b"EHLO pc")
            client.ask(b"STARTTLS")
        client.begin_tls(trusted)
        if service == "submissions":
            client.reply()
        assert b"AUTH SCRAM-SHA-256-PLUS " in client.ask(b"EHLO pc")
        seen = client.socket.getpeercert(binary_form=True)
        end_point = sha256(b"his" if between else seen).digest()
        gs2 = b"p=tls-server-end-point,,"
        joe = ScramClient(user.address.encode(), user.password.encode(), b"x", gs2, end_point)
        first = client.ask(b"AUTH SCRAM-SHA-256-PLUS " + b64encode(joe.first))
        said = client.ask(b64encode(joe.final(b64decode(first[4:]))))
        if between:
            assert said.startswith(b"535 5.7.8 ")
        else:
            assert b64decode(said[4:]) == joe.verdict
            assert client.ask(b"").startswith(b"235 2.7.0 ")


# -- programs ------------------------------------------------------------------------


def msmtp(office, user: User, mechanism: str, *more: str) -> list[str]:
    trusted = office.folder / "mail.example.net.pem"
    words = ["msmtp", "--file=/dev/null", "--host=localhost", f"--from={user.address}"]
    words += [
        f"--auth={mechanism.lower()}",
        f"--user={user.address}",
        f"--tls-trust-file={trusted}",
    ]
    words += ["--tls=on", f"--passwordeval=echo '{user.secret(mechanism)}'", "--timeout=30"]
    return [*words, *more, user.address]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_msmtp(whole_office, user, program, arrived, mechanism):
    port = f"--port={whole_office.ports['submission']}"
    program(*msmtp(whole_office, user, mechanism, port))
    arrived()


def test_msmtp_chooses_the_strongest_mechanism(whole_office, user, program, arrived):
    more = f"--port={whole_office.ports['submissions']}", "--tls-starttls=off", "--debug"
    said = program(*msmtp(whole_office, user, "on", *more))
    assert "AUTH SCRAM-SHA-256" in said
    arrived()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_msmtp_with_a_wrong_password(whole_office, user, program, mechanism):
    user.password = user.shared = "wrong"
    port = f"--port={whole_office.ports['submission']}"
    assert "535 5.7.8" in program(*msmtp(whole_office, user, mechanism, port), status=77)
    user.password = whole_office.PASSWORD
    assert whole_office.collect(user) == []


def curl(office, user: User, url: str, mechanism: str) -> list[str]:
    words = [
        "curl",
        "-sS",
        "--max-time",
        "30",
        "--ssl-reqd",
        "--login-options",
        f"AUTH={mechanism}",
    ]
    words += ["--cacert", str(office.folder / "mail.example.net.pem"), "-T", "-", url]
    words += ["--user", f"{user.address}:{user.secret(mechanism)}"]
    return [*words, "--mail-from", user.address, "--mail-rcpt", user.address]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_curl(whole_office, user, program, arrived, scheme, mechanism):
    service = "submissions" if scheme == "smtps" else "submission"
    url = f"{scheme}://localhost:{whole_office.ports[service]}/pc.example.org"
    program(*curl(whole_office, user, url, mechanism))
    arrived()


def test_curl_with_a_wrong_password(whole_office, user, program):
    user.password = "wrong"
    url = f"smtp://localhost:{whole_office.ports['submission']}"
    assert "Login denied" in program(*curl(whole_office, user, url, "PLAIN"), status=67)


def swaks(office, user: User, mechanism: str, *more: str) -> list[str]:
    words = ["swaks", "--server", "localhost", "--helo", "pc", "--data", "-", "--timeout", "30"]
    words += ["--from", user.address, "--to", user.address, "--auth", mechanism]
    words += ["--auth-user", user.address, "--auth-password", user.secret(mechanism)]
    words += ["--tls-verify", "--tls-ca-path", str(office.folder / "mail.example.net.pem")]
    return [*words, *more]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize(("service", "tls"), [("submission", "--tls"), ("submissions", "--tlsc")])
def test_swaks(whole_office, user, program, arrived, mechanism, service, tls):
    port = str(whole_office.ports[service])
    program(*swaks(whole_office, user, mechanism, tls, "--port", port))
    arrived()


def test_swaks_in_clear_from_this_machine(whole_office, user, program, arrived):
    port = str(whole_office.ports["submission"])
    program(*swaks(whole_office, user, "PLAIN", "--port", port))
    arrived("ESMTPA")


def test_swaks_with_a_wrong_password(whole_office, user, program):
    user.password = "wrong"
    port = str(whole_office.ports["submission"])
    said = program(*swaks(whole_office, user, "PLAIN", "--tls", "--port", port), status=28)
    assert "535 5.7.8" in said
