"""The one realm: who you are decides the counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.cred.checkers import ANONYMOUS
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from zope.interface import implementer

from postoffice.address import Account
from postoffice.interfaces import IMaildrop, IMailStore, IReception


@implementer(IRealm)
class Realm:
    """Hands out a maildrop to its owner, and the reception to those whom nobody knows."""

    def __init__(self, store: IMailStore, reception: IReception) -> None:
        self._store = store
        self._reception = reception

    def requestAvatar(
        self, avatarId: Any, mind: object, *interfaces: Any
    ) -> tuple[Any, Any, Callable[[], None]]:
        """
        The avatar of an Account, or of ANONYMOUS; its logout may be called twice.

        Raises UnauthorizedLogin, NotImplementedError.
        """
        if IMaildrop in interfaces:
            if not isinstance(avatarId, Account):
                raise UnauthorizedLogin
            maildrop = self._store.maildrop(avatarId.maildrop)
            return IMaildrop, maildrop, maildrop.release
        if IReception in interfaces and avatarId is ANONYMOUS:
            return IReception, self._reception, _nothing
        raise NotImplementedError(f"no avatar for {avatarId!r} provides {interfaces}")


def _nothing() -> None:
    """Nothing was held."""
