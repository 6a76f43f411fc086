"""
SASL mechanisms (RFC 4422) of a client, as pure exchanges: challenges in, responses out.

An exchange is a generator.  It yields responses; the first is None if the mechanism has no initial
response.  It is sent the server's challenges (octets, decoded from base64), and None once the
server says that the login has succeeded.  It raises NotProved for a challenge that does not fit,
and if the server has not proved that it knows the password although the mechanism demands it.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Generator
from functools import lru_cache

from postoffice.protocol.scram import client_keys, prepared

#: Making keys is slow on purpose; they stay the same while the server keeps its salt.
_keys = lru_cache(maxsize=64)(client_keys)

Exchange = Generator[bytes | None, bytes | None, None]

#: Rounds of PBKDF2 that a server may ask for: fewer give the password away (RFC 7677 §4), more
#: would keep us busy for seconds.
ITERATIONS_MINIMUM = 4096
ITERATIONS_MAXIMUM = 1_000_000
_FIRST = re.compile(rb"r=([!-+\x2d-~]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,8})(?:,.*)?\Z")


class NotProved(ValueError):
    """The server's part of the exchange is wrong; the message says why."""


def nonce() -> str:
    """A new nonce for SCRAM."""
    return secrets.token_urlsafe(24)


def mechanisms(offered: Collection[str], *, passwords: bool) -> list[str]:
    """Those that we can use, the best first; ``passwords``: the connection may carry passwords."""
    known = ("SCRAM-SHA-256", "PLAIN", "LOGIN") if passwords else ("SCRAM-SHA-256",)
    return [name for name in known if name in offered]


def exchange(
    mechanism: str, login: str, password: str, new_nonce: Callable[[], str] = nonce
) -> Exchange:
    """Begin an exchange of one of the ``mechanisms``."""
    user, secret = login.encode(), password.encode()
    if mechanism == "PLAIN":
        return _plain(user, secret)
    if mechanism == "LOGIN":
        return _login(user, secret)
    return _scram(user, secret, new_nonce().encode())


def _plain(user: bytes, password: bytes) -> Exchange:
    """RFC 4616."""
    if (yield b"\0%b\0%b" % (user, password)) is not None:
        raise NotProved("the server asks for more than PLAIN has")


def _login(user: bytes, password: bytes) -> Exchange:
    """LOGIN, which no RFC defines; what the challenges say does not matter."""
    for response in (None, user, password):
        if (yield response) is None:
            return
    raise NotProved("the server asks for more than LOGIN has")


def _scram(user: bytes, password: bytes, ours: bytes) -> Exchange:
    """SCRAM-SHA-256 (RFC 5802 §3) without channel binding."""
    bare = b"n=%b,r=%b" % (prepared(user).replace(b"=", b"=3D").replace(b",", b"=2C"), ours)
    challenge = yield b"n,," + bare
    found = _FIRST.match(challenge or b"")
    if found is None or not found[1].startswith(ours) or found[1] == ours:
        raise NotProved("no first message of SCRAM's")
    iterations = int(found[3])
    if not ITERATIONS_MINIMUM <= iterations <= ITERATIONS_MAXIMUM:
        raise NotProved(f"{iterations} rounds of SCRAM")
    client_key, keys = _keys(password, _unbase64(found[2]), iterations)
    unsigned = b"c=biws,r=" + found[1]
    message = b",".join((bare, challenge or b"", unsigned))
    signature = hmac.digest(keys.stored_key, message, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    verdict = yield unsigned + b",p=" + b64encode(proof)
    expected = b"v=" + b64encode(hmac.digest(keys.server_key, message, "sha256"))
    if verdict is None or not hmac.compare_digest(verdict.partition(b",")[0], expected):
        raise NotProved("the server does not prove that it knows the password")
    if (yield b"") is not None:
        raise NotProved("the server asks for more than SCRAM has")


def _unbase64(octets: bytes) -> bytes:
    try:
        return b64decode(octets, validate=True)
    except ValueError:
        raise NotProved("a challenge that is not base64") from None
