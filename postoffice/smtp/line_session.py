"""The plumbing of the rules of SMTP: replies, and the budget of errors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from postoffice.model import reply
from postoffice.model.errors import PostOfficeError
from postoffice.model.reply import Reply
from postoffice.protocol.line_session import LineSession
from postoffice.protocol.refusals import Refusals
from postoffice.smtp.options import SMTPLimits
from postoffice.smtp.questions import Answer, Pause


class SMTPLineSession(LineSession):
    """
    A dialogue whose answers are replies.

    Its ``progress`` is a command, or enough of a text; its ``refusals`` are for the log.
    """

    _output_quantum: ClassVar[int] = 8 << 10  # some milliseconds of work
    COMMANDS: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, limits: SMTPLimits, line_maximum: int) -> None:
        super().__init__(line_maximum)
        self.refusals = Refusals(self.COMMANDS)
        self._limits = limits
        self._errors = 0
        self._deferrals = 0

    def _forget(self) -> None:
        """End the transaction, if there is one."""

    @property
    def in_message(self) -> bool:
        """Whether a message is on its way."""
        return False

    def answer(self, answer: Answer) -> None:
        """Answer the question that was asked last; a failure is its reply."""
        super().answer(answer.reply if isinstance(answer, PostOfficeError) else answer)

    def dismiss(self, why: Reply) -> None:
        """End the dialogue from our side: say so, and close."""
        if not self.closed:
            self._say(why)
            self._close()

    def _close(self) -> None:
        self._waiting.clear()
        self._forget()
        self.closed = True
        self._lines.take()

    def _say(self, said: Reply) -> None:
        if said.code >= 400:
            self.refusals.add(said.log_text, in_message=self.in_message)
        self._send(said.wire)

    def _refuse(self, refusal: Reply) -> None:
        """Say no to a command, slower after many; to one too many, goodbye (§7.8)."""
        self._errors += refusal.permanent
        self._deferrals += not refusal.permanent
        if refusal.code == 421:  # the last word, whoever says it (RFC 5321 §3.8)
            self.dismiss(refusal)
        elif self._errors > self._limits.errors:
            self.dismiss(reply.TOO_MANY_ERRORS)
        elif self._deferrals > self._limits.deferrals:
            self.dismiss(reply.TOO_MANY_COMMANDS)
        elif refusal.permanent and self._limits.tarpit and self._errors > self._limits.errors // 2:
            self._ask(Pause(self._limits.tarpit))
            self._then(partial(self._say, refusal))
        else:
            self._say(refusal)
