"""Password hashes that others have made: each scheme, its bounds, and what is refused."""

from __future__ import annotations

import base64
import shutil
import subprocess
import threading

import argon2
import pytest
from argon2.exceptions import VerificationError
from hypothesis import given
from hypothesis import strategies as st

from postoffice.accounts import libcrypt, password_schemes
from postoffice.accounts.password_schemes import UnusableHash, read
from postoffice.accounts.passwords import NOBODYS, hash_password, is_outdated, verify
from postoffice.model.errors import TemporaryFailure
from postoffice.protocol import scram

TEA = "grüner Tee".encode()
#: Made by ``doveadm pw`` 2.3.19, by libxcrypt 4.4.33 and by libpass 1.9.4.
MADE_ELSEWHERE = """
{CRYPT}$2y$05$1DjD0u5pZe73jRwxt7wC2Omayg70DMCe7qjVaxL7g6j3b0/jm4luq
{BLF-CRYPT}$2y$05$qAj9hwdp1kl4E/eE1Y0WIeYmP3ZhLQnttAtTlc2m2EG7wqJWingZ2
{SHA512-CRYPT}$6$mhnXi5qjBi.dSpOu$UkDWkyTFqhbEDLdVJ3ktjr1Mkm/bC6c9EzSizuhA3gu8E1jS8jMFBcOGXUVabPPT4Y7q.3lOi5Htv5k/B8LZ11
{SHA256-CRYPT}$5$y6nGC3H19sMCwc1w$17a5BFrHwjahq2lDdDztmew5LzBjfDnfzletpO1VGo9
{MD5-CRYPT}$1$tdAdrSAH$Fu5SD7CPWBwc7VwU6Fkfc.
{MD5}$1$kxGi9nKz$8jhVYVINQz6TKihlT/hG7.
{DES-CRYPT}5UEC.YswLNazM
{CRYPT}5UEC.YswLNazM
{PBKDF2}$1$ypMun09U.rKfVHC2$5000$fedea065c168281b06809726c9be2912811810d1
{PBKDF2-SHA256}$pbkdf2-sha256$6400$ECJE6J1zbo1RSql1LmVMiQ$3F.sFOYcFrGSWiX4DHaXpvLPeimSYeiZHmS6xf8Bb3E
{SCRAM-SHA-256}4096,B5TUCtEIuSYOuxXd7L/EtA==,qjP1wFT2i+MMqmQrXHiv7x8ZkQsxkME9P5PIgK56IMs=,ZC4q32gSq3qe2NgIbYwZD7o+R3RJCoh0npoUI7xmyiI=
{SCRAM-SHA-1}4096,RGzsXxnHRGuc5FxTifym6Q==,G8phHBtAdKCvBHANtkX8rznsCqw=,hwMtTJV1ESxYeuoqQJO7F9T2Jb4=
{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$BfrdTM3q5LJCghkiMhEPYw$Ke00rP0RwcSCD4lEH7O4w0u+HdRo/dyYzkujFDCmsaQ
{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$S9AcHHhjvzbCSQjNNnUc2A$oTcvh2HhGH+s2are8G6NmNmhNc7jkOSM2mObACkFvn8
{SSHA}g0h8M32nW0iHEjS+/tCmKGtkwa+hshiH
{SSHA256}U+r27WBa2aLh4gQtBHLRylenIefwZJFfx9+BtGOjzbPEllCN
{SSHA512}BNJxHkanppal+PJ2BW7dibQfxOmQA8KwzoW+3cUfQ8qGw0HlyDQZKbigBAE6Q+JB8q2SUOBYbYsaXa8zEQQxusXRFh0=
{SMD5}R5aeka3cI9PKknhxq48+ej2bR+Q=
{SHA}Be4hqlAFIiNimj/hH0EB+FoZW3Y=
{SHA1}Be4hqlAFIiNimj/hH0EB+FoZW3Y=
{SHA256}aSQCUbJ9V4EzBfsKcdo6hBRtMf5z0tfE/D94cBNY8gM=
{SHA512}y+//sCibpQyd5M1lHhedccgtG0YepYnDakamFgvNixAFemCUomntBRcDIJmFELz66s111mTq3HnUmPmBxZNorA==
{PLAIN-MD5}bde517f125fc6e469e31a5792e0c550a
{LDAP-MD5}veUX8SX8bkaeMaV5LgxVCg==
{md5}veUX8SX8bkaeMaV5LgxVCg==
{PLAIN}grüner Tee
{CLEAR}grüner Tee
{cleartext}grüner Tee
{SSHA.HEX}13e861e89b0e3167b3a2c9743618dc3fd7fb20dcfadf2f4a
{SHA256.HEX}69240251b27d57813305fb0a71da3a84146d31fe73d2d7c4fc3f78701358f203
{SHA256}69240251b27d57813305fb0a71da3a84146d31fe73d2d7c4fc3f78701358f203
{SHA256.b64}aSQCUbJ9V4EzBfsKcdo6hBRtMf5z0tfE/D94cBNY8gM=
{SHA512-CRYPT.B64}JDYkYUpJNHFTMlZaL001NnRsTiRmZnF6SHltSFpCZjNlVnNOSVd0ei8xZHZYdm5icGlNMzhTOENHbTdZU1BhWVJzdDhUWU53TkljU3BvN1Yydk1Cd0VTT1I2dndlZGxIajYudHBydUtOMQ==
{PLAIN.HEX}6772c3bc6e657220546565
{PLAIN.b64}Z3LDvG5lciBUZWU=
{BLF-CRYPT.BASE64}JDJ5JDA1JHRyYWhsdGkuV2FYOFhDd3JwdmJSeWVpTy5tcU9KYnNDZXAvSjJrOGFMazcwYzQyZXh4NDF5
{CRYPT}$y$j9T$F5Jx5fExrKuPp53xLKQ..1$F8PBQg7CIXjk6PsE.L2Bee2kOlhv/XPDl3uvJjGj1c8
$y$j9T$F5Jx5fExrKuPp53xLKQ..1$F8PBQg7CIXjk6PsE.L2Bee2kOlhv/XPDl3uvJjGj1c8
{YESCRYPT}$y$j9T$F5Jx5fExrKuPp53xLKQ..1$F8PBQg7CIXjk6PsE.L2Bee2kOlhv/XPDl3uvJjGj1c8
{CRYPT}$gy$j9T$F5Jx5fExrKuPp53xLKQ..1$8geNj3OLTokO..bPk97yn9m3DgJiaKtTZXWm4K8lYG7
$2a$04$abcdefghijklmnopqrstuuhDN9lZaQIazWU09waD3/qFab6e4VqqG
$6$rounds=20000$abcdefgh$SO5PPzsK5MmzOrL5Ir9/wpMHNFf4BfF6Ah5fm4QY4YGUBWlo2hXwLm5UE0oL3R.n8n8X7Vw2L6uyRF.9D.a.u/
""".strip().splitlines()
#: What doveadm lists and we refuse.
REFUSED = {"CRAM-MD5", "HMAC-MD5", "DIGEST-MD5", "OTP", "PLAIN-MD4", "PLAIN-TRUNC"}
needs_doveadm = pytest.mark.skipif(not shutil.which("doveadm"), reason="needs Dovecot")


@pytest.mark.parametrize("secret", MADE_ELSEWHERE, ids=lambda one: one[:20])
def test_a_hash_of_others_verifies_its_password_and_no_other(secret):
    assert verify(secret, TEA)
    assert not read(secret).matches(b"x" + TEA[1:])
    assert is_outdated(secret) == (not secret.startswith("{ARGON2ID}"))


def doveadm(*words: str) -> str:
    return subprocess.run(
        ["doveadm", "pw", *words], check=True, capture_output=True, text=True
    ).stdout


@needs_doveadm
def test_all_that_dovecot_makes_is_verified_or_refused_with_a_reason():
    refused = set()
    for scheme in doveadm("-l").split():
        secret = doveadm("-s", scheme, "-u", "ann@example.net", "-p", "secret word").strip()
        try:
            assert read(secret).matches(b"secret word")
        except UnusableHash:
            refused.add(scheme)
    assert refused == REFUSED


@needs_doveadm
@pytest.mark.parametrize("encoding", ["b64", "hex", "base64"])
def test_all_encodings_of_dovecot_are_read(encoding):
    for scheme in ("SSHA512", "SHA", "MD5-CRYPT", "BLF-CRYPT", "PBKDF2", "SCRAM-SHA-256", "PLAIN"):
        secret = doveadm("-s", f"{scheme}.{encoding}", "-p", "secret word").strip()
        assert read(secret).matches(b"secret word"), secret


def test_the_hash_of_scram_has_the_keys_of_scram():
    keys = scram.derive(b"secret word", b"0123456789abcdef", 4096)
    octets = (keys.salt, keys.stored_key, keys.server_key)
    stored = read("{SCRAM-SHA-256}4096," + ",".join(base64.b64encode(o).decode() for o in octets))
    assert stored.scram == keys
    assert stored.matches(b"secret word")


def test_a_hash_in_clear_says_its_password():
    assert read("{PLAIN}grüner Tee").plain == TEA
    assert read("{PLAIN}\udcff").plain == b"\xff"
    assert read("{SSHA}g0h8M32nW0iHEjS+/tCmKGtkwa+hshiH").plain is None


@pytest.mark.parametrize(
    "secret",
    [
        "$6$rounds=999999999$abcdefgh$" + "a" * 86,
        "$5$rounds=1000001$abcdefgh$" + "a" * 43,
        "$6$rounds=0$abcdefgh$" + "a" * 86,
        "$2b$31$" + "a" * 53,
        "$2b$15$" + "a" * 53,
        "$2b$00$" + "a" * 53,
        "$y$jET$abcd$" + "a" * 43,
        "$y$jzz$abcd$" + "a" * 43,
        "$y$j9Tzzzz$abcd$" + "a" * 43,
        "$argon2id$v=19$m=4194304,t=3,p=1$c2FsdHNhbHQ$" + "a" * 43,
        "$argon2id$v=19$m=65536,t=999999999,p=1$c2FsdHNhbHQ$" + "a" * 43,
        "$argon2id$v=19$m=65536,t=3,p=255$c2FsdHNhbHQ$" + "a" * 43,
        "{PBKDF2}$1$salt$999999999$" + "a" * 40,
        "{PBKDF2-SHA256}$pbkdf2-sha256$999999999$abcd$" + "a" * 43,
        "{SCRAM-SHA-256}999999999,abcd," + "a" * 43 + "=," + "a" * 43 + "=",
        "{PLAIN}" + "x" * 2000,
    ],
)
def test_a_hash_that_costs_too_much_is_not_computed(secret):
    with pytest.raises(UnusableHash, match=r"not between|not supported|over"):
        read(secret)
    assert not verify(secret, b"x")


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("", "no {SCHEME}"),
        ("x", "no {SCHEME}"),
        ("5UEC.YswLNazM", "no {SCHEME}"),
        ("{ROT13}x", "ROT13 is not known"),
        ("{CRAM-MD5}118e3daefda758fc5ba3bc52873914a7", "shared secret"),
        ("{OTP}sha1 1024 2cf4ffaf8dad2ef6 52436f4e2a24f1d8", "one-time"),
        ("{PLAIN}", "empty"),
        ("{PLAIN.hex}00", "NUL"),
        ("{PLAIN.hex}0", "not hexadecimal"),
        ("{PLAIN}\ud800", "no text"),
        ("{SSHA}Be4hqlAFIiNimj/hH0EB+FoZW3Y=", "does not have 20 octets"),
        ("{SHA}g0h8M32nW0iHEjS+/tCmKGtkwa+hshiH", "does not have 24 octets"),
        ("{SSHA256}abcd", "does not have 3 octets"),
        ("{SSHA}ünï", "not base64"),
        ("{SHA512-CRYPT}$5$abc$" + "a" * 43, "the form of a SHA512-CRYPT hash"),
        ("{CRYPT}*", "the form of a crypt"),
        ("{CRYPT}$3$$8846f7eaee8fb117ad06bdd830b7586c", "the form of a crypt"),
        ("$6$ünï$" + "a" * 86, "the form of a crypt"),
        ("$6$abc$" + "a" * 86 + "\n", "the form of a crypt"),
        ("$argon2id$v=16$m=64,t=1,p=1$c2FsdHNhbHQ$" + "a" * 43, "the form of an argon2"),
        ("{ARGON2ID}x", "the form of an argon2"),
        ("{PBKDF2}x", "the form of a PBKDF2"),
        ("{PBKDF2-SHA256}x", "the form of a PBKDF2-SHA256"),
        ("{SCRAM-SHA-256}4096,x", "the form of a SCRAM-SHA-256"),
        ("{SCRAM-SHA-256}4096,abcd,abcd,abcd", "the form of a SCRAM-SHA-256"),
    ],
)
def test_a_hash_that_cannot_be_used_says_why(secret, why):
    with pytest.raises(UnusableHash, match=why):
        read(secret)
    assert not verify(secret, b"x")
    assert not is_outdated(secret)


@given(secret=st.text(max_size=100) | st.from_regex(r"\{[A-Z0-9-]{2,15}\}.*"), password=st.binary())
def test_no_stored_text_does_more_than_being_refused(secret, password):
    try:
        stored = read(secret)
    except UnusableHash:
        return
    stored.matches(password)


def test_what_stands_behind_a_nul_is_not_ignored():
    """In C a text ends there: a password with something behind it is another one."""
    for secret in MADE_ELSEWHERE:
        assert not read(secret).matches(TEA + b"\0x")


@pytest.mark.parametrize(
    ("function", "why"),
    [(None, "has no libcrypt, which MD5-CRYPT"), (lambda *_: b"*0", "does not know MD5-CRYPT")],
)
def test_a_system_without_that_kind_of_crypt_refuses_the_hash(monkeypatch, function, why):
    monkeypatch.setattr(libcrypt, "_crypt_r", function)
    with pytest.raises(UnusableHash, match=why):
        read("$1$tdAdrSAH$Fu5SD7CPWBwc7VwU6Fkfc.").matches(TEA)
    assert not verify("$1$tdAdrSAH$Fu5SD7CPWBwc7VwU6Fkfc.", TEA)


def test_no_memory_for_the_hash_of_others_is_not_a_wrong_password(monkeypatch):
    def fails(self, secret, password):
        raise VerificationError(password_schemes._NO_MEMORY)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", fails)
    with pytest.raises(TemporaryFailure):
        verify("$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHQ$" + "a" * 43, b"x")


def test_a_wrong_password_of_a_cheap_scheme_costs_a_run_of_ours(monkeypatch):
    seen = []
    real = argon2.PasswordHasher.verify

    def watched(self, secret, password):
        seen.append(secret)
        return real(self, secret, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", watched)
    assert not verify("{SHA}Be4hqlAFIiNimj/hH0EB+FoZW3Y=", b"x")
    assert seen == [NOBODYS]


def test_other_threads_go_on_while_libcrypt_hashes():
    """A hash must not hold the reactor: what another thread does meanwhile happens meanwhile."""
    begun, counted = threading.Event(), []

    def hash_it():
        begun.set()
        libcrypt.crypt(b"x", b"$6$rounds=200000$abc$")

    thread = threading.Thread(target=hash_it)
    thread.start()
    begun.wait()
    while thread.is_alive():
        counted.append(1)
    thread.join()
    assert len(counted) > 1000


def test_ours_and_what_is_harder_is_up_to_date():
    assert not is_outdated(hash_password(b"x"))
    assert not is_outdated("{ARGON2ID}" + hash_password(b"x"))
    weak = argon2.PasswordHasher(memory_cost=1024, time_cost=2).hash("x")
    assert is_outdated(weak)
    assert is_outdated(argon2.PasswordHasher(type=argon2.Type.I).hash("x"))
