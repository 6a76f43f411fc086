"""
SASL mechanisms (RFC 4422) as pure exchanges, for SMTP and POP3 alike.

An exchange is a generator.  It yields a ``Challenge`` and is sent the client's
response (octets, decoded from base64), or it yields a question about an account
(``Claim`` or ``SaltOf``) and is sent the answer.  If a claim is not true, the
caller throws Refused into the exchange.  When the exchange returns, the client is
authenticated.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from hashlib import md5, sha256

from postoffice.protocol.questions import Question
from postoffice.protocol.scram import Keys, Salt, prepared

#: Octets of a client's decoded message (RFC 4954 §4: 12288 in base64).
MESSAGE_MAXIMUM = 9216


class Malformed(ValueError):
    """The client's message does not fit the mechanism."""


class Refused(Exception):
    """The client's claim is refused."""


@dataclass(frozen=True)
class Challenge:
    """
    A challenge to the client; the exchange is sent the client's response.

    ``first`` says whether the client may send an initial response instead; then
    the challenge is not sent.
    """

    octets: bytes
    first: bool = False


@dataclass
class Claim:
    """A user name and its proof; the exchange is sent None if the claim is true."""

    user: bytes


@dataclass(frozen=True)
class SaltOf(Question[Salt]):
    """Asks for this user's salt (RFC 5802 §5.1); the exchange is sent a ``scram.Salt``."""

    user: bytes


@dataclass(frozen=True)
class Prove(Question[None]):
    """Is this claim true?  It is answered with LoginRefused if not."""

    claim: Claim
    mechanism: str


#: An exchange asks with each step; it is sent a message of the client, a salt, or None.
Answer = bytes | Salt | None
Exchange = Generator[Challenge | Claim | SaltOf, Answer, None]


@dataclass
class PasswordClaim(Claim):
    """The client sends the password (PLAIN, LOGIN)."""

    password: bytes = field(repr=False)


@dataclass
class SharedClaim(Claim):
    """The client proves that it knows the shared secret (CRAM-MD5): a digest in hex."""

    challenge: bytes
    response: bytes = field(repr=False)

    def verify(self, shared: bytes) -> bool:
        """Whether the digest was made with this secret."""
        digest = hmac.new(shared, self.challenge, "md5").hexdigest().encode()
        return hmac.compare_digest(digest, self.response)


@dataclass
class APOPClaim(SharedClaim):
    """
    The same for APOP (RFC 1939 §7), whose challenge is the timestamp in the greeting.

    The client may use the secret in its prepared form (RFC 6856 §2.2), or as typed.
    """

    def verify(self, shared: bytes) -> bool:
        return any(map(self._fits, {prepared(shared), shared}))

    def _fits(self, shared: bytes) -> bool:
        digest = md5(self.challenge + shared, usedforsecurity=False).hexdigest().encode()
        return hmac.compare_digest(digest, self.response)


@dataclass
class BearerClaim(Claim):
    """
    The client shows a token of an identity provider (RFC 6750).

    ``user`` may be empty: then the token alone identifies the user.
    """

    token: bytes = field(repr=False)


@dataclass
class ScramClaim(Claim):
    """
    The client proves that it knows the password (RFC 5802 §3).

    ``signature`` is the server signature of the last message; ``verify`` sets it
    if it returns True.
    """

    salt: Salt
    message: bytes = field(repr=False)
    proof: bytes = field(repr=False)
    signature: bytes = field(default=b"", repr=False)

    def verify(self, keys: Keys) -> bool:
        """Whether the proof was made with the password of these keys."""
        client_signature = hmac.digest(keys.stored_key, self.message, "sha256")
        client_key = bytes(a ^ b for a, b in zip(self.proof, client_signature, strict=False))
        fits = hmac.compare_digest(sha256(client_key).digest(), keys.stored_key)
        if fits and self.salt == Salt(keys.salt, keys.iterations):
            self.signature = hmac.digest(keys.server_key, self.message, "sha256")
            return True
        return False


def exchange(
    mechanism: str,
    *,
    hostname: str,
    bindings: Mapping[str, bytes],
    plus: bool,
    nonce: Callable[[], str] = lambda: secrets.token_urlsafe(24),
) -> Exchange:
    """
    A new exchange of one of MECHANISMS, or of SCRAM-SHA-256-PLUS.

    ``bindings`` are the channel bindings of the connection; ``plus`` is whether
    SCRAM-SHA-256-PLUS was offered.  The exchange raises Malformed and Refused.
    """
    if mechanism == "PLAIN":
        return _plain()
    if mechanism == "LOGIN":
        return _login()
    if mechanism == "CRAM-MD5":
        return _cram(hostname, nonce())
    if mechanism == "OAUTHBEARER":
        return _oauthbearer()
    if mechanism == "XOAUTH2":
        return _xoauth2()
    if mechanism == "SCRAM-SHA-256":
        return _scram({}, nonce(), plus=plus)
    if mechanism == "SCRAM-SHA-256-PLUS":
        return _scram(bindings, nonce(), plus=plus)
    raise ValueError(mechanism)


def _plain() -> Exchange:
    """RFC 4616: [authzid] NUL authcid NUL password."""
    message = yield from _message(Challenge(b"", first=True))
    words = message.split(b"\0")
    if len(words) != 3 or not words[1] or not words[2]:
        raise Malformed("PLAIN has three words")
    _check_authzid(words[0], words[1])
    yield PasswordClaim(words[1], words[2])


def _login() -> Exchange:
    """LOGIN, which no RFC defines: the user name, then the password."""
    user = yield from _message(Challenge(b"Username:", first=True))
    password = yield from _message(Challenge(b"Password:"))
    if not user or not password:
        raise Malformed("LOGIN has a user and a password")
    yield PasswordClaim(user, password)


def _cram(hostname: str, nonce: str) -> Exchange:
    """RFC 2195: user SP digest in hex."""
    challenge = f"<{nonce}@{hostname}>".encode()
    message = yield from _message(Challenge(challenge))
    user, space, digest = message.rpartition(b" ")
    if not space or not user or not re.fullmatch(rb"[0-9a-fA-F]{32}", digest):
        raise Malformed("CRAM-MD5 has a user and a digest")
    yield SharedClaim(user, challenge, digest.lower())


_KEYS = rb"((?:[A-Za-z]+=[\t\r\n -~]*\x01)*)\x01\Z"
_OAUTHBEARER = re.compile(rb"[ny],(?:a=([^,\0\x01]+))?,\x01" + _KEYS)
_XOAUTH2 = re.compile(rb"user=([^\0\x01]+)\x01" + _KEYS)
_BEARER = re.compile(
    rb"(?:.*\x01)?auth=Bearer +([A-Za-z0-9._~+/-]+=*)\x01", re.IGNORECASE | re.DOTALL
)


def _oauthbearer() -> Exchange:
    """RFC 7628 §3: a token, and perhaps a user name; a refusal is explained in JSON."""
    found = _OAUTHBEARER.match((yield from _message(Challenge(b"", first=True))))
    if found is None:
        raise Malformed("no message of OAUTHBEARER's")
    yield from _bearer(
        _name(found[1]) if found[1] else b"", found[2], b'{"status":"invalid_token"}'
    )


def _xoauth2() -> Exchange:
    """XOAUTH2, Google's predecessor of OAUTHBEARER."""
    found = _XOAUTH2.match((yield from _message(Challenge(b"", first=True))))
    if found is None:
        raise Malformed("no message of XOAUTH2's")
    yield from _bearer(found[1], found[2], b'{"status":"401","schemes":"bearer"}')


def _bearer(user: bytes, keys: bytes, complaint: bytes) -> Exchange:
    """If the claim is refused, send the complaint; after the client's answer, refuse."""
    token = _BEARER.match(keys)
    try:
        if token is None:
            raise Refused("no bearer token")
        yield BearerClaim(user, token[1])
    except Refused:
        yield Challenge(complaint)
        raise


# "m=" marks a mandatory extension; none is supported, so it does not match (RFC 5802 §5.1).
_FIRST = re.compile(
    rb"(?P<gs2>(?:n|y|p=(?P<binding>[A-Za-z0-9.-]+)),(?:a=(?P<authzid>[^,]+))?,)"
    rb"(?P<bare>n=(?P<user>[^,]+),r=(?P<nonce>[!-+\x2d-~]{1,512})(?:,[a-ln-zA-Z]=[^,]+)*)\Z"
)
_FINAL = re.compile(
    rb"(?P<unsigned>c=(?P<channel>[A-Za-z0-9+/=]+),r=(?P<nonce>[!-+\x2d-~]+)(?:,[a-ln-zA-Z]=[^,]+)*)"
    rb",p=(?P<proof>[A-Za-z0-9+/=]+)\Z"
)


def _scram(bindings: Mapping[str, bytes], nonce: str, *, plus: bool) -> Exchange:
    """RFC 5802 §5; if there are ``bindings`` (-PLUS), the client must use one of them."""
    first = _FIRST.match((yield from _message(Challenge(b"", first=True))))
    if first is None:
        raise Malformed("no first message of SCRAM's")
    bound = _bound(first, bindings, plus=plus)
    user = _name(first["user"])
    if first["authzid"] is not None:
        _check_authzid(_name(first["authzid"]), user)
    salt = yield SaltOf(user)
    assert isinstance(salt, Salt)
    whole_nonce = first["nonce"] + nonce.encode()
    salted = b64encode(salt.salt)
    server_first = b"r=%b,s=%b,i=%d" % (whole_nonce, salted, salt.iterations)
    final = _FINAL.match((yield from _message(Challenge(server_first))))
    if final is None:
        raise Malformed("no final message of SCRAM's")
    channel, proof = _unbase64(final["channel"]), _unbase64(final["proof"])
    if final["nonce"] != whole_nonce or len(proof) != 32:
        raise Malformed("another nonce, or no proof")
    if not hmac.compare_digest(channel, first["gs2"] + bound):
        raise Refused("another channel")
    message = b",".join((first["bare"], server_first, final["unsigned"]))
    claim = ScramClaim(user, salt, message, proof)
    yield claim
    if (yield Challenge(b"v=" + b64encode(claim.signature))):
        raise Malformed("nothing more was asked for")


def _bound(first: re.Match[bytes], bindings: Mapping[str, bytes], *, plus: bool) -> bytes:
    """The channel binding data that the client must repeat (RFC 5802 §6)."""
    flag = first["gs2"][:1]
    if flag == b"p":
        data = bindings.get(first["binding"].decode())
        if data is None:
            raise Refused("an unknown channel binding")
        return data
    if bindings:
        raise Malformed("-PLUS without channel binding")
    if flag == b"y" and plus:
        raise Refused("-PLUS was removed from our offer: a downgrade attack")
    return b""


def _name(octets: bytes) -> bytes:
    """Decode and prepare a saslname (RFC 5802 §5.1)."""
    if re.search(rb"=(?!2C|3D)", octets) or b"\0" in octets:
        raise Malformed("no saslname")
    name = prepared(octets.replace(b"=2C", b",").replace(b"=3D", b"="))
    if not name:
        raise Malformed("an empty name")
    return name


def _unbase64(octets: bytes) -> bytes:
    try:
        return b64decode(octets, validate=True)
    except NotBase64:
        raise Malformed("no base64") from None


def _check_authzid(authorized: bytes, user: bytes) -> None:
    """A user may not act as another one (RFC 4422 §3.4.1).  Raises Refused."""
    if authorized and authorized.lower() != user.lower():
        raise Refused("another identity")


def _message(challenge: Challenge) -> Generator[Challenge, Answer, bytes]:
    """Send a challenge; return the client's message."""
    message = yield challenge
    assert isinstance(message, bytes)
    if len(message) > MESSAGE_MAXIMUM:
        raise Malformed("a message that is too long")
    return message


#: All mechanisms, the strongest first; -PLUS is added if TLS provides channel bindings.
MECHANISMS = ("SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2", "CRAM-MD5", "PLAIN", "LOGIN")
#: Mechanisms that show a token; they need a checker of a plugin.
BEARER = frozenset(("OAUTHBEARER", "XOAUTH2"))
#: Mechanisms that send the password itself.
PLAINTEXT = frozenset(("PLAIN", "LOGIN"))
#: The field of an account that each of the others needs, and APOP.
NEEDS = {
    "SCRAM-SHA-256": "scram",
    "CRAM-MD5": "shared",
    "PLAIN": "secret",
    "LOGIN": "secret",
    "APOP": "shared",
}
