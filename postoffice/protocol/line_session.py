"""The base of both sessions: octets in, questions out, answers in, octets out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeAlias, TypeVar

from postoffice.model.errors import PostOfficeError
from postoffice.protocol.questions import A, Question, Yield
from postoffice.protocol.wire import OUTPUT_QUANTUM, STEPS, LineReader

#: The questions of one protocol, and their answers.
Questions = TypeVar("Questions")
Answers = TypeVar("Answers")

#: A question, and what takes its answer, or its failure.
_Asked: TypeAlias = tuple[
    Questions | Yield, Callable[[Answers | None], None], Callable[[PostOfficeError], None]
]


@dataclass(frozen=True)
class Link:
    """
    The state of a client's connection, and how the client can log in over it.

    The SASL ``mechanisms`` are offered only if ``passwords`` says that the
    connection may carry passwords.  ``starttls`` says whether TLS can begin,
    ``encrypted`` whether it has begun, with these channel ``bindings`` (name to
    octets).
    """

    hostname: str = "localhost"
    mechanisms: tuple[str, ...] = ()
    passwords: bool = False
    starttls: bool = False
    encrypted: bool = False
    bindings: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def offered(self) -> tuple[str, ...]:
        """The mechanisms that the client can use now, the strongest first."""
        if not self.passwords:
            return ()
        if self.bindings and "SCRAM-SHA-256" in self.mechanisms:
            return ("SCRAM-SHA-256-PLUS", *self.mechanisms)
        return self.mechanisms


class Ask(Protocol):
    """A session's method ``ask``."""

    def __call__(
        self,
        question: Question[A],
        then: Callable[[A], None],
        failed: Callable[[PostOfficeError], None],
        /,
    ) -> None: ...


class LineSession(Generic[Questions, Answers]):
    """
    Lines in, replies and questions out.

    Call ``receive`` with input; call ``next_question`` until it returns None, and
    ``answer`` after each question; send what ``take_output`` returns.  ``closed``
    means: send the output, then hang up.  ``unsent`` is how many octets of output
    there are.  ``progress`` grows with each command, or enough of a text, from the
    client.

    ``replied`` counts the replies by the first digit of their codes; +OK counts as 2, -ERR as 5.

    ``upgrading`` means: send the output, begin TLS, and call ``secured``.
    ``injected`` means that the client sent octets in clear after STARTTLS or
    STLS; they were not obeyed.
    """

    #: Octets of output after which the session yields to other clients.
    _output_quantum: ClassVar[int] = OUTPUT_QUANTUM

    def __init__(self, line_maximum: int, *, lf: bool = False) -> None:
        self.closed = False
        self.progress = 0
        self.replied = [0] * 6
        self.upgrading = False
        self.injected = False
        self._lines = LineReader(line_maximum, lf=lf)
        self._output: list[bytes] = []
        self.unsent = 0
        self._asked: _Asked[Questions, Answers] | None = None
        self._steps = 0  # since the last question
        # what to ask, and then to do
        self._waiting: deque[_Asked[Questions, Answers] | Callable[[], None]] = deque()

    def _step(self) -> bool:
        """Process one line or piece of the input; return False if there is none."""
        raise AssertionError("the subclass must process its input")

    @property
    def unread(self) -> int:
        """Octets of input that are not processed yet."""
        return self._lines.unread

    def receive(self, data: bytes) -> None:
        """Input has arrived; it is ignored after the session is closed."""
        if not self.closed:
            self._lines.receive(data)

    def next_question(self) -> Questions | Yield | None:
        """The next question; None if there is none until more input arrives."""
        assert self._asked is None, "a question is still open"
        waiting = self._waiting
        while True:
            while waiting:
                first = waiting.popleft()
                if isinstance(first, tuple):
                    self._asked = first
                    self._steps = 0
                    return first[0]
                first()
            if self.closed or not self._step():
                self._steps = 0
                return None
            self._steps += 1
            if self.unsent > self._output_quantum:
                self._tell(Yield())
            elif self._steps >= STEPS and not waiting:
                self._tell(Yield(self._steps))

    def answer(self, answer: Answers | PostOfficeError | None) -> None:
        """Answer the question that was asked last, with its answer or a PostOfficeError."""
        asked, self._asked = self._asked, None
        assert asked is not None, "no question is open"
        if not self.closed:
            _, then, failed = asked
            if isinstance(answer, PostOfficeError):
                failed(answer)
            else:
                then(answer)

    def ask(
        self,
        question: Question[A],
        then: Callable[[A], None],
        failed: Callable[[PostOfficeError], None],
    ) -> None:
        """Ask; ``then`` gets the answer, or ``failed`` gets why there is none."""
        # A session asks only what is among its Questions, so this answer is among its Answers.
        self._waiting.append((question, then, failed))  # type: ignore[arg-type]

    def _tell(self, question: Question[None]) -> None:
        """Ask something whose answer makes no difference; its failure was logged."""
        self.ask(question, ignore, ignore)

    def take_output(self) -> bytes:
        """Return the output that is to be sent, and clear it."""
        if not self.unsent:
            return b""
        output = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output.clear()
        self.unsent = 0
        return output

    def _close(self) -> None:
        self._waiting.clear()
        self.closed = True
        self._lines.take()

    def _then(self, act: Callable[[], None]) -> None:
        """Call ``act`` when all questions that were asked before are answered."""
        self._waiting.append(act)

    def _send(self, octets: bytes) -> None:
        self._output.append(octets)
        self.unsent += len(octets)

    def _input_behind_starttls(self) -> bool:
        """
        Whether octets arrived in clear after STARTTLS or STLS; sets ``injected``.

        An attacker on the network could have inserted them, so they must not be obeyed
        after the handshake.  A client that sends them itself cannot be distinguished from an
        attack (RFC 3207 §6, RFC 2595 §4).
        """
        self.injected = bool(self._lines.unread)
        return self.injected


def ignore(answer: object) -> None:
    """Takes an answer that makes no difference."""
