"""Balancers that say by the PROXY protocol for whom they speak, and others who try."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from contextlib import suppress

import pytest

BALANCER, STRANGER = "127.0.0.2", "127.0.0.4"
TEXT = b"Subject: x\r\n\r\nx\r\n"


def version_2(source: str, command: int = 1, more: bytes = b"") -> bytes:
    """The header of version 2 for a client of this address."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    addresses = socket.inet_pton(family, source) * 2 + struct.pack("!HH", 4000, 25) + more
    kind = 0x21 if family == socket.AF_INET6 else 0x11
    head = b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x20 | command, kind])
    return head + struct.pack("!H", len(addresses)) + addresses


#: What a balancer says, and who the client is then.
HEADERS = {
    "version 1": (b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 25\r\n", "192.0.2.7"),
    "version 1, IPv6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 4000 25\r\n", "2001:db8::7"),
    "version 1, unknown": (b"PROXY UNKNOWN\r\n", BALANCER),
    "version 2": (version_2("192.0.2.8"), "192.0.2.8"),
    "version 2, IPv6": (version_2("2001:db8::8"), "2001:db8::8"),
    "version 2, IPv4 in IPv6": (version_2("::ffff:192.0.2.9"), "192.0.2.9"),
    "version 2, with extensions": (version_2("192.0.2.10", more=b"\x04\0\1x"), "192.0.2.10"),
    "version 2, local": (version_2("192.0.2.8", command=0), BALANCER),
}
#: What is no header, or a wrong one.
WRONG = {
    "none": b"EHLO pc.example.org\r\n",
    "TLS": b"\x16\x03\x01\x02\0\1\0",
    "version 1, too long": b"PROXY TCP4 " + b"1" * 100,
    "version 1, no address": b"PROXY TCP4 pc.example.org 198.51.100.1 4000 25\r\n",
    "version 1, of IPv6": b"PROXY TCP4 2001:db8::7 2001:db8::1 4000 25\r\n",
    "version 2, of 3": version_2("192.0.2.8").replace(b"\x21", b"\x31"),
    "version 2, cut short": version_2("192.0.2.8")[:14] + b"\0\4\1\2\3\4",
    "version 2, endless": version_2("192.0.2.8")[:14] + b"\xff\xff",
}
IMPLICIT = ("submissions", "pop3s")


@pytest.fixture
def trusted_client(raw, whole_office, trusted):
    """A client of a service, greeted, whose connection began with these octets; by TLS or not."""

    def client(service: str, header: bytes, source: str):
        client = raw(whole_office.ports[service], source)
        client.say(header)
        if service in IMPLICIT:
            client.begin_tls(trusted)
        assert client.reply().startswith((b"220 ", b"+OK "))
        return client

    return client


@pytest.mark.parametrize(("header", "who"), HEADERS.values(), ids=HEADERS)
def test_the_client_is_who_the_balancer_says(whole_office, trusted_client, header, who):
    account = whole_office.new_account()
    literal = f"[IPv6:{who}]" if ":" in who else f"[{who}]"
    with trusted_client("smtp", header, BALANCER) as client:
        client.ask(b"EHLO pc.example.org")
        client.ask(b"MAIL FROM:<a@example.org>")
        client.ask(b"RCPT TO:<%s>" % account.address.encode())
        client.ask(b"DATA")
        assert client.ask(TEXT + b".").startswith(b"250 ")
        assert client.ask(b"QUIT").startswith(b"221 ")
    whole_office.wait_for(
        rf"message-taken .* client={who} .*sender=<a@example\.org> .*to=<{account.address}> "
    )
    whole_office.wait_for(f"session-ended .* client={who} .*taken=1 ")
    (message,) = whole_office.collect(account)
    assert f"Received: from pc.example.org ({literal})\r\n".encode() in message


@pytest.mark.parametrize("service", IMPLICIT)
@pytest.mark.parametrize("header", [HEADERS["version 1"], HEADERS["version 2"]], ids=["1", "2"])
def test_the_header_comes_before_tls(whole_office, trusted_client, service, header):
    octets, who = header
    account = whole_office.new_account()
    with trusted_client(service, octets, BALANCER) as client:
        if service == "pop3s":
            client.ask(b"USER " + account.address.encode())
            assert client.ask(b"PASS " + account.password.encode()).startswith(b"+OK 0 ")
        assert client.ask(b"QUIT").startswith((b"221 ", b"+OK "))
        assert client.rest() == b""
    of = f" account={account.address} " if service == "pop3s" else " taken="
    whole_office.wait_for(f"session-ended .* service={service} client={who} .*{of}")


def test_a_client_from_afar_has_no_private_link_with_us(trusted_client):
    """The balancer's own is on this machine; the client's is not."""
    with trusted_client("pop3", HEADERS["version 2"][0], BALANCER) as client:
        assert client.ask(b"USER joe@example.net").startswith(b"-ERR ")
    with trusted_client("pop3", HEADERS["version 2, local"][0], BALANCER) as client:
        assert client.ask(b"USER joe@example.net").startswith(b"+OK")


def test_what_follows_the_header_at_once_is_obeyed(whole_office, raw):
    with raw(whole_office.smtp, BALANCER) as client:
        client.say(HEADERS["version 1"][0] + b"EHLO pc\r\nQUIT\r\n")
        assert client.reply().startswith(b"220 ")
        assert client.reply().startswith(b"250-")
        assert client.rest().startswith(b"221 ")


def test_a_header_may_come_octet_by_octet(whole_office, raw):
    for octets, _ in (HEADERS["version 1"], HEADERS["version 2"]):
        with raw(whole_office.smtp, BALANCER) as client:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for octet in octets:
                client.say(bytes([octet]))
            assert client.reply().startswith(b"220 ")


def heard(client) -> bytes:
    """What comes until the other side closes, or cuts the link."""
    with suppress(ConnectionError):
        return client.rest()
    return b""


@pytest.mark.parametrize("service", ["smtp", "submissions", "pop3"])
@pytest.mark.parametrize("octets", WRONG.values(), ids=WRONG)
def test_a_balancer_without_its_header_is_cut_off(whole_office, raw, service, octets):
    with raw(whole_office.ports[service], BALANCER) as client:
        client.say(octets)
        assert heard(client) == b""
    whole_office.wait_for(f'proxy-refused .* client={BALANCER} why="\\w')


@pytest.mark.parametrize("header", [HEADERS["version 1"], HEADERS["version 2"]], ids=["1", "2"])
@pytest.mark.parametrize("service", ["smtp", "pop3"])
def test_nobody_else_is_believed(whole_office, raw, service, header):
    """To others it is a wrong command, and who they are stays who they are."""
    octets, who = header
    with raw(whole_office.ports[service], STRANGER) as client:
        assert client.hear()[0].startswith((b"220 ", b"+OK "))
        client.say(octets + b"\r\nQUIT\r\n")
        *refused, goodbye = heard(client).splitlines()
        assert refused
        assert all(line.startswith((b"5", b"-ERR")) for line in refused)
        assert goodbye.startswith((b"221 ", b"+OK "))
    end = whole_office.wait_for(rf"session-ended .* client={STRANGER} ")
    assert who not in end.string


def test_nobody_else_says_it_before_tls(whole_office, raw):
    with raw(whole_office.ports["submissions"], STRANGER) as client:
        client.say(HEADERS["version 1"][0])
        assert not heard(client).startswith(b"220")
    whole_office.wait_for(f"tls-failed .* client={STRANGER} why=")


@pytest.mark.parametrize(("version", "family"), [("1", "TCP4"), ("2", "AF_INET")])
def test_swaks_as_a_balancer(whole_office, tmp_path, version, family):
    if not shutil.which("swaks"):
        pytest.skip("swaks is not installed")
    account = whole_office.new_account()
    words = ["swaks", "--server", "127.0.0.1", "--port", str(whole_office.ports["smtp"])]
    words += ["--local-interface", BALANCER, "--tls", "--from", "a@example.org"]
    words += ["--to", account.address, "--proxy-version", version, "--proxy-source", "192.0.2.77"]
    words += ["--proxy-source-port", "4000", "--proxy-dest", "198.51.100.1"]
    words += ["--proxy-dest-port", "25", "--proxy-family", family]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (message,) = whole_office.collect(account)
    assert b" ([192.0.2.77])\r\n" in message
    assert b" with ESMTPS id " in message
