"""
The rules of a POP3 session (RFC 1939), without I/O: octets in, questions out.

There are three states and one table of commands.  Only STLS, CAPA before a login,
logins, message texts and QUIT ask questions; everything else is answered from the
Listing that was taken at login.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from postoffice.model.errors import NotAllRemoved, PostOfficeError
from postoffice.pop3.authorization import Authorization
from postoffice.pop3.line_session import (
    ANYWHERE,
    AUTHORIZATION,
    TRANSACTION,
    POP3LineSession,
    no_argument,
)
from postoffice.pop3.options import POP3Limits, SessionOptions
from postoffice.pop3.questions import Announce, Enough, Enter, Fetch, More, Update
from postoffice.pop3.transaction import Transaction
from postoffice.pop3.utf8 import UTF8Commands
from postoffice.protocol.line_session import Secure
from postoffice.protocol.sasl import Prove, SaltOf
from postoffice.protocol.wire import Yield


class POP3Session(Authorization, Transaction, UTF8Commands):
    """The session of one POP3 client; used like any ``LineSession``."""

    def __init__(self, options: SessionOptions, limits: POP3Limits | None = None) -> None:
        super().__init__(options, limits or POP3Limits())
        stamp = f" {options.stamp}" if options.stamp else ""
        self._say(f"+OK postoffice ready{stamp}".encode("ascii"))

    def _noop(self, argument: bytes) -> None:
        no_argument(argument)
        self._say(b"+OK")

    def _capa(self, argument: bytes) -> None:
        no_argument(argument)
        if self.state == "authorization" and not self.options.known:
            self._ask(Announce())
        else:
            self._list_capabilities()

    def _answered_announce(
        self, question: Announce, answer: SessionOptions | PostOfficeError
    ) -> None:
        if isinstance(answer, PostOfficeError):
            self._fail(answer)
        else:
            self.options = answer
            self._list_capabilities()

    def _list_capabilities(self) -> None:
        capabilities = self.options.capabilities(inside=self.state == "transaction")
        self._ok("what postoffice can do")
        self._say(b"\r\n".join((*(one.encode() for one in capabilities), b".")))

    def _quit(self, argument: bytes) -> None:
        no_argument(argument)
        if self.state == "authorization":
            self._ok("goodbye")
            self._close()
        else:
            self.state = "update"
            self._ask(Update(tuple(self._listing.marked()), tuple(self._listing.collected())))

    def _answered_update(self, question: Update, answer: int | PostOfficeError) -> None:
        """UPDATE (RFC 1939 §6): the reply says how many messages were really deleted."""
        if isinstance(answer, PostOfficeError):
            removed = answer.removed if isinstance(answer, NotAllRemoved) else 0
            self._no("{deleted} deleted; not all could be removed", "SYS/TEMP", deleted=removed)
        else:
            self._ok("{deleted} deleted, goodbye", deleted=answer)
        self._close()

    _ANSWERED: ClassVar[dict[type, Callable[..., None]]] = {
        Secure: Authorization._answered_secure,
        SaltOf: Authorization._answered_salt,
        Prove: Authorization._answered_prove,
        Announce: _answered_announce,
        Enter: Authorization._answered_enter,
        Fetch: Transaction._answered_fetch,
        More: Transaction._answered_more,
        Enough: POP3LineSession._answered_nothing,
        Update: _answered_update,
        Yield: POP3LineSession._answered_nothing,
    }

    COMMANDS: ClassVar[dict[bytes, tuple[frozenset[str], Callable[[Any, bytes], None]]]] = {
        b"USER": (AUTHORIZATION, Authorization._user_name),
        b"PASS": (AUTHORIZATION, Authorization._pass),
        b"APOP": (AUTHORIZATION, Authorization._apop),
        b"AUTH": (AUTHORIZATION, Authorization._auth),
        b"STLS": (AUTHORIZATION, Authorization._stls),
        b"STAT": (TRANSACTION, Transaction._stat),
        b"LIST": (TRANSACTION, Transaction._list),
        b"RETR": (TRANSACTION, Transaction._retr),
        b"DELE": (TRANSACTION, Transaction._dele),
        b"RSET": (TRANSACTION, Transaction._rset),
        b"TOP": (TRANSACTION, Transaction._top),
        b"UIDL": (TRANSACTION, Transaction._uidl),
        b"NOOP": (TRANSACTION, _noop),
        b"UTF8": (AUTHORIZATION, UTF8Commands._utf8),
        b"LANG": (ANYWHERE, UTF8Commands._lang),
        b"CAPA": (ANYWHERE, _capa),
        b"QUIT": (ANYWHERE, _quit),
    }


def commands_of(states: frozenset[str]) -> list[bytes]:
    """The commands that are allowed in exactly these states."""
    return [verb for verb, (where, _) in POP3Session.COMMANDS.items() if where == states]
