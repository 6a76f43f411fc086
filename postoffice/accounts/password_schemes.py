"""
Password hashes that others have made: Dovecot's ``{SCHEME}hash``, and those of /etc/shadow.

``read`` checks a stored hash before anything is computed: a hash that is malformed, or that would
keep a thread busy for many seconds, is an UnusableHash.  Verifying blocks.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode
from binascii import unhexlify
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import new, pbkdf2_hmac
from typing import TypedDict

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from argon2.low_level import ARGON2_VERSION, error_to_str

from postoffice.accounts import libcrypt
from postoffice.model.errors import TemporaryFailure
from postoffice.protocol.scram import Keys

#: The most that a stored hash may ask for: about two seconds of a slow processor.
ROUNDS_MAXIMUM = 1_000_000  # of PBKDF2, SCRAM and the SHA-2 schemes of crypt(3)
BCRYPT_MAXIMUM = 14
MEMORY_MAXIMUM = 256 << 10  # KiB, of argon2 and yescrypt
ARGON2_MAXIMUM = 1 << 20  # KiB in all passes together
LANES_MAXIMUM = 16  # of argon2; each is a thread
#: Characters of a stored hash.
LENGTH_MAXIMUM = 1024

ARGON2ID = "ARGON2ID"
_NO_MEMORY = error_to_str(-22)


class UnusableHash(ValueError):
    """No password can be verified with this stored hash; the text says why."""


@dataclass(frozen=True)
class StoredHash:
    """
    A hash that can be verified, and its scheme.

    ``work`` is the memory in KiB times the passes of argon2id, 0 for others.  ``plain`` is the
    password, if it is stored in clear.  ``scram`` are the keys, if the hash consists of
    those of SCRAM-SHA-256.
    """

    scheme: str
    matches: Callable[[bytes], bool] = field(repr=False)
    work: int = 0
    plain: bytes | None = field(default=None, repr=False)
    scram: Keys | None = field(default=None, repr=False)


_PREFIX = re.compile(r"\{([A-Za-z0-9-]{1,20})(?:\.(b64|base64|hex))?\}", re.IGNORECASE)


def read(secret: str) -> StoredHash:
    """
    Parse a stored hash: ``{SCHEME}hash``, ``{SCHEME.b64}``, ``{SCHEME.hex}``, or ``$id$hash``.

    Raises UnusableHash, whose text does not contain the hash.
    """
    if len(secret) > LENGTH_MAXIMUM:
        raise UnusableHash(f"it has over {LENGTH_MAXIMUM} characters")
    found = _PREFIX.match(secret)
    if found is None:
        if not secret.startswith("$"):
            raise UnusableHash("it begins with no {SCHEME}")
        return _read_text("CRYPT", secret)
    scheme, encoding, text = found[1].upper(), (found[2] or "").lower(), secret[found.end() :]
    if scheme == "MD5" and not text.startswith("$1$"):  # as in RFC 2307
        scheme = "LDAP-MD5"
    if scheme in _DIGESTS:
        return _read_digest(scheme, text, encoding)
    if encoding:
        text = _decoded(text, encoding).decode("utf-8", "surrogateescape")
    return _read_text(scheme, text)


class PasswordFields(TypedDict, total=False):
    """The fields of an account that a stored password sets."""

    secret: str
    shared: str
    scram: str


def password_fields(secret: str) -> PasswordFields:
    """
    Return what an account gets from a stored hash.

    A password in clear is good for CRAM-MD5 and APOP too, the keys of SCRAM for SCRAM.
    Raises UnusableHash.
    """
    stored = read(secret)
    found: PasswordFields = {"secret": secret}
    if stored.plain is not None:
        found["shared"] = stored.plain.decode("utf-8", "surrogateescape")
    if stored.scram is not None:
        found["scram"] = str(stored.scram)
    return found


def is_none(text: str) -> bool:
    """Whether a stored password says that there is none, as in /etc/passwd and /etc/shadow."""
    return text in ("", "*", "x") or text.startswith("!")


def fields_elsewhere(text: str | None, scheme: str) -> PasswordFields:
    """
    Return what an account gets from a password in another program's database.

    A password without a scheme has ``scheme``.  A hash that cannot be used is kept: only logins
    fail, and the log has the reason.
    """
    if text is None or is_none(text):
        return {}
    secret = text if text.startswith(("{", "$")) else f"{{{scheme}}}{text}"
    try:
        return password_fields(secret)
    except UnusableHash:
        return {"secret": secret}


def _read_text(scheme: str, text: str) -> StoredHash:
    if scheme in ("CRYPT", "ARGON2I", ARGON2ID) and text.startswith("$argon2"):
        return _read_argon2(text)
    if scheme in _CRYPT or scheme == "CRYPT":
        return _read_crypt(scheme, text)
    reader = _READERS.get(scheme)
    if reader is None:
        raise UnusableHash(_UNSUPPORTED.get(scheme, f"the scheme {scheme} is not known"))
    return reader(text)


def _decoded(text: str, encoding: str) -> bytes:
    try:
        return unhexlify(text) if encoding == "hex" else b64decode(text, validate=True)
    except ValueError:  # binascii.Error too
        raise UnusableHash(
            f"it is not {'hexadecimal' if encoding == 'hex' else 'base64'}"
        ) from None


def _octets(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UnusableHash("it is no text") from None


def _bounded(what: str, value: int, maximum: int) -> int:
    if not 0 < value <= maximum:
        raise UnusableHash(f"{what} {value} is not between 1 and {maximum}")
    return value


# -- digests, with salt and without ----------------------------------------------------

#: The algorithm of each scheme, and whether a salt follows the digest.
_DIGESTS = {
    "PLAIN-MD5": ("md5", False),
    "LDAP-MD5": ("md5", False),
    "SMD5": ("md5", True),
    "SHA": ("sha1", False),
    "SHA1": ("sha1", False),
    "SSHA": ("sha1", True),
    **{f"{s}SHA{n}": (f"sha{n}", bool(s)) for s in ("", "S") for n in (256, 512)},
}


def _digest(algorithm: str, octets: bytes) -> bytes:
    return new(algorithm, octets, usedforsecurity=False).digest()


def _read_digest(scheme: str, text: str, encoding: str) -> StoredHash:
    algorithm, salted = _DIGESTS[scheme]
    size = len(_digest(algorithm, b""))
    if not encoding and not salted and len(text) == 2 * size:  # as Dovecot guesses
        encoding = "hex"
    octets = _decoded(text, encoding)
    digest, salt = octets[:size], octets[size:]
    if len(digest) < size or bool(salt) != salted:
        raise UnusableHash(f"a hash of {scheme} does not have {len(octets)} octets")

    def matches(password: bytes) -> bool:
        return hmac.compare_digest(_digest(algorithm, password + salt), digest)

    return StoredHash(scheme, matches)


# -- crypt(3) --------------------------------------------------------------------------

_C = r"[./0-9A-Za-z]"
_SALT = "[!-#%-9;-~]"
#: The form of each kind of hash; the groups have its parameters.
_CRYPT = {
    "MD5-CRYPT": re.compile(rf"\$1\${_SALT}{{0,8}}\${_C}{{22}}"),
    "MD5": re.compile(rf"\$1\${_SALT}{{0,8}}\${_C}{{22}}"),
    "SHA256-CRYPT": re.compile(rf"\$5\$(?:rounds=([0-9]{{1,9}})\$)?{_SALT}{{0,16}}\${_C}{{43}}"),
    "SHA512-CRYPT": re.compile(rf"\$6\$(?:rounds=([0-9]{{1,9}})\$)?{_SALT}{{0,16}}\${_C}{{86}}"),
    "BLF-CRYPT": re.compile(rf"\$2[abxy]\$([0-9]{{2}})\${_C}{{53}}"),
    "YESCRYPT": re.compile(rf"\$g?y\${_C}({_C})({_C})({_C}*)\${_C}{{0,86}}\${_C}{{43}}"),
    "DES-CRYPT": re.compile(rf"{_C}{{13}}"),
}
_DIGITS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _read_crypt(scheme: str, text: str) -> StoredHash:
    for kind, form in _CRYPT.items():
        found = form.fullmatch(text) if scheme in (kind, "CRYPT") else None
        if found is not None:
            scheme = "MD5-CRYPT" if kind == "MD5" else kind
            if not libcrypt.is_available():
                raise UnusableHash(f"this system has no libcrypt, which {scheme} needs")
            _check_cost(scheme, found)
            return StoredHash(scheme, partial(_matches_crypt, scheme, text))
    kind = "crypt(3)" if scheme == "CRYPT" else scheme
    raise UnusableHash(f"it does not have the form of a {kind} hash")


def _check_cost(scheme: str, found: re.Match[str]) -> None:
    if scheme == "BLF-CRYPT":
        _bounded("the cost", int(found[1]), BCRYPT_MAXIMUM)
    elif scheme == "YESCRYPT":
        rows, blocks = (_DIGITS.index(found[n]) + 1 for n in (1, 2))
        if found[3]:
            raise UnusableHash("yescrypt with more than two parameters is not supported")
        _bounded("the memory in KiB", (blocks << rows) >> 3 or 1, MEMORY_MAXIMUM)
    elif scheme in ("SHA256-CRYPT", "SHA512-CRYPT") and found[1]:
        _bounded("rounds", int(found[1]), ROUNDS_MAXIMUM)


def _matches_crypt(scheme: str, text: str, password: bytes) -> bool:
    if b"\0" in password:  # where C ends the text
        return False
    found = libcrypt.crypt(password, _octets(text))
    if found is None:
        raise UnusableHash(f"the crypt(3) of this system does not know {scheme}")
    return hmac.compare_digest(found, _octets(text))


# -- argon2, PBKDF2, SCRAM -------------------------------------------------------------

_ARGON2 = re.compile(
    r"\$(argon2id?)\$v=([0-9]{1,3})\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,3})\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
)


def _read_argon2(text: str) -> StoredHash:
    found = _ARGON2.fullmatch(text)
    if found is None or int(found[2]) != ARGON2_VERSION:
        raise UnusableHash("it does not have the form of an argon2 hash")
    memory = _bounded("the memory in KiB", int(found[3]), MEMORY_MAXIMUM)
    _bounded("the lanes", int(found[5]), LANES_MAXIMUM)
    work = _bounded("memory times passes", memory * int(found[4]), ARGON2_MAXIMUM)
    scheme = ARGON2ID if found[1] == "argon2id" else "ARGON2I"
    return StoredHash(scheme, partial(_matches_argon2, text), work * (scheme == ARGON2ID))


def _matches_argon2(text: str, password: bytes) -> bool:
    try:
        return PasswordHasher().verify(text, password)
    except VerifyMismatchError:
        return False
    except (InvalidHashError, VerificationError) as error:
        if _NO_MEMORY in str(error):
            raise TemporaryFailure(f"a password cannot be verified: {error}") from error
        raise UnusableHash(f"argon2 refuses it: {error}") from None


_PBKDF2 = re.compile(r"\$1\$([!-#%-~]+)\$([0-9]{1,9})\$([0-9a-f]{40})")
_PBKDF2_SHA256 = re.compile(r"\$pbkdf2-sha256\$([0-9]{1,9})\$([./0-9A-Za-z]+)\$([./0-9A-Za-z]{43})")


def _read_pbkdf2(text: str) -> StoredHash:
    """Dovecot's: ``$1$salt$rounds$hex``."""
    found = _PBKDF2.fullmatch(text)
    if found is None:
        raise UnusableHash("it does not have the form of a PBKDF2 hash")
    rounds = _bounded("rounds", int(found[2]), ROUNDS_MAXIMUM)
    return _pbkdf2("PBKDF2", "sha1", _octets(found[1]), rounds, unhexlify(found[3]))


def _read_pbkdf2_sha256(text: str) -> StoredHash:
    """Passlib's: ``$pbkdf2-sha256$rounds$salt$digest``, in base64 with "." for "+"."""
    found = _PBKDF2_SHA256.fullmatch(text)
    if found is None:
        raise UnusableHash("it does not have the form of a PBKDF2-SHA256 hash")
    rounds = _bounded("rounds", int(found[1]), ROUNDS_MAXIMUM)
    padded = (found[n].replace(".", "+") + "=" * (-len(found[n]) % 4) for n in (2, 3))
    salt, digest = (_decoded(one, "b64") for one in padded)
    return _pbkdf2("PBKDF2-SHA256", "sha256", salt, rounds, digest)


def _pbkdf2(scheme: str, algorithm: str, salt: bytes, rounds: int, digest: bytes) -> StoredHash:
    def matches(password: bytes) -> bool:
        found = pbkdf2_hmac(algorithm, password, salt, rounds, len(digest))
        return hmac.compare_digest(found, digest)

    return StoredHash(scheme, matches)


def _read_scram(algorithm: str, text: str) -> StoredHash:
    """Dovecot's: ``iterations,salt,StoredKey,ServerKey``."""
    scheme = "SCRAM-SHA-256" if algorithm == "sha256" else "SCRAM-SHA-1"
    words = text.split(",")
    if len(words) != 4 or not re.fullmatch(r"[0-9]{1,9}", words[0]):
        raise UnusableHash(f"it does not have the form of a {scheme} hash")
    rounds = _bounded("iterations", int(words[0]), ROUNDS_MAXIMUM)
    salt, stored, server = (_decoded(word, "b64") for word in words[1:])
    size = len(_digest(algorithm, b""))
    if not salt or len(stored) != size or len(server) != size:
        raise UnusableHash(f"it does not have the form of a {scheme} hash")

    def matches(password: bytes) -> bool:
        salted = pbkdf2_hmac(algorithm, password, salt, rounds)
        key = _digest(algorithm, hmac.digest(salted, b"Client Key", algorithm))
        return hmac.compare_digest(key, stored)

    keys = Keys(salt, rounds, stored, server) if algorithm == "sha256" else None
    return StoredHash(scheme, matches, scram=keys)


# -- others ----------------------------------------------------------------------------


def _read_plain(text: str) -> StoredHash:
    if not text or "\0" in text:
        raise UnusableHash("the password is empty, or has a NUL")
    plain = _octets(text)
    return StoredHash("PLAIN", partial(hmac.compare_digest, plain), plain=plain)


_READERS: dict[str, Callable[[str], StoredHash]] = {
    "ARGON2I": _read_argon2,
    ARGON2ID: _read_argon2,
    "PBKDF2": _read_pbkdf2,
    "PBKDF2-SHA256": _read_pbkdf2_sha256,
    "SCRAM-SHA-1": partial(_read_scram, "sha1"),
    "SCRAM-SHA-256": partial(_read_scram, "sha256"),
    **dict.fromkeys(("PLAIN", "CLEAR", "CLEARTEXT"), _read_plain),
}
#: Schemes of Dovecot's that are refused, and why.
_UNSUPPORTED = {
    **dict.fromkeys(
        ("CRAM-MD5", "HMAC-MD5", "DIGEST-MD5"),
        "the scheme is good for one old mechanism only; give the account a shared secret",
    ),
    "OTP": "one-time passwords are not supported",
    "PLAIN-MD4": "MD4 is not supported",
    "PLAIN-TRUNC": "passwords that are cut off are not supported",
}
