"""Logins by AUTH over SMTP (RFC 4954)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from postoffice.model import reply
from postoffice.model.errors import PostOfficeError
from postoffice.model.reply import Reply
from postoffice.protocol.auth_exchange import AuthExchange, Fault
from postoffice.protocol.line_session import Ask
from postoffice.smtp.options import ErrorCounts, SMTPOptions
from postoffice.smtp.questions import Enter

#: The replies to the faults of a client in an AUTH exchange.
FAULTS = {
    Fault.CANCELLED: reply.LOGIN_CANCELLED,
    Fault.NOT_BASE64: reply.BAD_BASE64,
    Fault.MALFORMED: reply.BAD_LOGIN,
}


@dataclass
class Login:
    """
    The ``LoginSession`` of one AUTH exchange.

    ``say`` sends a challenge, and ``end`` ends the exchange with this reply.
    """

    ask: Ask
    say: Callable[[Reply], None]
    end: Callable[[Reply], None]
    counts: ErrorCounts

    def exchange(self, argument: str, options: SMTPOptions) -> tuple[AuthExchange, bytes | None]:
        """The exchange of an AUTH command, and its initial response.  Raises PostOfficeError."""
        mechanism, _, initial = argument.partition(" ")
        if not options.passwords:
            raise PostOfficeError(reply=reply.ENCRYPTION_FIRST)
        if mechanism.upper() not in options.offered:
            raise PostOfficeError(
                reply=reply.UNKNOWN_MECHANISM if mechanism else reply.NO_MECHANISM
            )
        exchange = AuthExchange(mechanism.upper(), options, self)
        return exchange, initial.strip(" ").encode() or None

    def challenge(self, line: bytes) -> None:
        self.say(Reply(334, "", line.decode("ascii")))

    def end_exchange(self, fault: Fault) -> None:
        self.end(FAULTS[fault])

    def login_proved(self) -> None:
        self.ask(Enter(), lambda _: self.end(reply.LOGGED_IN), self.refuse_login)

    def refuse_login(self, failure: PostOfficeError) -> None:
        """Refuse a login: a temporary failure with 454 (RFC 4954 §6); others are counted."""
        refusal = failure.reply
        self.counts.logins += refusal.permanent
        self.end(refusal if refusal.permanent else replace(reply.LOGIN_LATER, text=refusal.text))
