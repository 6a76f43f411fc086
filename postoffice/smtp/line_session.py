"""The base of the SMTP session: replies, and the limit on errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from postoffice.model import reply
from postoffice.model.reply import Reply
from postoffice.protocol.line_session import LineSession, ignore
from postoffice.protocol.questions import A, Question
from postoffice.protocol.refusals import Refusals
from postoffice.smtp.options import SMTPLimits
from postoffice.smtp.questions import Answer, Pause, SMTPQuestion


class SMTPLineSession(LineSession[SMTPQuestion, Answer]):
    """
    A session that answers with SMTP replies.

    ``progress`` grows with each command and with every ``SMTPLimits.pace`` octets of a
    text; ``refusals`` keeps refused commands for the log.
    """

    _output_quantum: ClassVar[int] = 8 << 10  # a few milliseconds of work
    COMMANDS: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, limits: SMTPLimits, line_maximum: int) -> None:
        super().__init__(line_maximum)
        self.refusals = Refusals(self.COMMANDS)
        self._limits = limits
        self._errors = 0
        self._deferrals = 0

    def _end_transaction(self) -> None:
        """End the transaction, if there is one (§4.1.1.5)."""

    @property
    def in_message(self) -> bool:
        """Whether a transaction is open."""
        return False

    def _ask(self, question: Question[A], then: Callable[[A | Reply], None]) -> None:
        """Ask; a failure counts as its reply."""
        self.ask(question, then, lambda failure: then(failure.reply))

    def _tell(self, question: Question[None]) -> None:
        """Ask what has no answer; what fails then was logged."""
        self.ask(question, ignore, ignore)

    def dismiss(self, why: Reply) -> None:
        """End the session from our side with this reply."""
        if not self.closed:
            self._say(why)
            self._close()

    def _close(self) -> None:
        self._waiting.clear()
        self._end_transaction()
        self.closed = True
        self._lines.take()

    def _say(self, said: Reply) -> None:
        if said.code >= 400:
            self.refusals.add(said.log_text, in_message=self.in_message)
        self._send(said.wire)

    def _refuse(self, refusal: Reply) -> None:
        """Refuse a command; after many errors slowly, after too many close with 421 (§7.8)."""
        self._errors += refusal.permanent
        self._deferrals += not refusal.permanent
        if refusal.code == 421:  # 421 always closes (RFC 5321 §3.8)
            self.dismiss(refusal)
        elif self._errors > self._limits.errors:
            self.dismiss(reply.TOO_MANY_ERRORS)
        elif self._deferrals > self._limits.deferrals:
            self.dismiss(reply.TOO_MANY_COMMANDS)
        elif refusal.permanent and self._limits.tarpit and self._errors > self._limits.errors // 2:
            self._tell(Pause(self._limits.tarpit))
            self._then(partial(self._say, refusal))
        else:
            self._say(refusal)
