"""SCRAM-SHA-256 (RFC 5802, 7677): the keys that are stored for a password, and SASLprep."""

from __future__ import annotations

import hmac
import re
import secrets
import stringprep
import unicodedata
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import pbkdf2_hmac, sha256
from typing import Self

#: Rounds of PBKDF2 for new keys; RFC 7677 §4 asks for 4096 at least.
ITERATIONS = 100_000
SALT = 16  # octets
_TEXT = re.compile(
    r"SCRAM-SHA-256\$([1-9][0-9]{0,8}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)\Z"
)


@dataclass(frozen=True)
class Salt:
    """What the server sends to a client, so that it can make its proof."""

    salt: bytes
    iterations: int


@dataclass(frozen=True)
class Keys:
    """
    The keys stored for a password: enough to verify a client, not to log in as one.

    Their text form is ``SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey``, with
    salt and keys in base64 (RFC 5803).
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text form.  Raises ValueError."""
        found = _TEXT.match(text)
        if found is None:
            raise ValueError("no SCRAM-SHA-256 keys")
        try:
            salt, stored, server = (b64decode(found[n], validate=True) for n in (2, 3, 4))
        except NotBase64:
            raise ValueError("no SCRAM-SHA-256 keys") from None
        if len(stored) != 32 or len(server) != 32 or not salt:
            raise ValueError("no SCRAM-SHA-256 keys")
        return cls(salt, int(found[1]), stored, server)

    @classmethod
    def read(cls, text: str | None) -> Self | None:
        """Parse the text form; None if there is no text, or if it is not valid."""
        try:
            return None if text is None else cls.parse(text)
        except ValueError:
            return None

    def __str__(self) -> str:
        salt, stored, server = (
            b64encode(octets).decode() for octets in (self.salt, self.stored_key, self.server_key)
        )
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


def derive(password: bytes, salt: bytes | None = None, iterations: int = ITERATIONS) -> Keys:
    """Make the keys of a password, with a random salt by default; it is slow on purpose."""
    return client_keys(password, salt or secrets.token_bytes(SALT), iterations)[1]


def client_keys(password: bytes, salt: bytes, iterations: int) -> tuple[bytes, Keys]:
    """Make the ClientKey, which only a client needs (RFC 5802 §3), and the keys."""
    salted = pbkdf2_hmac("sha256", prepared(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return client_key, Keys(salt, iterations, sha256(client_key).digest(), server_key)


#: Octets of the longest name or password that is prepared: normalization is quadratic.
PREPARED_MAXIMUM = 1024


def prepared(octets: bytes) -> bytes:
    """SASLprep (RFC 4013), in which passwords are compared; unchanged if it does not apply."""
    if octets.isascii() or len(octets) > PREPARED_MAXIMUM:
        return octets
    try:
        return saslprep(octets.decode("utf-8")).encode("utf-8")
    except (UnicodeError, ValueError):
        return octets


_PROHIBITED: tuple[Callable[[str], bool], ...] = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str, *, query: bool = False) -> str:
    """
    Apply SASLprep (RFC 4013).  Raises ValueError for prohibited characters.

    A ``query`` may have characters that are newer than the profile (RFC 3454 §7).
    """
    mapped = "".join(
        " " if stringprep.in_table_c12(letter) else letter
        for letter in text
        if not stringprep.in_table_b1(letter)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    prohibited = _PROHIBITED if query else (*_PROHIBITED, stringprep.in_table_a1)
    if any(prohibits(letter) for letter in normal for prohibits in prohibited):
        raise ValueError("a prohibited character")
    if any(map(stringprep.in_table_d1, normal)):  # right to left: RFC 3454 §6
        ends = stringprep.in_table_d1(normal[0]) and stringprep.in_table_d1(normal[-1])
        if any(map(stringprep.in_table_d2, normal)) or not ends:
            raise ValueError("letters of both directions")
    return normal
