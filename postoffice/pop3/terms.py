"""The terms of one POP3 dialogue, and what they let a client do (RFC 2449)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from postoffice import __version__
from postoffice.dialogue import Link


@dataclass(frozen=True)
class POP3Limits:
    """Wrong commands, and failed logins, before we hang up."""

    errors: int = 20
    logins: int = 5


@dataclass(frozen=True)
class Terms(Link):
    """
    On which terms a client is here, over its link.

    ``expire`` and ``login_delay`` are as CAPA has them (RFC 2449 §6.7, §6.5):
    before login with ``USER`` behind them where accounts differ, afterwards
    the account's own; empty for nothing to be said.
    """

    expire: str = "NEVER"
    login_delay: str = ""

    def capabilities(self, *, inside: bool) -> Iterator[str]:
        """
        What CAPA lists; ``inside`` is whether the client has logged in.

        The same before and after, but for what is of no use any more
        (RFC 2449 §5).
        """
        yield from ("TOP", "UIDL")
        if self.passwords:
            yield "USER"
        yield from ("UTF8 USER", "LANG")
        yield from ("PIPELINING", "RESP-CODES", "AUTH-RESP-CODE")
        if self.expire:
            yield f"EXPIRE {self.expire}"
        if self.login_delay:
            yield f"LOGIN-DELAY {self.login_delay}"
        yield f"IMPLEMENTATION postoffice-{__version__}"
