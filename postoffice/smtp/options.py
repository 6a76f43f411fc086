"""The options and limits of an SMTP session: SMTP, submission and LMTP differ only in these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from postoffice.model.cached_property import cached_property
from postoffice.model.reply import (
    LMTP_SAYS_LHLO,
    NO_LOGINS_HERE,
    NO_TLS_HERE,
    NOT_TRUSTED,
    SMTP_SAYS_EHLO,
    TLS_IS_ON,
    TOO_MANY_COMMANDS,
    TOO_MANY_ERRORS,
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


@dataclass(slots=True)
class ErrorCounts:
    """Errors and failed logins of a session; deferrals and idle commands since the last message."""

    limits: SMTPLimits
    errors: int = 0
    logins: int = 0
    deferrals: int = 0
    idle: int = 0

    def refused(self, refusal: Reply) -> Reply | None:
        """Count a refusal; return the reply that closes the session instead, if one must."""
        self.errors += refusal.permanent
        self.deferrals += not refusal.permanent
        if refusal.code == 421:  # 421 always closes (RFC 5321 §3.8)
            return refusal
        if self.errors > self.limits.errors:
            return TOO_MANY_ERRORS
        return TOO_MANY_COMMANDS if self.deferrals > self.limits.deferrals else None

    @property
    def slow(self) -> bool:
        """Whether the replies to errors are delayed."""
        return self.limits.tarpit > 0 and self.errors > self.limits.errors // 2

    def idled(self) -> bool:
        """Count a command that does not advance a message; return whether it is one too many."""
        self.idle += 1
        return self.idle > self.limits.commands


@dataclass(frozen=True)
class SMTPOptions(Link):
    """
    What the session offers to this client on its present connection.

    ``lmtp``: LHLO, and a reply for each recipient (RFC 2033).  ``submission``: MAIL
    needs a login (RFC 6409).  ``xclient``: the client may use XCLIENT.  ``dsn``: MAIL and RCPT
    may ask for delivery status notifications (RFC 3461).
    """

    lmtp: bool = False
    submission: bool = False
    xclient: bool = False
    dsn: bool = False

    @property
    def greeting(self) -> Reply:
        return Reply(220, "", f"{self.hostname} {'LMTP' if self.lmtp else 'ESMTP'} postoffice")

    def hello(self, limits: SMTPLimits, *, extended: bool) -> Reply:
        """The reply to EHLO or HELO."""
        if not extended:
            return Reply(250, "", self.hostname)
        return Reply(
            250, "", "\n".join((f"{self.hostname} at your service", *self.keywords(limits)))
        )

    def help(self, verbs: Iterable[str]) -> Reply:
        known = " ".join(verb for verb in verbs if self.objection(verb) is None)
        return Reply(214, "2.0.0", f"This is postoffice; it knows\n{known}")

    def keywords(self, limits: SMTPLimits) -> Iterator[str]:
        """The extensions, as EHLO lists them (RFC 5321 §4.1.1.1)."""
        yield from ("PIPELINING", f"SIZE {limits.message_size}", "8BITMIME")
        yield from ("ENHANCEDSTATUSCODES", "SMTPUTF8", "CHUNKING")
        if self.dsn:
            yield "DSN"
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

    @cached_property
    def mail_parameters(self) -> tuple[str, ...]:
        """The parameters that MAIL may have after EHLO: only those offered (§4.1.1.11)."""
        known: tuple[str, ...] = ("SIZE", "BODY", "SMTPUTF8")
        if self.encrypted:
            known += ("REQUIRETLS",)
        if self.dsn:
            known += ("RET", "ENVID")
        return (*known, "AUTH") if self.offered else known

    @property
    def rcpt_parameters(self) -> tuple[str, ...]:
        """The parameters that RCPT may have after EHLO."""
        return ("NOTIFY", "ORCPT") if self.dsn else ()

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
