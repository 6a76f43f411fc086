"""The terms of one POP3 dialogue, and what they let a client do (RFC 2449)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from postoffice import __version__
from postoffice.protocol.line_session import Link
from postoffice.protocol.sasl import PLAINTEXT


@dataclass(frozen=True)
class POP3Limits:
    """Wrong commands, failed logins, and commands before a login, until we hang up."""

    errors: int = 20
    logins: int = 5
    commands: int = 200


@dataclass(frozen=True)
class SessionOptions(Link):
    """
    On which terms a client is here, over its link.

    ``mechanisms`` are those of AUTH; ``stamp`` stands in the greeting where
    there is APOP, whatever the link: it says no password.

    ``expire`` and ``login_delay`` are as CAPA has them (RFC 2449 §6.7, §6.5):
    before login with ``USER`` behind them where accounts differ, afterwards
    the account's own; empty for nothing to be said.  Where they are not
    ``known``, the session asks when it must tell.
    """

    stamp: str = ""
    expire: str = "NEVER"
    login_delay: str = ""
    known: bool = True

    @property
    def user(self) -> bool:
        """Whether USER and PASS are taken: where AUTH would take a password as it is."""
        return not PLAINTEXT.isdisjoint(self.offered)

    def capabilities(self, *, inside: bool) -> Iterator[str]:
        """
        What CAPA lists; ``inside`` is whether the client has logged in.

        The same before and after, each in the states that its RFC names; STLS
        alone is of one state (RFC 2595 §4).
        """
        yield from ("TOP", "UIDL")
        if self.user:
            yield "USER"
        if self.offered:
            yield " ".join(("SASL", *self.offered))
        if self.starttls and not inside:
            yield "STLS"
        yield from ("PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "UTF8 USER", "LANG")
        if self.expire:
            yield f"EXPIRE {self.expire}"
        if self.login_delay:
            yield f"LOGIN-DELAY {self.login_delay}"
        yield f"IMPLEMENTATION postoffice-{__version__}"
