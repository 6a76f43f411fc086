"""
Passwords: hashed by argon2id (in the PHC string form), verified also by the schemes of others.

Plain functions; they block for a while.
"""

from __future__ import annotations

import base64
import secrets

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerificationError, VerifyMismatchError

from postoffice.accounts import password_schemes
from postoffice.accounts.password_schemes import ARGON2ID, UnusableHash
from postoffice.model.errors import TemporaryFailure
from postoffice.protocol.scram import prepared

# The minimum for argon2id in OWASP's Password Storage Cheat Sheet.  Of several that are equally
# hard to attack, these parameters take the least CPU time: any client can make a mail server
# hash.  One lane, because one thread does the work.
MEMORY = 19 * 1024  # KiB
PASSES = 2
LANES = 1
SALT = 16  # octets
DIGEST = 32  # octets

#: Letters of a generated password: none that looks like another (i l 1, o 0, u v, s 5, z 2, b 6).
LETTERS = "acdefghjkmnpqrstwxyz34789"
GROUPS = 3
GROUP = 6

_HASHER = PasswordHasher(
    time_cost=PASSES,
    memory_cost=MEMORY,
    parallelism=LANES,
    hash_len=DIGEST,
    salt_len=SALT,
    type=Type.ID,
)


def _nobodys() -> str:
    """Return a hash with our parameters that belongs to no password: its digest is random."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(octets)).decode().rstrip("=")
        for octets in (SALT, DIGEST)
    )
    return f"$argon2id$v=19$m={MEMORY},t={PASSES},p={LANES}${salt}${digest}"


#: Verified instead of the hash of an unknown user, so that this takes as long.
NOBODYS = _nobodys()


def hash_password(password: bytes) -> str:
    """Hash a password in its prepared form (SASLprep), with a new salt."""
    return _HASHER.hash(prepared(password))


def verify(secret: str | None, password: bytes) -> bool:
    """
    Whether ``secret`` is a hash of this password.

    A wrong password costs at least one run of argon2id with our parameters, so it costs the
    same for None (no such user, or one without a password), for a hash that cannot be used,
    and nearly the same for a scheme that is cheaper.  The password is tried in its prepared
    form and as typed: the same letters may have different codes (RFC 6856 §2.2), and older
    hashes are of the typed form.  Raises TemporaryFailure if there is no memory for it.
    """
    normalized = prepared(password)
    return _verify(secret, normalized) or (normalized != password and _verify(secret, password))


def _verify(secret: str | None, password: bytes) -> bool:
    if secret is not None:
        try:
            stored = password_schemes.read(secret)
            if stored.matches(password):
                return True
            if stored.scheme == ARGON2ID:
                return False
        except UnusableHash:
            pass
    try:
        _HASHER.verify(NOBODYS, password)
    except VerifyMismatchError:
        return False
    except VerificationError as error:
        raise TemporaryFailure(f"a password cannot be verified: {error}") from error
    return False


def is_outdated(secret: str) -> bool:
    """Whether a new hash of the same password would be harder to attack than this one."""
    try:
        return password_schemes.read(secret).work < MEMORY * PASSES
    except UnusableHash:
        return False


def generate_password() -> str:
    """Generate a random password: 83 bits, in groups that can be read out and typed."""
    return "-".join("".join(secrets.choice(LETTERS) for _ in range(GROUP)) for _ in range(GROUPS))
