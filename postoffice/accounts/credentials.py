"""Credentials: what a client says to prove who it is, and where it says so."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TypeAlias

from twisted.cred.credentials import ICredentials, IUsernameHashedPassword, IUsernamePassword
from zope.interface import Attribute, implementer

from postoffice.model.envelope import Client
from postoffice.protocol.sasl import BearerClaim, Claim, PasswordClaim, ScramClaim, SharedClaim
from postoffice.protocol.scram import Keys


@implementer(IUsernamePassword)
@dataclass(frozen=True, eq=False)
class PlainLogin:
    """
    A user name and a password, as they came off the wire.

    ``client`` and ``protocol`` (the name of the service: pop3s, submission) are for
    checkers that need to know where a login comes from; a portal passes them only the
    credentials.
    """

    username: bytes
    password: bytes = field(repr=False)
    client: Client
    protocol: str

    def checkPassword(self, password: bytes | str) -> bool:
        """Whether it is this password; compares in constant time."""
        if isinstance(password, str):  # other checkers may use str
            password = password.encode("utf-8", "surrogatepass")
        return hmac.compare_digest(self.password, password)


class IScramLogin(ICredentials):
    """A proof that the client knows the password of some SCRAM keys."""

    username: bytes = Attribute("the user's name")

    def verify(keys: Keys) -> bool:
        """Whether the proof fits these keys."""


@implementer(IScramLogin)
@dataclass(frozen=True, eq=False)
class ScramLogin:
    """A SCRAM exchange, up to the proof; ``client`` and ``protocol`` as in PlainLogin."""

    claim: ScramClaim
    client: Client
    protocol: str

    @property
    def username(self) -> bytes:
        return self.claim.user

    def verify(self, keys: Keys) -> bool:
        """Whether the proof fits; if so, the claim then has our signature."""
        return self.claim.verify(keys)


@implementer(IUsernameHashedPassword)
@dataclass(frozen=True, eq=False)
class SharedLogin:
    """A digest made with a shared secret; ``client`` and ``protocol`` as in PlainLogin."""

    claim: SharedClaim
    client: Client
    protocol: str

    @property
    def username(self) -> bytes:
        return self.claim.user

    def checkPassword(self, password: bytes | str) -> bool:
        """Whether the digest is made with this secret."""
        if isinstance(password, str):
            password = password.encode("utf-8", "surrogatepass")
        return self.claim.verify(password)


class IBearerLogin(ICredentials):
    """
    A token that another service has issued to the user (RFC 6750).

    Only a checker from a plugin can verify it: its ``requestAvatarId`` returns the address
    of an account here, or raises UnauthorizedLogin if the token is not valid for this.
    """

    username: bytes = Attribute(
        "the user name that the client gave; empty if only the token says it"
    )
    token: bytes = Attribute("the token, as it came")
    client: Client = Attribute("where the login comes from")
    protocol: str = Attribute("the service (pop3, submission)")


@implementer(IBearerLogin)
@dataclass(frozen=True, eq=False)
class BearerLogin:
    """A token, as it came off the wire."""

    username: bytes
    token: bytes = field(repr=False)
    client: Client
    protocol: str


#: The credentials of somebody with a name: ours, or those of Twisted.
Credentials: TypeAlias = IUsernamePassword | IUsernameHashedPassword | IScramLogin | IBearerLogin


def credentials_of(claim: Claim, client: Client, protocol: str) -> Credentials:
    """Return the credentials for a portal that a claim makes."""
    if isinstance(claim, PasswordClaim):
        return PlainLogin(claim.user, claim.password, client, protocol)
    if isinstance(claim, ScramClaim):
        return ScramLogin(claim, client, protocol)
    if isinstance(claim, BearerClaim):
        return BearerLogin(claim.user, claim.token, client, protocol)
    assert isinstance(claim, SharedClaim)
    return SharedLogin(claim, client, protocol)
