"""The options of a POP3 client's session, and the capabilities of the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from postoffice.protocol import client_sasl

#: Commands that may wait for their replies at once, where the server offers PIPELINING.
WINDOW = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class POP3ClientOptions:
    """
    Who logs in, and how.

    ``stls``: begin TLS by STLS (RFC 2595); a server without it gets no password.  ``encrypted``:
    TLS has begun already.  ``passwords``: a password may be sent without TLS.  ``pipelining``:
    use it if it is offered.
    """

    login: str
    password: str = field(repr=False)
    stls: bool = False
    encrypted: bool = False
    passwords: bool = False
    pipelining: bool = True
    nonce: Callable[[], str] = client_sasl.nonce


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server offers (CAPA, RFC 2449): its capabilities by name, with their words."""

    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Read the lines of a reply to CAPA."""
        found: dict[str, str] = {}
        for line in text.decode("ascii", "replace").split("\r\n"):
            name, _, value = line.strip().partition(" ")
            if name:
                found[name.upper()] = value.strip()
        return cls(found)

    def has(self, name: str) -> bool:
        """Return whether the server has a capability."""
        return name in self.names

    @property
    def mechanisms(self) -> list[str]:
        """The SASL mechanisms (RFC 5034)."""
        return self.names.get("SASL", "").upper().split()

    @property
    def login_delay(self) -> int:
        """Seconds from one login to the next (LOGIN-DELAY, RFC 2449 §6.5); 0 if there is none."""
        word = self.names.get("LOGIN-DELAY", "").partition(" ")[0]
        return int(word) if word.isascii() and word.isdigit() and len(word) < 10 else 0
