"""
SASL mechanisms (RFC 4422) as pure exchanges, for SMTP and POP3 alike.

An exchange is a generator.  It yields a ``Challenge``, and is sent the
client's response (octets, base64 undone); or it yields a ``Claim`` or
``SaltOf``, a question to whoever knows the accounts.  When it ends, the
client has proved who it is.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Challenge:
    """
    What the server says; sent the client's response.

    ``first`` is whether an initial response may come in its place: the octets
    are then not said at all.
    """

    octets: bytes
    first: bool = False


@dataclass(frozen=True)
class Claim:
    """Who the client says it is, and its proof; sent None where it was believed."""

    user: bytes


@dataclass(frozen=True)
class SaltOf:
    """Which salt and iterations has this user (RFC 5802 §5.1)?  Sent a ``scram.Salt``."""

    user: bytes


Exchange = Generator[Challenge | Claim | SaltOf, Any, None]
