"""Dovecot's passwd-file: what is taken from it, and what is wrong with it."""

from __future__ import annotations

import textwrap
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.accounts.passwd_file import PROBLEMS, PasswdFile
from postoffice.accounts.passwords import verify
from postoffice.model.address import RECEIVE_ONLY, Account, Quota
from postoffice.model.errors import StartupError
from postoffice.protocol.scram import derive

SHA = "{SHA}Be4hqlAFIiNimj/hH0EB+FoZW3Y="
TEA = "grüner Tee".encode()
ANN = "ann@example.net"


def read(text, **how):
    octets = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return PasswdFile(**how).parse("passwd", octets)


def account(line, **how):
    (found,) = read(line, **how).entries.values()
    return found


def with_extra(text):
    return account(f"{ANN}:{SHA}::::::{text}")


def complaints(text, **how):
    with pytest.raises(StartupError) as caught:
        read(text, **how)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "line",
    [
        f"{ANN}:{SHA}",
        f"Ann@Example.NET:{SHA}\n",
        f"{ANN}:{SHA}::::::",
        f"{ANN}:{SHA}:1000:1000::/home/ann",
        f"{ANN}:{SHA}:1000:1000:Ann Lee:/home/ann:/bin/sh:userdb_mail=maildir:~/Mail",
        f"# a comment: with a colon\n\n  \n{ANN}:{SHA}::::::nodelay=y\n",
    ],
)
def test_a_line_is_an_account(line):
    assert account(line) == Account(ANN, ANN, SHA)


def test_users_without_a_domain_are_in_the_one_that_the_configuration_names():
    assert account(f"ann:{SHA}", domain="example.net").address == ANN
    found = read(f"ann:{SHA}\nbob@example.org:", domain="example.net")
    assert set(found.entries) == {ANN, "bob@example.org"}
    assert set(found.domains) == {"example.net", "example.org"}
    assert set(read("", domain="example.net").domains) == {"example.net"}
    assert read("").domains == {}


def test_a_password_without_a_scheme_has_the_one_that_the_configuration_names():
    for text in ("$1$tdAdrSAH$Fu5SD7CPWBwc7VwU6Fkfc.", "5UEC.YswLNazM", SHA):
        assert verify(account(f"{ANN}:{text}").secret, TEA)
    assert verify(account(f"{ANN}:grüner Tee", scheme="PLAIN").secret, TEA)
    assert verify(account(f"{ANN}:{SHA[5:]}", scheme="SHA").secret, TEA)


@pytest.mark.parametrize("text", ["", "*", "x", "!", "!!", "!$1$tdAdrSAH$Fu5SD7CPWBwc7VwU6Fkfc."])
def test_an_account_may_have_no_password(text):
    assert account(f"{ANN}:{text}::::::") == Account(ANN, ANN)


def test_a_password_in_clear_is_a_shared_secret_too_and_scrams_keys_are_scrams():
    found = account(f"{ANN}:{{PLAIN}}grüner Tee")
    assert (found.shared, found.scram) == ("grüner Tee", None)
    keys = derive(TEA, b"salt", 4096)
    _, iterations, salt, stored, server = str(keys).replace("$", ":").split(":")
    found = account(f"{ANN}:{{SCRAM-SHA-256}}{iterations},{salt},{stored},{server}")
    assert (found.shared, found.scram) == (None, str(keys))


@pytest.mark.parametrize(
    ("extra", "quota"),
    [
        ("userdb_quota_rule=*:storage=1G", Quota(1 << 30)),
        ("userdb_quota_rule=*:storage=5M:messages=1000", Quota(5 << 20, 1000)),
        ("userdb_quota_rule=*:storage=100", Quota(100 << 10)),
        ("userdb_quota_rule=*:storage=100B", Quota(100)),
        ("userdb_quota_rule=*:bytes=100", Quota(100)),
        ("userdb_quota_rule=*:bytes=2GB", Quota(2 << 30)),
        ("userdb_quota_rule=*:messages=0", Quota(None, 0)),
        ("userdb_quota_rule=*:ignore", Quota(0, 0)),
        ("userdb_quota_rule=*:storage=1G userdb_quota_rule2=Trash:storage=+100M", Quota(1 << 30)),
        ("userdb_quota_storage_size=1G userdb_quota_message_count=7", Quota(1 << 30, 7)),
        ("userdb_quota_storage_size=1000", Quota(1000)),
    ],
)
def test_a_quota_rule_is_the_quota(extra, quota):
    assert with_extra(extra).quota == quota


def test_nologin_leaves_the_mail_coming():
    for extra in ("nologin", "nologin=y", "nologin reason=on_leave"):
        assert with_extra(extra).state == RECEIVE_ONLY
    assert with_extra("nologin=no").enabled


def test_allow_nets_are_the_networks():
    found = with_extra("allow_nets=192.0.2.7,198.51.100.1/24,2001:db8::/32,local")
    assert found.networks == ("192.0.2.7/32", "198.51.100.0/24", "2001:db8::/32", "local")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (ANN, "no colon: is it half a line?"),
        (f"{ANN}:{SHA}:1000", "it has 3 fields"),
        (f"{ANN}:{SHA}:1000:1000", "it has 4 fields"),
        (f"{ANN}:{{SHA}}Be4hqlAF", "a hash of SHA does not have 6 octets"),
        (f":{SHA}", "the user is missing"),
        (f"ann:{SHA}", "ann has no domain; write ann@DOMAIN"),
        (f"ann@:{SHA}", "is not an address"),
        (f"ann@exa mple.net:{SHA}", "is not a domain"),
        (f"{ANN}:secret", "crypt(3)"),
        (f"{ANN}:{{ROT13}}x", "ROT13 is not known"),
        (f"{ANN}:$6$rounds=999999999$abc$" + "a" * 86, "rounds 999999999"),
        (f"{ANN}:{SHA}\r", "CRLF"),
        (f"\ufeff{ANN}:{SHA}", "byte order mark (BOM)"),
        (f"{ANN}:\udcff", "not UTF-8: the octet 0xFF"),
        (f"{ANN}:x\0y", "control characters"),
        (f"{ANN}:" + "x" * 10_000, "over 8192 octets"),
        (f"{ANN}:{SHA}::::::nopassword", "nopassword is not supported"),
        (f"{ANN}:{SHA}::::::proxy=y host=mail", "proxy is not supported"),
        (f"{ANN}:{SHA}::::::allow_nets=everywhere", "allow_nets: 'everywhere'"),
        (f"{ANN}:{SHA}::::::userdb_quota_rule=*:storage=+10%", "storage=+10%"),
        (f"{ANN}:{SHA}::::::userdb_quota_storage_size=", "bytes="),
    ],
)
def test_what_is_wrong_has_its_line(line, why):
    (complaint,) = complaints(f"bob@example.net:{SHA}\n{line}\n")
    assert complaint.startswith("passwd:2: ")
    assert why in complaint
    assert SHA[5:] not in complaint


def test_the_manuals_example_is_read():
    text = (Path(__file__).parents[2] / "docs/directories.rst").read_text()
    example = text.split("``user:password``::\n")[1].split("\n\nThe fields")[0]
    found = read(textwrap.dedent(example)).entries
    assert found["carl@example.net"].quota == Quota(1 << 30)
    assert all(verify(found[f"{who}@example.net"].secret, TEA) for who in ("ann", "bob"))


def test_nobody_stands_in_it_twice():
    assert complaints(f"{ANN}:{SHA}\n# a\nANN@example.NET:*\n{ANN}:*") == [
        f"passwd:{line}: {ANN} stands in line 1 already" for line in (3, 4)
    ]


def test_many_mistakes_are_told_of_in_few_lines():
    found = complaints("x\n" * 1000)
    assert len(found) == PROBLEMS + 1
    assert found[-1] == "passwd: 980 more lines are wrong"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_octets_are_read_or_refused(octets):
    with suppress(StartupError):
        assert all(name == one.address for name, one in read(octets).entries.items())
