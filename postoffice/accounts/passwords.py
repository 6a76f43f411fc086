"""Passwords and their hashes: plain functions that take their time."""

from __future__ import annotations

import secrets
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

#: argon2id with 19 MiB, two passes, one lane: the least that OWASP calls enough.  A login may
#: come from anyone, so what it costs us is bounded too.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

#: Letters and digits that nobody mistakes for others: 4.95 bits each.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def hash_password(password: bytes) -> str:
    """The hash to keep, in PHC string form."""
    return HASHER.hash(password)


def verify(secret: str | None, password: bytes) -> bool:
    """
    Whether this is the password of that hash.

    None, for an unknown account or one without a password, takes as long as
    a wrong password and is never right.
    """
    try:
        return HASHER.verify(secret or _nobodys(), password) and secret is not None
    except (Argon2Error, InvalidHashError):
        return False


def generate_password() -> str:
    """A password for people to type once: sixteen letters in groups, 79 bits."""
    letters = "".join(secrets.choice(_LETTERS) for _ in range(16))
    return "-".join(letters[start : start + 4] for start in range(0, 16, 4))


@cache
def _nobodys() -> str:
    """A hash of the same cost that fits no password anybody has."""
    return HASHER.hash(secrets.token_bytes(32))
