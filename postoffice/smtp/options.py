"""The options of an SMTP session: SMTP, submission and LMTP differ only in these."""

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
    Limits of one session.

    ``message_size``, ``text_line``: octets of a message, and of a line of it.
    ``recipients``: of one message.  ``errors``, ``logins``: errors, and failed
    logins, before we close.  ``tarpit``: seconds by which the reply to each error
    beyond half of ``errors`` is delayed.  ``commands``: commands that do not
    advance a message, between two messages.  ``pace``: octets of a text that count
    as progress, as a command does.
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
        Temporary refusals (4yz) that are allowed between two messages.

        Recipients beyond the limit are refused so, and perhaps all of one message.
        """
        return self.recipients + self.commands


@dataclass(frozen=True)
class SessionOptions(Link):
    """
    What the session offers to this client on its present connection.

    ``lmtp``: LHLO, and a reply for each recipient (RFC 2033).  ``submission``: MAIL
    needs a login (RFC 6409).  ``xclient``: the client may use XCLIENT.
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
        """The protocol name for the Received field (RFC 3848, RFC 6531)."""
        if not extended:
            return "SMTP"
        word = "LMTP" if self.lmtp else "SMTP" if utf8 else "ESMTP"
        return f"{'UTF8' * utf8}{word}{'S' * self.encrypted}{'A' * login}"

    def objection(self, verb: str) -> Reply | None:
        """The refusal of a command that these options do not allow; None if they do."""
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
