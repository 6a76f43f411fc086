"""Credentials: what a client says to prove who it is, and where it says so."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from twisted.cred.credentials import IUsernamePassword
from zope.interface import implementer

from postoffice.envelope import Client


@implementer(IUsernamePassword)
@dataclass(frozen=True, eq=False)
class PlainLogin:
    """
    A user name and a password, as they came off the wire.

    ``client`` and ``protocol`` ("pop3") are for checkers that want to know
    where they came from: a portal tells them no more than the credentials.
    """

    username: bytes
    password: bytes = field(repr=False)
    client: Client
    protocol: str

    def checkPassword(self, password: bytes | str) -> bool:
        """Whether it is this password; the time it takes tells nothing of where they differ."""
        if isinstance(password, str):  # checkers of others may keep texts
            password = password.encode("utf-8", "surrogatepass")
        return hmac.compare_digest(self.password, password)
