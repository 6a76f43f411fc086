"""Password hashes, and passwords drawn by lot."""

from __future__ import annotations

import math
import re

import argon2
import pytest
from argon2.exceptions import VerificationError

from postoffice.accounts import passwords
from postoffice.accounts.passwords import NOBODYS, generate_password, hash_password, verify
from postoffice.model.errors import TemporaryFailure


@pytest.mark.parametrize(
    "password", [b"secret word", b"", b"\0", b"\xff\xfe", "ünï".encode(), b"x" * 1000]
)
def test_a_password_is_known_again_and_no_other(password):
    secret = hash_password(password)
    assert verify(secret, password)
    assert not verify(secret, password + b" ")


def test_other_codes_for_the_same_letters_are_the_same_password():
    """SASLprep (RFC 4013); and a hash that was made before of the codes themselves holds on."""
    composed, apart = "s\u00fc\u00df".encode(), "su\u0308\u00df".encode()
    assert verify(hash_password(composed), apart)
    assert verify(hash_password(apart), composed)
    assert verify(argon2.PasswordHasher(memory_cost=64, time_cost=1).hash(apart), apart)


def test_two_hashes_of_a_password_differ():
    assert hash_password(b"x") != hash_password(b"x")


def test_the_hash_says_how_it_was_made():
    assert hash_password(b"x").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_the_hash_of_nobody_costs_what_ours_cost():
    parameters = argon2.extract_parameters(hash_password(b"x"))
    assert argon2.extract_parameters(NOBODYS) == parameters
    assert NOBODYS.count("$") == hash_password(b"x").count("$")
    assert len(NOBODYS) == len(hash_password(b"x"))


def test_nobody_has_a_password_and_finding_out_is_one_run(hashes_verified):
    assert not verify(None, b"x")
    assert hashes_verified == [NOBODYS]


def test_a_wrong_password_is_one_run(hashes_verified):
    secret = hash_password(b"x")
    assert not verify(secret, b"y")
    assert hashes_verified == [secret]


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "x",
        "plain text",
        "{SSHA}abcdef",
        "$2b$12$abcdefghijklmnopqrstuv",
        "$argon2id$v=19$m=19456,t=2,p=1$",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$",
        "$argon2id$broken",
        "ünï",
    ],
)
def test_what_is_no_hash_is_nobodys(secret, hashes_verified):
    for password in (b"", b"x", secret.encode()):
        assert not verify(secret, password)
    assert hashes_verified.count(NOBODYS) == 3


def test_no_memory_is_not_a_wrong_password(monkeypatch):
    def fails(self, secret, password):
        raise VerificationError("Memory allocation error")

    monkeypatch.setattr(argon2.PasswordHasher, "verify", fails)
    for secret in (None, NOBODYS):
        with pytest.raises(TemporaryFailure):
            verify(secret, b"x")


def test_generated_passwords_are_hard_to_guess_and_easy_to_read():
    found = {generate_password() for _ in range(1000)}
    assert len(found) == 1000
    assert all(re.fullmatch(r"[a-z2-9]{6}(-[a-z2-9]{6}){2}", one) for one in found)
    assert set("".join(found)) - {"-"} == set(passwords.LETTERS)
    assert not set(passwords.LETTERS) & set("il1o0uv5s2b6") - set("s")
    assert passwords.GROUPS * passwords.GROUP * math.log2(len(passwords.LETTERS)) >= 80
