"""Senders of forwards are rewritten, and what comes back finds them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.address import Address
from postoffice.outbound.srs import DAYS, NotRewritten, SenderRewriting, is_rewritten

NOW = 1_795_000_000.0
DAY = 86400
SRS = SenderRewriting([b"secret", b"older"])
ANN = Address.parse("Ann.Smith@example.org")
OURS = "ours.example"


def rewritten(sender, srs=SRS, now=NOW):
    address = srs.rewritten(Address.parse(sender), OURS, now)
    assert address is not None
    assert address.domain == OURS
    assert is_rewritten(address)
    return address


def test_a_sender_is_rewritten_and_found_again():
    address = rewritten("Ann.Smith@example.org")
    assert address.local.startswith("SRS0=")
    assert address.local.endswith("=example.org=Ann.Smith")
    assert SRS.original(address, NOW) == ANN


def test_letter_case_may_change_on_the_way():
    address = rewritten("ann@example.org")
    for local in (address.local.lower(), address.local.upper()):
        assert SRS.original(Address(local, OURS), NOW).normal == "ann@example.org"


@pytest.mark.parametrize("lookalike", ["K\u212a", "S\u017f"])
def test_letters_that_only_unicode_folds_are_refused(lookalike):
    letter, other = lookalike
    days = (n * DAY for n in range(2000))
    now = next(n for n in days if letter in rewritten("a@b.example", now=n).local.split("=")[2])
    name, signature, day, rest = rewritten("a@b.example", now=now).local.split("=", 3)
    changed = "=".join((name, signature, day.replace(letter, other), rest))
    with pytest.raises(NotRewritten):
        SRS.original(Address(changed, OURS), now)


def test_an_address_holds_for_three_weeks():
    address = rewritten("ann@example.org")
    assert SRS.original(address, NOW + DAYS * DAY)
    with pytest.raises(NotRewritten, match="expired"):
        SRS.original(address, NOW + (DAYS + 1) * DAY)
    with pytest.raises(NotRewritten, match="expired"):
        SRS.original(address, NOW - DAY)


def test_old_secrets_verify_and_the_first_signs():
    old, new = SenderRewriting([b"older"]), SenderRewriting([b"secret"])
    assert SRS.original(rewritten("ann@example.org", old), NOW)
    assert new.original(rewritten("ann@example.org"), NOW)
    with pytest.raises(NotRewritten, match="signature"):
        new.original(rewritten("ann@example.org", old), NOW)


@pytest.mark.parametrize(
    "change", [("example.org", "example.com"), ("ann", "bob"), ("SRS0", "SRS1")]
)
def test_a_changed_address_is_refused(change):
    address = rewritten("ann@example.org")
    with pytest.raises(NotRewritten):
        SRS.original(Address(address.local.replace(*change), OURS), NOW)


@pytest.mark.parametrize("separator", "=+-")
def test_the_sender_of_another_forwarder_leads_back_to_that_forwarder(separator):
    other = f"SRS0{separator}abcd=TT=example.org=ann@other.example"
    first = rewritten(other)
    assert first.local.startswith("SRS1=")
    assert SRS.original(first, NOW) == Address.parse(other)
    third = SenderRewriting([b"third"])
    again = third.rewritten(first, "third.example", NOW)
    assert again is not None
    assert third.original(again, NOW) == Address.parse(other)


def test_a_sender_that_gets_too_long_has_no_such_address():
    assert SRS.rewritten(Address("a" * 40, "a-long-domain.example.org"), OURS, NOW) is None


@given(st.text(max_size=80))
def test_any_text_is_refused_in_order(text):
    for local in (text, f"SRS0={text}", f"SRS1={text}", f"SRS0=abcd=TT={text}"):
        with pytest.raises(NotRewritten):
            SRS.original(Address(local, OURS), NOW)


@pytest.fixture
def postsrsd(tmp_path):
    """Debian's postsrsd with our secret: asks it to undo a rewriting."""
    if shutil.which("postsrsd") is None:
        pytest.skip("postsrsd is not installed")
    (tmp_path / "secrets").write_text("secret\n")
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    options = [f"-s{tmp_path}/secrets", f"-d{OURS}", f"-p{tmp_path}/pid", "-l127.0.0.1", "-4"]
    subprocess.run(["postsrsd", "-D", *options, f"-f{ports[0]}", f"-r{ports[1]}"], check=True)

    def ask(port, address):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(f"get {address}\n".encode())
            return connection.recv(1000).decode().strip()

    yield lambda forward, address: ask(ports[0 if forward else 1], address)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)


def test_postsrsd_reads_our_addresses_and_we_read_its(postsrsd):
    now = time.time()
    address = rewritten("Ann.Smith@example.org", now=now)
    assert postsrsd(False, address) == "200 Ann.Smith@example.org"
    code, _, theirs = postsrsd(True, "ann@example.org").partition(" ")
    assert code == "200"
    assert SRS.original(Address.parse(theirs), now).normal == "ann@example.org"
    other = "SRS0=abcd=TT=example.org=ann@other.example"
    assert postsrsd(False, rewritten(other, now=now)) == f"200 {other}"
    theirs = postsrsd(True, other).partition(" ")[2]
    assert SRS.original(Address.parse(theirs), now) == Address.parse(other)
