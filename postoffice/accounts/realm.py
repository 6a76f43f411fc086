"""The realm: returns the mailbox or the reception that a login opens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.cred.checkers import ANONYMOUS
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from zope.interface import Interface, implementer

from postoffice.interfaces import IMailbox, IMaildrop, IReception
from postoffice.model.address import Account
from postoffice.model.envelope import SessionInfo


class Receptions(Protocol):
    """Makes the avatars of SMTP sessions without and with a login."""

    def reception(self, session_info: SessionInfo) -> IReception: ...
    def submission(self, session_info: SessionInfo, account: Account) -> IReception: ...


class Mailboxes(Protocol):
    """Makes the avatars of POP3 logins."""

    def mailbox(self, session_info: SessionInfo, account: Account) -> IMailbox: ...


@implementer(IRealm)
class Realm:
    """
    Returns a mailbox for POP3, and a reception for SMTP with or without a login.

    The ``mind`` is the ``SessionInfo``; ``note`` is called with each login.
    """

    def __init__(
        self,
        mailboxes: Mailboxes,
        receptions: Receptions,
        note: Callable[[Account, SessionInfo], None] | None = None,
    ) -> None:
        self._mailboxes = mailboxes
        self._receptions = receptions
        self._note = note or _nothing

    def requestAvatar(  # type: ignore[override]  # the mind is always one
        self, avatarId: object, mind: SessionInfo, *interfaces: type[Interface]
    ) -> tuple[type[Interface], object, Callable[[], None]]:
        """
        Return the avatar of an Account or of ANONYMOUS, and its logout, which may be called twice.

        Raises UnauthorizedLogin, NotImplementedError.
        """
        if IMaildrop in interfaces:
            if not isinstance(avatarId, Account):
                raise UnauthorizedLogin
            mailbox = self._mailboxes.mailbox(mind, avatarId)
            self._note(avatarId, mind)
            return IMaildrop, mailbox, mailbox.release
        if IReception in interfaces:
            if isinstance(avatarId, Account):
                submission = self._receptions.submission(mind, avatarId)
                self._note(avatarId, mind)
                return IReception, submission, _nothing
            if avatarId is ANONYMOUS:
                return IReception, self._receptions.reception(mind), _nothing
        raise NotImplementedError(f"no avatar for {avatarId!r} provides {interfaces}")


def _nothing(*_: object) -> None:
    """Do nothing: the logout of a session that holds nothing."""
