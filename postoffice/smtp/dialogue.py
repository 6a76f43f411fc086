"""The plumbing of a dialogue's rules: octets in, questions out, answers in, octets out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from postoffice import reply
from postoffice.errors import PostOfficeError
from postoffice.reply import Reply
from postoffice.smtp.questions import Answer, Pause, Question
from postoffice.smtp.terms import SMTPLimits
from postoffice.wire import Breath, LineReader

#: Octets of replies that are said before it is somebody else's turn: some milliseconds of work.
MOUTHFUL = 8 << 10


class Dialogue:
    """
    Lines in, replies and questions out, with the budget of errors.

    ``receive`` octets; ask ``next_question`` until it is None, and ``answer``
    each before the next; send what ``take_output`` gives.  ``closed`` means:
    send that, then hang up.  ``progress`` grows with each sign that the
    client gets on: a command, or enough of a text.
    """

    #: What is done with the answer to each kind of question.
    _ANSWERED: ClassVar[dict[type, Callable[..., None]]]

    def __init__(self, limits: SMTPLimits, line_maximum: int) -> None:
        self.closed = False
        self.progress = 0
        self._limits = limits
        self._lines = LineReader(line_maximum)
        self._output: list[bytes] = []
        self._unsent = 0
        self._errors = 0
        self._deferrals = 0
        self._asked: Question | None = None
        self._waiting: deque[Question | Callable[[], None]] = deque()

    def _step(self) -> bool:
        """Look at a little more of what has arrived; False if there is no more."""
        raise AssertionError("a dialogue has rules")

    def _forget(self) -> None:
        """End the transaction, if there is one."""

    @property
    def unread(self) -> int:
        """Octets that have arrived and were not looked at yet."""
        return self._lines.unread

    @property
    def unsent(self) -> int:
        """Octets that ``take_output`` would give."""
        return self._unsent

    def receive(self, data: bytes) -> None:
        """Octets have arrived; what comes after the end is not looked at."""
        if not self.closed:
            self._lines.receive(data)

    def next_question(self) -> Question | None:
        """The next question, or None: nothing to ask until more arrives."""
        assert self._asked is None, "a question is still open"
        while True:
            while self._waiting:
                first = self._waiting.popleft()
                if not callable(first):
                    self._asked = first
                    return first
                first()
            if self.closed or not self._step():
                return None
            if self._unsent > MOUTHFUL:
                self._ask(Breath())

    def answer(self, answer: Answer) -> None:
        """Answer the question that was asked last."""
        question, self._asked = self._asked, None
        assert question is not None, "no question is open"
        if isinstance(answer, PostOfficeError):
            answer = answer.reply
        if not self.closed:
            self._ANSWERED[type(question)](self, question, answer)

    def take_output(self) -> bytes:
        """What is to be sent."""
        output = b"".join(self._output)
        self._output.clear()
        self._unsent = 0
        return output

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

    def _ask(self, question: Question) -> None:
        self._waiting.append(question)

    def _then(self, act: Callable[[], None]) -> None:
        """Do this when all that was asked before is answered."""
        self._waiting.append(act)

    def _say(self, said: Reply) -> None:
        self._output.append(said.wire)
        self._unsent += len(said.wire)

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

    def _answered_nothing(self, question: Any, answer: None) -> None:
        pass
