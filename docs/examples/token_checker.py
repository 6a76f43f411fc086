"""
A checker of bearer tokens, for OAUTHBEARER and XOAUTH2: ``checkers: ["tokens:/etc/mail.tokens"]``.

Each line of its file is the SHA-256 of a token, in hex, the account that it is
for, and until when it is good, in seconds since 1970.  A real one would ask
the service that issues the tokens (RFC 7662), or verify their signature.
"""

from __future__ import annotations

import hmac
import time
from hashlib import sha256
from pathlib import Path

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.strcred import ICheckerFactory
from twisted.internet.threads import deferToThread
from twisted.plugin import IPlugin
from zope.interface import implementer

from postoffice.accounts.credentials import IBearerLogin


@implementer(ICredentialsChecker)
class Tokens:
    """Returns the account of a token."""

    credentialInterfaces = (IBearerLogin,)

    def __init__(self, path: Path) -> None:
        self._path = path

    async def requestAvatarId(self, credentials: IBearerLogin) -> str:
        """The address of its account; the post office sees whether the client named another."""
        digest = sha256(credentials.token).hexdigest()
        for line in (await deferToThread(self._path.read_text)).splitlines():
            known, account, until = line.split()
            if hmac.compare_digest(known, digest) and time.time() < float(until):
                return account
        raise UnauthorizedLogin


@implementer(ICheckerFactory, IPlugin)
class TokensFactory:
    """Makes it from the text after ``tokens:``."""

    authType = "tokens"
    authHelp = "Bearer tokens, by their digests in a file."
    argStringFormat = "the path of the file"
    credentialInterfaces = (IBearerLogin,)

    def generateChecker(self, argstring: str) -> Tokens:
        if not argstring.startswith("/"):
            raise ValueError("the path of a file is needed, from the root")
        return Tokens(Path(argstring))


tokens = TokensFactory()
