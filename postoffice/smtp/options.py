"""The terms of one SMTP dialogue: SMTP, submission and LMTP are three settings of the rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from postoffice.model.reply import (
    LMTP_SAYS_LHLO,
    NO_LOGINS_HERE,
    NO_TLS_HERE,
    NOT_TRUSTED,
    SMTP_SAYS_EHLO,
    TLS_IS_ON,
    Reply,
)
from postoffice.protocol.line_session import Link

#: LIMITS has room for six digits (RFC 9422 §4.2).
RCPTMAX = 999_999


@dataclass(frozen=True)
class SMTPLimits:
    """
    What one client may ask for.

    Octets of a message; recipients of one; octets of a text line; errors
    before we hang up, and the seconds by which each beyond half of them is
    slowed; failed logins before we hang up; commands that bring no message on
    its way, between two messages; octets of a text that are as good as a
    command for a sign of life.
    """

    message_size: int = 50 << 20
    recipients: int = 1000
    text_line: int = 64 << 10
    errors: int = 20
    tarpit: float = 0
    logins: int = 5
    commands: int = 200
    pace: int = 30_000

    @property
    def deferrals(self) -> int:
        """
        What may be refused for now, between two messages.

        Recipients beyond the limit are, and all those of one message may be.
        """
        return self.recipients + self.commands


@dataclass(frozen=True)
class SessionOptions(Link):
    """
    On which terms a client is here, over its link.

    ``lmtp``: LHLO, and an answer for each recipient (RFC 2033).
    ``submission``: who posts has logged in (RFC 6409).  ``xclient``: the
    client may speak for others.
    """

    lmtp: bool = False
    submission: bool = False
    xclient: bool = False

    def keywords(self, limits: SMTPLimits) -> Iterator[str]:
        """The extensions, as EHLO lists them (RFC 5321 §4.1.1.1)."""
        yield from ("PIPELINING", f"SIZE {limits.message_size}", "8BITMIME")
        yield from ("ENHANCEDSTATUSCODES", "SMTPUTF8", "CHUNKING")
        yield f"LIMITS RCPTMAX={min(limits.recipients, RCPTMAX)}"
        if self.encrypted:
            yield "REQUIRETLS"
        elif self.starttls:
            yield "STARTTLS"
        if self.offered:
            yield " ".join(("AUTH", *self.offered))
        if self.xclient:
            yield "XCLIENT NAME ADDR PORT PROTO HELO"
        if not self.lmtp:
            yield "HELP"

    def protocol(self, *, extended: bool, utf8: bool, login: bool) -> str:
        """The word of RFC 3848 and 6531 for the Received field."""
        if not extended:
            return "SMTP"
        word = "LMTP" if self.lmtp else "SMTP" if utf8 else "ESMTP"
        return f"{'UTF8' * utf8}{word}{'S' * self.encrypted}{'A' * login}"

    def objection(self, verb: str) -> Reply | None:
        """Why a command of ours is not to be had on these terms, if it is not."""
        if verb == "LHLO":
            return None if self.lmtp else SMTP_SAYS_EHLO
        if verb in ("EHLO", "HELO"):
            return LMTP_SAYS_LHLO if self.lmtp else None
        if verb == "AUTH":
            return None if self.mechanisms else NO_LOGINS_HERE
        if verb == "STARTTLS":
            if self.encrypted:
                return TLS_IS_ON
            return None if self.starttls else NO_TLS_HERE
        if verb == "XCLIENT":
            return None if self.xclient else NOT_TRUSTED
        return None
