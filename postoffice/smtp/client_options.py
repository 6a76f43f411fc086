"""The options of an SMTP client's session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from postoffice.model.hop import OPPORTUNISTIC
from postoffice.protocol import client_sasl


@dataclass(frozen=True, slots=True, kw_only=True)
class SMTPClientOptions:
    """
    Who we are, and what we want of the server.

    ``hostname`` is our name.  ``level`` is one of ``hop.LEVELS``.  ``encrypted``: TLS has begun,
    and ``verified``: with a certificate that fits the host.  ``chosen``: the administrator has
    named the server.  ``login`` is empty if we do not log in; without TLS a password is only sent
    on level NONE.
    """

    hostname: str
    lmtp: bool = False
    level: str = OPPORTUNISTIC
    encrypted: bool = False
    verified: bool = False
    chosen: bool = False
    login: str = ""
    password: str = field(default="", repr=False)
    nonce: Callable[[], str] = client_sasl.nonce
