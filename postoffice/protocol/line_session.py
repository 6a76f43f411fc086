"""The plumbing of a dialogue's rules: octets in, questions out, answers in, octets out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from postoffice.protocol.wire import OUTPUT_QUANTUM, STEPS, LineReader, Yield


@dataclass(frozen=True)
class Secure:
    """A session's question: can TLS begin?  None, or what is in the way."""


@dataclass(frozen=True)
class Link:
    """
    Over what kind of link a client is here, and how it can log in.

    ``mechanisms`` (SASL) can log in, once ``passwords`` may be said on the
    link as it is.  ``starttls``: TLS can be begun; ``encrypted``: it was, with
    these channel ``bindings`` (name to octets).
    """

    hostname: str = "localhost"
    mechanisms: tuple[str, ...] = ()
    passwords: bool = False
    starttls: bool = False
    encrypted: bool = False
    bindings: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def offered(self) -> tuple[str, ...]:
        """The mechanisms that can be used on the link as it is, the strongest first."""
        if not self.passwords:
            return ()
        if self.bindings and "SCRAM-SHA-256" in self.mechanisms:
            return ("SCRAM-SHA-256-PLUS", *self.mechanisms)
        return self.mechanisms


class LineSession:
    """
    Lines in, replies and questions out.

    ``receive`` octets; ask ``next_question`` until it is None, and ``answer``
    each before the next; send what ``take_output`` gives.  ``closed`` means:
    send that, then hang up.  ``progress`` grows with each sign that the
    client gets on.

    ``upgrading`` means: send what ``take_output`` gives, begin TLS, and call
    ``secured``; ``injected`` that the client sent octets behind the command
    for it, which nobody has looked at.
    """

    #: What is done with the answer to each kind of question.
    _ANSWERED: ClassVar[dict[type, Callable[..., None]]]
    #: Octets of replies that are said before it is somebody else's turn.
    _output_quantum: ClassVar[int] = OUTPUT_QUANTUM

    def __init__(self, line_maximum: int, *, lf: bool = False) -> None:
        self.closed = False
        self.progress = 0
        self.upgrading = False
        self.injected = False
        self._lines = LineReader(line_maximum, lf=lf)
        self._output: list[bytes] = []
        self._unsent = 0
        self._asked: Any = None
        self._steps = 0  # since it last asked
        self._waiting: deque[Any] = deque()  # questions, and what is to be done between them

    def _step(self) -> bool:
        """Look at a little more of what has arrived; False if there is no more."""
        raise AssertionError("a dialogue has rules")

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

    def next_question(self) -> Any:
        """The next question, or None: nothing to ask until more arrives."""
        assert self._asked is None, "a question is still open"
        while True:
            while self._waiting:
                first = self._waiting.popleft()
                if not callable(first):
                    self._asked = first
                    self._steps = 0
                    return first
                first()
            if self.closed or not self._step():
                self._steps = 0
                return None
            self._steps += 1
            if self._unsent > self._output_quantum:
                self._ask(Yield())
            elif self._steps >= STEPS and not self._waiting:
                self._ask(Yield(self._steps))

    def answer(self, answer: Any) -> None:
        """Answer the question that was asked last."""
        question, self._asked = self._asked, None
        assert question is not None, "no question is open"
        if not self.closed:
            self._ANSWERED[type(question)](self, question, answer)

    def take_output(self) -> bytes:
        """What is to be sent."""
        output = b"".join(self._output)
        self._output.clear()
        self._unsent = 0
        return output

    def _close(self) -> None:
        self._waiting.clear()
        self.closed = True
        self._lines.take()

    def _ask(self, question: Any) -> None:
        self._waiting.append(question)

    def _then(self, act: Callable[[], None]) -> None:
        """Do this when all that was asked before is answered."""
        self._waiting.append(act)

    def _send(self, octets: bytes) -> None:
        self._output.append(octets)
        self._unsent += len(octets)

    def _look_behind(self) -> bool:
        """
        Whether octets came in clear behind the command that begins TLS.

        Whoever listens in could have put them there; they must not be obeyed behind
        the handshake, and a client that does so itself cannot be told apart (RFC 3207 §6,
        RFC 2595 §4).
        """
        self.injected = bool(self._lines.unread)
        return self.injected

    def _answered_nothing(self, question: Any, answer: None) -> None:
        pass
