"""Signatures by DKIM: others find them valid, and any change makes them invalid."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postoffice.outbound.dkim import (
    STRING,
    NotAKey,
    Signer,
    new_key,
    read_key,
    same_record,
    zone_line,
)
from postoffice.testing import cut

dkim = pytest.importorskip("dkim", reason="dkimpy is not installed")

NOW = 1_795_000_000.0
RSA = read_key("example.net", "r1", new_key("rsa"))
ED25519 = read_key("example.net", "e1", new_key("ed25519"))
RECORDS = {key.name: key.record for key in (RSA, ED25519)}
HEADER = (
    b"Received: from a\r\n\tby b\r\n"
    b"From:  Joe  <joe@example.net>\r\nTo: ann@example.org,\r\n\tbob@example.org\r\n"
    b"Subject: A  subject \t with spaces \r\nX-Other: 1\r\n"
)
BODY = b"Hello \t world  \r\n\r\n  indented\t\r\n \r\n\r\n"
MESSAGE = HEADER + b"\r\n" + BODY


def signed(message=MESSAGE, keys=(RSA, ED25519), pieces=None):
    signer = Signer()
    for piece in pieces or [message]:
        signer.feed(piece)
    return signer.fields(keys, NOW) + message


def valid(message, number=0):
    """Whether dkimpy finds a signature valid."""

    def record(name, timeout=5):
        return RECORDS.get(name.decode().rstrip("."), "").encode()

    try:
        return dkim.DKIM(message).verify(number, record)
    except dkim.ValidationError:
        return False


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    "message",
    [
        MESSAGE,
        HEADER + b"\r\n",
        HEADER + b"\r\n\r\n\r\n",
        HEADER + b"\r\nwithout an end",
        HEADER + b"To: again@example.org\r\nTO: x@example.org\r\n\r\nx\r\n",
        HEADER + b"\r\n" + "Grüße\r\n".encode() + b"\r\n" * 20_000 + b"x\r\n",
    ],
)
def test_both_signatures_are_valid(message, number):
    assert valid(signed(message), number)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Hello", b"hello"),
        (b"Joe", b"Jim"),
        (b"\r\n\r\nHello", b"\r\nSubject: another\r\n\r\nHello"),
        (b"X-Other", b"Reply-To: x@example.com\r\nX-Other"),
    ],
)
def test_a_change_makes_them_invalid(old, new, number):
    assert not valid(signed().replace(old, new, 1), number)


def test_what_relays_may_change_leaves_them_valid():
    message = signed().replace(b"A  subject \t with", b"A subject\r\n with")
    assert valid(message.replace(b"Hello \t world  \r\n", b"Hello world\r\n"))


@settings(max_examples=50, deadline=None)
@given(
    st.text(alphabet=" \ta\r\n", max_size=60),
    st.lists(st.integers(0, 250), max_size=6),
)
def test_any_body_in_any_pieces(text, places):
    body = text.replace("\r", "").replace("\n", "\r\n").encode() + b"\r\n"
    message = HEADER + b"\r\n" + body
    whole = signed(message, [ED25519])
    assert valid(whole)
    assert signed(message, [ED25519], cut(message, places)) == whole


@pytest.mark.parametrize("message", [b"", b"\r\nFrom: x\r\n", b"To: x\r\n\r\nx\r\n"])
def test_a_message_without_from_is_not_signed(message):
    assert signed(message) == message


def test_lines_are_short_and_nothing_is_left_of_the_body():
    fields = signed()[: -len(MESSAGE)]
    assert all(len(line) <= 76 for line in fields.split(b"\r\n"))
    assert b"; l=" not in fields


def test_a_record_is_split_into_strings():
    line = zone_line(RSA)
    assert line.startswith('r1._domainkey.example.net. IN TXT ( "v=DKIM1; k=rsa; p=')
    strings = line.split('"')[1::2]
    assert "".join(strings) == RSA.record
    assert len(strings) == 2
    assert max(map(len, strings)) == STRING


def test_a_record_is_the_same_however_it_is_written():
    other = "; ".join(reversed(RSA.record.split("; "))).replace("p=MII", "p=M II")
    assert same_record(other.encode(), RSA.record)
    assert not same_record(ED25519.record.encode(), RSA.record)
    assert not same_record(b"\xff", RSA.record)


@pytest.mark.parametrize("pem", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_what_is_no_key_is_refused(pem):
    with pytest.raises(NotAKey):
        read_key("example.net", "x", pem)


@pytest.mark.skipif(shutil.which("opendkim") is None, reason="opendkim is not installed")
@pytest.mark.parametrize(("change", "said"), [("", "succeeded"), ("Hello", "verification failed")])
def test_opendkim_finds_it_valid(tmp_path, change, said):
    (tmp_path / "keys").write_text(f"{RSA.name} {RSA.record}\n")
    (tmp_path / "conf").write_text(f"Mode v\nSyslog no\nTestPublicKeys {tmp_path}/keys\n")
    message = signed(keys=[RSA]).replace(change.encode(), change.lower().encode())
    (tmp_path / "message").write_bytes(message.replace(b"\r\n", b"\n"))
    command = ["opendkim", "-x", str(tmp_path / "conf"), "-v", "-t", str(tmp_path / "message")]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said in verified.stdout + verified.stderr
