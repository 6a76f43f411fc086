"""The one checker, over all directories and over checkers that others wrote."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import IAnonymous, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from zope.interface import implementer

from postoffice.accounts.passwords import verify
from postoffice.address import Account, Address, NotAnAddress
from postoffice.errors import TemporaryFailure
from postoffice.interfaces import IAccountDirectory, Workers

#: Seconds for which a password that was right is known to be, and how many are.
REMEMBERED = 300.0
REMEMBERED_MAXIMUM = 10_000
#: Passwords that may wait to be verified: the hash itself is work that anyone can give us.
WAITING_MAXIMUM = 200


@implementer(ICredentialsChecker)
class Checker:
    """
    Finds out whose credentials these are: an Account.

    ``hashing`` are the workers for passwords; ``clock`` tells seconds;
    ``others`` are asked where no directory knows the password, and may vouch
    for accounts that a directory knows.  An unknown name and a wrong
    password cost the same and are refused in the same words.
    """

    credentialInterfaces = (IUsernamePassword, IAnonymous)

    def __init__(
        self,
        directories: Sequence[IAccountDirectory],
        hashing: Workers,
        *,
        clock: Callable[[], float],
        others: Sequence[Any] = (),
    ) -> None:
        self._directories = directories
        self._others = others
        self._verifier = Verifier(hashing, clock)

    async def requestAvatarId(self, credentials: Any) -> Any:  # type: ignore[override]
        """The Account, or ANONYMOUS.  Raises UnauthorizedLogin, TemporaryFailure."""
        if IAnonymous.providedBy(credentials):
            return ANONYMOUS
        account = await self._find(credentials.username)
        secret = None if account is None else account.secret
        if await self._verifier.verify(secret, credentials.password):
            return account
        for other in self._others:
            account = await self._vouched_for(other, credentials)
            if account is not None:
                return account
        raise UnauthorizedLogin

    async def _find(self, name: object) -> Account | None:
        """The account of that name; None also for what is no name at all."""
        if isinstance(name, Account):
            return name
        try:
            text = name.decode("utf-8") if isinstance(name, bytes) else str(name)
            normal = Address.parse(text).normal
        except (UnicodeDecodeError, NotAnAddress):
            return None
        for directory in self._directories:
            account = await directory.find(normal)
            if account is not None:
                return account
        return None

    async def _vouched_for(self, other: Any, credentials: Any) -> Account | None:
        if not any(which.providedBy(credentials) for which in other.credentialInterfaces):
            return None
        try:
            avatar_id = other.requestAvatarId(credentials)
            if hasattr(avatar_id, "__await__"):
                avatar_id = await avatar_id
        except UnauthorizedLogin:
            return None
        return await self._find(avatar_id)


class Verifier:
    """
    Verifies passwords on the workers, and remembers for a while which were right.

    What is remembered is keyed by the stored hash and the password together:
    where either changes, nothing is known.  The key is this process's own.
    """

    def __init__(self, hashing: Workers, clock: Callable[[], float]) -> None:
        self._hashing = hashing
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._asking: dict[bytes, list[Deferred[bool]]] = {}

    async def verify(self, secret: str | None, password: bytes) -> bool:
        """Whether the password is right.  Raises TemporaryFailure when too many wait."""
        known = self._digest(secret, password)
        if self._right.get(known, 0.0) > self._clock():
            return True
        waiting: Deferred[bool] = Deferred()
        if known in self._asking:
            self._asking[known].append(waiting)
        elif len(self._asking) >= WAITING_MAXIMUM:
            raise TemporaryFailure("too many passwords wait to be verified")
        else:
            self._asking[known] = [waiting]
            Deferred.fromCoroutine(self._ask(known, secret, password))
        return await waiting

    async def _ask(self, known: bytes, secret: str | None, password: bytes) -> None:
        """One hash for all who ask the same; whoever has gone meanwhile does not stop it."""
        outcome: bool | Exception
        try:
            outcome = await self._hashing.run(verify, secret, password)
        except Exception as error:
            outcome = error
        if outcome is True:
            self._remember(known)
        for waiting in self._asking.pop(known):
            if isinstance(outcome, Exception):
                waiting.errback(outcome)
            else:
                waiting.callback(outcome)

    def _remember(self, known: bytes) -> None:
        self._right[known] = self._clock() + REMEMBERED
        self._right.move_to_end(known)
        while len(self._right) > REMEMBERED_MAXIMUM:
            self._right.popitem(last=False)

    def _digest(self, secret: str | None, password: bytes) -> bytes:
        stored = b"" if secret is None else secret.encode()
        digest = blake2b(key=self._key)
        digest.update(len(stored).to_bytes(8, "big") + stored + password)
        return digest.digest()
