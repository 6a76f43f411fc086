"""TLS by clients that others wrote, and by those that mean harm, against the live post office."""

from __future__ import annotations

import os
import poplib
import re
import smtplib
import ssl
import subprocess
import warnings
from contextlib import contextmanager, suppress

import pytest

from postoffice.cli import self_signed

TEXT = b"Subject: x\r\n\r\nin private\r\n"
#: Services where TLS begins in the middle, and what a client says first there.
STARTTLS = {"smtp": b"EHLO pc", "submission": b"EHLO pc", "lmtp": b"LHLO pc"}
#: Those where it comes before the first word, and what is said then.
IMPLICIT = {"submissions": b"220 ", "pop3s": b"+OK "}
NUMBERS = iter(range(10, 250))


def source() -> str:
    """An address of this machine of which the log has not told yet."""
    return f"127.0.0.{next(NUMBERS)}"


@pytest.fixture
def before_tls(raw, whole_office):
    """A client for whom the next octets are TLS."""

    @contextmanager
    def before_tls(service: str, address: str = "127.0.0.1"):
        with raw(whole_office.ports[service], address) as client:
            if service in STARTTLS:
                assert client.reply().startswith(b"220 ")
                assert b"STARTTLS\r\n" in client.ask(STARTTLS[service])
                assert client.ask(b"STARTTLS").startswith(b"220 2.0.0 ")
            yield client

    return before_tls


def credulous() -> ssl.SSLContext:
    """A client's that believes everything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def what_is_shown(client, host: str | None) -> bytes:
    """The certificate that a client gets which asks for this host."""
    client.begin_tls(credulous(), host)
    return client.socket.getpeercert(binary_form=True)


def certificate(office, host: str) -> bytes:
    """The certificate that lies in a file."""
    text = (office.folder / f"{host}.pem").read_text()
    return ssl.PEM_cert_to_DER_cert(text[: text.index("-----BEGIN PRIVATE")])


@pytest.mark.parametrize(
    ("service", "protocol"),
    [("smtp", b"ESMTPS"), ("submission", b"ESMTPSA"), ("submissions", b"ESMTPSA")],
)
def test_what_is_posted_in_private_is_collected_in_private(
    whole_office, trusted, service, protocol
):
    account = whole_office.new_account()
    port = whole_office.ports[service]
    if service == "submissions":
        client = smtplib.SMTP_SSL("localhost", port, timeout=30, context=trusted)
    else:
        client = smtplib.SMTP("localhost", port, timeout=30)
        client.starttls(context=trusted)
    with client:
        if service != "smtp":
            client.login(account.address, account.password)
        client.sendmail(account.address, [account.address], TEXT)
        assert not client.has_extn("starttls")
        assert client.has_extn("requiretls")
    port = whole_office.ports["pop3s"]
    client = poplib.POP3_SSL("localhost", port, timeout=30, context=trusted)
    client.user(account.address)
    client.pass_(account.password)
    text = b"\n".join(client.retr(1)[1])
    client.quit()
    assert b" with %s id " % protocol in text
    assert text.endswith(b"\n\nin private")


def test_a_large_message_goes_in_and_out(whole_office, trusted):
    account = whole_office.new_account()
    text = os.urandom(4 << 20).hex().encode()
    text = b"Subject: x\r\n\r\n" + re.sub(rb"(.{900})", rb"\1\r\n", text) + b"\r\n"
    with smtplib.SMTP("localhost", whole_office.smtp, timeout=30) as client:
        client.starttls(context=trusted)
        client.sendmail("a@example.org", [account.address], text)
    client = poplib.POP3_SSL("localhost", whole_office.ports["pop3s"], context=trusted)
    client.user(account.address)
    client.pass_(account.password)
    collected = b"\r\n".join(client.retr(1)[1]) + b"\r\n"
    client.quit()
    assert collected.endswith(text)


@pytest.mark.parametrize("service", [*STARTTLS, *IMPLICIT])
@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("mail.example.net", "mail.example.net"),
        ("mail.example.com", "mail.example.com"),
        ("MAIL.Example.COM", "mail.example.com"),
        ("mail.example.org", "mail.example.net"),
        (None, "mail.example.net"),
    ],
)
def test_the_host_that_a_client_names_chooses_the_certificate(
    whole_office, before_tls, service, asked, shown
):
    with before_tls(service) as client:
        assert what_is_shown(client, asked) == certificate(whole_office, shown)
        if service in IMPLICIT:
            assert client.hear()[0].startswith(IMPLICIT[service])
        else:
            assert client.ask(STARTTLS[service]).startswith(b"250-")


def only(version: str) -> ssl.SSLContext:
    """A client's that knows one version of TLS."""
    context = credulous()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # which is why 1.1 is refused
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if version < "TLSv1_2":
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_the_log_has_version_and_cipher(whole_office, before_tls, version):
    here = source()
    with before_tls("smtp", here) as client:
        client.begin_tls(only(version))
        cipher, _, _ = client.socket.cipher()
        assert client.ask(b"QUIT").startswith(b"221 ")
        assert client.rest() == b"", "TLS has its farewell, so that nobody can cut a text short"
    name = version.replace("_", ".")
    whole_office.wait_for(rf'session-ended .* client={here} tls="{name} {cipher}" .*taken=0 ')


@pytest.mark.parametrize("service", ["smtp", "pop3s"])
def test_versions_that_are_broken_are_refused_and_the_log_says_why(
    whole_office, before_tls, service
):
    here = source()
    with before_tls(service, here) as client, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        client.begin_tls(only("TLSv1_1"))
    whole_office.wait_for(f'tls-failed .* client={here} why="unsupported protocol')


def dregs(client) -> bytes:
    """All that comes until the other side closes or resets."""
    heard = b""
    with suppress(ConnectionError):
        while octets := client.socket.recv(65536):
            heard += octets
    return heard


@pytest.mark.parametrize("service", [*STARTTLS, *IMPLICIT])
@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO pc.example.org\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + b"\xff" * 100,
        b"\0" * 5000,
    ],
    ids=["a command", "HTTP", "a huge record", "zeros"],
)
def test_what_is_no_handshake_is_cut_off_and_the_log_says_why(
    whole_office, before_tls, service, octets
):
    """A plain client at the door of TLS among them: it hears no greeting."""
    here = source()
    with before_tls(service, here) as client:
        client.say(octets)
        heard = dregs(client)
    assert heard == b"" or heard.startswith(b"\x15\x03"), "nothing, or TLS's own alert"
    whole_office.wait_for(f'tls-failed .* client={here} why="(?!timed|the link|broken)\\w+ \\w+')


def test_a_client_that_goes_away_within_the_handshake_is_told_of(whole_office, before_tls):
    here = source()
    with before_tls("submissions", here) as client:
        client.say(b"\x16\x03\x01\x02\x00\x01\x00")
    whole_office.wait_for(f'tls-failed .* client={here} why="the link was closed')


@pytest.mark.parametrize("service", STARTTLS)
def test_commands_put_behind_starttls_are_not_obeyed(raw, whole_office, service):
    here, account = source(), whole_office.new_account()
    message = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<%s>\r\nDATA\r\n%s.\r\nQUIT\r\n"
    injected = message % (account.address.encode(), TEXT)
    with raw(whole_office.ports[service], here) as client:
        client.reply()
        client.say(STARTTLS[service] + b"\r\nSTARTTLS\r\n" + STARTTLS[service] + b"\r\n" + injected)
        assert client.reply().startswith(b"250-")
        assert client.rest() == b"554 5.5.1 Octets after STARTTLS; closing the connection\r\n"
    whole_office.wait_for(f"injected .* client={here} command=STARTTLS")
    assert whole_office.collect(account) == []


@pytest.mark.parametrize("service", STARTTLS)
def test_what_was_said_in_clear_does_not_count_behind_the_handshake(
    raw, whole_office, trusted, service
):
    with raw(whole_office.ports[service]) as client:
        client.reply()
        client.ask(STARTTLS[service])
        if service != "submission":
            assert client.ask(b"MAIL FROM:<a@example.org>").startswith(b"250 ")
        assert client.ask(b"STARTTLS").startswith(b"220 ")
        client.begin_tls(trusted)
        assert client.ask(b"RCPT TO:<postmaster>").startswith(b"503 ")
        again = client.ask(b"MAIL FROM:<a@example.org>")  # SMTP needs no greeting
        told = {"smtp": b"250 ", "lmtp": b"503 5.5.1 Say LHLO"}
        assert again.startswith(told.get(service, b"503 5.5.1 Say EHLO"))
        assert client.ask(b"STARTTLS").startswith(b"502 ")


def test_openssl_is_content_with_it(whole_office):
    """Another client's opinion: chain, name and version."""
    words = ["openssl", "s_client", "-connect", f"127.0.0.1:{whole_office.smtp}"]
    words += ["-starttls", "smtp", "-servername", "mail.example.com", "-verify_return_error"]
    words += ["-verify_hostname", "mail.example.com", "-brief", "-CAfile"]
    done = subprocess.run(
        [*words, str(whole_office.folder / "mail.example.com.pem")],
        input="QUIT\r\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Verification: OK" in done.stderr
    assert "Protocol version: TLSv1.3" in done.stderr


def test_new_certificates_are_taken_up_while_it_runs(furnish, start, tmp_path, raw):
    net, com = "mail.example.net", "mail.example.com"
    furnish(tmp_path)
    office = start().open()
    before = {host: certificate(office, host) for host in (net, com)}

    def shown(host: str) -> bytes:
        with raw(office.ports["pop3s"]) as client:
            return what_is_shown(client, host)

    with raw(office.ports["submissions"]) as running:
        assert what_is_shown(running, net) == before[net]
        (tmp_path / "new.pem").write_bytes(b"".join(self_signed.make([net])))
        (tmp_path / "new.pem").replace(tmp_path / f"{net}.pem")
        os.truncate(tmp_path / f"{com}.pem", 100)  # as if it were being copied
        office.wait_for(rf"{net}\.pem reloaded: for {net}, localhost, valid until \d")
        office.wait_for(rf"{com}\.pem .*; the old certificate is kept")
        assert shown(net) == certificate(office, net) != before[net]
        assert shown(com) == before[com]
        assert running.reply().startswith(b"220 ")
        assert running.ask(b"EHLO pc").startswith(b"250-")
