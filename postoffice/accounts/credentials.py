"""What a client shows to get in, with what is known of the client."""

from __future__ import annotations

import hmac

from twisted.cred.credentials import IUsernamePassword
from zope.interface import implementer

from postoffice.envelope import Client


@implementer(IUsernamePassword)
class PlainLogin:
    """
    A name and a password in clear.

    ``client`` and ``protocol`` are for checkers that look at them: cred
    itself tells a checker neither the peer nor the encryption.
    """

    def __init__(self, username: bytes, password: bytes, client: Client, protocol: str) -> None:
        self.username = username
        self.password = password
        self.client = client
        self.protocol = protocol

    def checkPassword(self, password: bytes | str) -> bool:
        """For checkers that know the password itself."""
        if isinstance(password, str):
            password = password.encode()
        return hmac.compare_digest(self.password, password)

    def __repr__(self) -> str:
        return f"<PlainLogin {self.username!r}>"  # the password stays out of logs
