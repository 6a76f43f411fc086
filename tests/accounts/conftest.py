"""A checker that slows down wrong passwords, and its clock."""

from __future__ import annotations

import argon2
import pytest
from twisted.internet.task import Clock

from postoffice.accounts import passwords
from postoffice.model.errors import TemporaryFailure
from tests.accounts.slowed import Office


@pytest.fixture
def runs(monkeypatch):
    """Each run of the hash; here the hash of a password is the password and a colon."""
    seen = []

    def verify(secret, password):
        seen.append(password)
        if password == b"no memory":
            raise TemporaryFailure("no memory")
        return secret == password.decode() + ":"

    monkeypatch.setattr(passwords, "verify", verify)
    return seen


@pytest.fixture
def hashes_verified(monkeypatch):
    """The stored hashes that argon2 was asked to verify."""
    seen = []
    real = argon2.PasswordHasher.verify

    def watched(self, secret, password):
        seen.append(secret)
        return real(self, secret, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", watched)
    return seen


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def office(tmp_path, clock, runs):
    office = Office(str(tmp_path / "logins.db"), clock)
    yield office
    office.login_db.close()
