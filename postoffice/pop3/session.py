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
from postoffice.pop3.languages import LANGUAGES, chosen, translated
from postoffice.pop3.line_session import (
    ANYWHERE,
    AUTHORIZATION,
    TRANSACTION,
    CommandFailed,
    no_argument,
)
from postoffice.pop3.options import POP3Limits, SessionOptions
from postoffice.pop3.questions import Announce, Update
from postoffice.pop3.transaction import Transaction


class POP3Session(Authorization, Transaction):
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
            self.ask(Announce(), self._announce, self._fail)
        else:
            self._list_capabilities()

    def _announce(self, options: SessionOptions) -> None:
        self.options = options
        self._list_capabilities()

    def _list_capabilities(self) -> None:
        capabilities = self.options.capabilities(inside=self.state == "transaction")
        self._ok("what postoffice can do")
        self._say(b"\r\n".join((*(one.encode() for one in capabilities), b".")))

    def _utf8(self, argument: bytes) -> None:
        """Send messages unconverted, with UTF-8 in their header fields (RFC 6856 §2.1)."""
        no_argument(argument)
        self.utf8 = True
        self._ok("UTF8 enabled")

    def _lang(self, argument: bytes) -> None:
        """RFC 6856 §3.2."""
        wanted = argument.strip().decode("latin-1")
        if not wanted:
            return self._list_languages()
        tag = chosen(wanted)
        if tag is None:
            raise CommandFailed("this language is not available; LANG lists those that are")
        self.language = tag
        said = translated("replies are in English now", tag)
        return self._say(f"+OK {tag} {said}".encode())

    def _list_languages(self) -> None:
        self._ok("languages follow")
        for tag, name in LANGUAGES.items():
            self._say(f"{tag} {name}".encode())
        self._say(b".")

    def _quit(self, argument: bytes) -> None:
        no_argument(argument)
        if self.state == "authorization":
            self._ok("goodbye")
            self._close()
        else:
            self.state = "update"
            update = Update(tuple(self._listing.marked()), tuple(self._listing.collected()))
            self.ask(update, self._updated, self._not_updated)

    def _updated(self, removed: int) -> None:
        """UPDATE (RFC 1939 §6): the reply says how many messages were really deleted."""
        self._ok("{deleted} deleted, goodbye", deleted=removed)
        self._close()

    def _not_updated(self, failure: PostOfficeError) -> None:
        removed = failure.removed if isinstance(failure, NotAllRemoved) else 0
        self._no("{deleted} deleted; not all could be removed", "SYS/TEMP", deleted=removed)
        self._close()

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
        b"UTF8": (AUTHORIZATION, _utf8),
        b"LANG": (ANYWHERE, _lang),
        b"CAPA": (ANYWHERE, _capa),
        b"QUIT": (ANYWHERE, _quit),
    }


def commands_of(states: frozenset[str]) -> list[bytes]:
    """The commands that are allowed in exactly these states."""
    return [verb for verb, (where, _) in POP3Session.COMMANDS.items() if where == states]
