"""The one checker: stands over all directories, and over checkers of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import IAnonymous, IUsernamePassword
from twisted.cred.error import LoginFailed, Unauthorized, UnauthorizedLogin
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from postoffice.accounts.directories import Directories
from postoffice.accounts.verifying import Verifying
from postoffice.address import Account, Address, NotAnAddress
from postoffice.interfaces import IAccountDirectory, Workers


@implementer(ICredentialsChecker)
class Checker:
    """
    Says whose credentials these are: an Account, or ANONYMOUS.

    One checker, because a portal keeps one for each kind of credentials.
    ``hashing`` are the workers that verify passwords, ``clock`` tells
    seconds; ``others`` are asked in order when no directory vouches, and
    the address that they name must be known to a directory.
    """

    log = Logger()
    credentialInterfaces = (IUsernamePassword, IAnonymous)

    def __init__(
        self,
        directories: Sequence[IAccountDirectory],
        hashing: Workers,
        *,
        clock: Callable[[], float],
        others: Sequence[ICredentialsChecker] = (),
    ) -> None:
        self._directory = Directories(directories)
        self._verifying = Verifying(hashing, clock)
        self._others = tuple(others)

    async def requestAvatarId(self, credentials: Any) -> Any:  # type: ignore[override]
        """
        The Account, read just now; ANONYMOUS for IAnonymous.

        Raises UnauthorizedLogin, which tells nobody if it was the user or the
        password, by words or by time; TemporaryFailure if it cannot be said.
        """
        if IAnonymous.providedBy(credentials):
            return ANONYMOUS
        name = normal(credentials.username)
        account = await self._find(name)
        secret = None if account is None else account.secret
        user = credentials.username if name is None else name.encode()
        if await self._verifying.matches(user, secret, credentials.password):
            return account
        account = await self._vouched_for(credentials)
        if account is None:
            raise UnauthorizedLogin
        return account

    async def _find(self, name: str | None) -> Account | None:
        return None if name is None else await self._directory.find(name)

    async def _vouched_for(self, credentials: Any) -> Account | None:
        """The account of whom one of the others vouches for."""
        for other in self._others:
            if not any(kind.providedBy(credentials) for kind in other.credentialInterfaces):
                continue
            try:
                avatar = await maybeDeferred(other.requestAvatarId, credentials)
            except (LoginFailed, Unauthorized):
                continue
            account = await self._find(normal(avatar))
            if account is not None:
                return account
            self.log.warn(
                "{checker} vouches for {avatar!r}, who has no account here",
                checker=type(other).__name__,
                avatar=avatar,
            )
        return None


def normal(user: object) -> str | None:
    """
    The normal form of the address that somebody is called by, or None where it is none.

    On the wire and to Twisted's own checkers it is octets (UTF-8); checkers
    of others may say a text, or an Account.
    """
    if isinstance(user, Account):
        return user.address
    try:
        text = user.decode("utf-8") if isinstance(user, bytes) else user
        return Address.parse(text).normal if isinstance(text, str) else None
    except (UnicodeDecodeError, NotAnAddress):
        return None
