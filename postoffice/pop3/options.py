"""The options of a POP3 session, and the capabilities that follow from them (RFC 2449)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from postoffice import __version__
from postoffice.protocol.line_session import Link
from postoffice.protocol.sasl import PLAINTEXT


@dataclass(frozen=True)
class POP3Limits:
    """Wrong commands, failed logins, and commands before a login, before we close."""

    errors: int = 20
    logins: int = 5
    commands: int = 200


@dataclass(frozen=True)
class POP3Options(Link):
    """
    What the session offers to this client on its present connection.

    ``mechanisms`` are those of AUTH.  ``stamp`` is the timestamp in the greeting; if
    it is set, APOP is offered, also without TLS, as APOP sends no password.

    ``expire`` and ``login_delay`` are the arguments of these capabilities (RFC 2449
    §6.7, §6.5): before the login for all accounts, with ``USER`` if accounts differ;
    after the login for the account.  An empty one is not announced.  If they are
    not ``known``, the session asks for them when CAPA needs them.
    """

    stamp: str = ""
    expire: str = "NEVER"
    login_delay: str = ""
    known: bool = True

    @property
    def user(self) -> bool:
        """Whether USER and PASS are allowed: if AUTH offers a plaintext mechanism."""
        return not PLAINTEXT.isdisjoint(self.offered)

    def capabilities(self, *, inside: bool) -> Iterator[str]:
        """
        The lines of CAPA; ``inside`` is whether the client has logged in.

        All capabilities are listed in both states, except STLS (RFC 2595 §4).
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
