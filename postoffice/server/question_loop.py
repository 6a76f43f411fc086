"""The loop between a session and its connection: each question is answered, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Generic, Protocol, TypeAlias, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from postoffice.model.errors import PostOfficeError
from postoffice.protocol.questions import Yield
from postoffice.protocol.wire import OUTPUT_QUANTUM
from postoffice.server.fair_share import ClientShare, ReactorShares
from postoffice.util.maybe_awaitable import at_once, waits

#: The questions of one protocol, and their answers.
Q = TypeVar("Q")
A = TypeVar("A")
Q_co = TypeVar("Q_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
Q_contra = TypeVar("Q_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)
#: An answer, or why there is none; None answers a Yield.
Outcome: TypeAlias = A | PostOfficeError | None


class Session(Protocol[Q_co, A_contra]):
    """What a connection needs of its session (the pure rules of the protocol)."""

    closed: bool
    upgrading: bool
    progress: int

    @property
    def unread(self) -> int: ...
    @property
    def unsent(self) -> int: ...
    def receive(self, data: bytes) -> None: ...
    def next_question(self) -> Q_co | Yield | None: ...
    def answer(self, answer: A_contra | PostOfficeError | None) -> None: ...
    def take_output(self) -> bytes: ...
    def secured(self, bindings: Mapping[str, bytes]) -> None: ...


class Answerer(Protocol[Q_contra, A_co]):
    """What the loop needs of a connection."""

    lost: bool

    def ask(self, question: Q_contra) -> A_co | Awaitable[A_co]:
        """The answer to a question, or an awaitable of it.  Raises PostOfficeError."""

    def flush(self) -> None:
        """Send the session's output."""

    def failed(self, error: Exception) -> PostOfficeError:
        """Log an answer that could not be given; return it as the session may hear it."""

    def burst_ended(self, failure: Failure | None) -> None:
        """All that has arrived is answered; or, with ``failure``, it cannot be."""


class QuestionLoop(Generic[Q, A]):
    """
    Answers what one client has asked, and waits where an answer must wait.

    Most bursts of input are answered without waiting.  A Deferred costs as much as
    the answers do, so one is made only when an answer must wait.  ``running`` is
    true from the first question to the last answer.
    """

    def __init__(self, answerer: Answerer[Q, A], reactor_shares: ReactorShares) -> None:
        self.running = False
        self._answerer = answerer
        self._reactor_shares = reactor_shares
        self._waiting: Deferred[None] | None = None
        self._blocked: Deferred[None] | None = None  # fires when the transport can take more output
        self._asked = False  # a question is open

    @property
    def blocked(self) -> bool:
        """Whether the transport can take no more output."""
        return self._blocked is not None

    def block(self) -> None:
        """The transport's send buffer is full: answer no more questions."""
        if self._blocked is None:
            self._blocked = Deferred()

    def unblock(self) -> None:
        """The transport can take more output."""
        blocked, self._blocked = self._blocked, None
        if blocked is not None:
            blocked.callback(None)

    def cancel(self) -> None:
        """The connection is lost: stop waiting."""
        if self._waiting is not None:
            self._waiting.cancel()

    def run(self, session: Session[Q, A]) -> None:
        """Answer everything that has arrived."""
        self.running = True
        share = ClientShare(self._reactor_shares)
        waiting: Awaitable[Outcome[A]] | None
        if self._blocked is not None or self._reactor_shares.used_up:
            waiting = self._pause(share, new=True)
        else:
            try:
                waiting = self._advance(session, share)
            except Exception:
                return self._end(Failure())  # type: ignore[no-untyped-call]
        if waiting is None:
            return self._end(None)
        self._waiting = Deferred.fromCoroutine(self._go_on(session, share, waiting))
        self._waiting.addBoth(self._end)
        return None

    def _end(self, outcome: Failure | None) -> None:
        self.running = self._asked = False
        self._waiting = None
        self._answerer.burst_ended(outcome)

    def _advance(self, session: Session[Q, A], share: ClientShare) -> Awaitable[Outcome[A]] | None:
        """Answer questions until one must wait; return what to wait for, or None at the end."""
        answerer = self._answerer
        while (question := session.next_question()) is not None:
            answer: Outcome[A] | Awaitable[Outcome[A]]
            try:
                if isinstance(question, Yield):
                    answer = self._yield_turn(question, share)
                else:
                    answer = answerer.ask(question)
                    if answer is not None:
                        answer = at_once(answer)
            except Exception as error:
                answer = self._failed(error)
            if answer is not None and waits(answer):
                self._asked = True
                return answer  # type: ignore[return-value]
            if answerer.lost:  # the answer has no receiver any more
                return None
            waiting = self._give(session, share, answer)  # type: ignore[arg-type]
            if waiting is not None:
                return waiting
        answerer.flush()  # the replies of a pipelined group, in one write
        share.stop()
        return None

    async def _go_on(
        self, session: Session[Q, A], share: ClientShare, waiting: Awaitable[Outcome[A]] | None
    ) -> None:
        """The rest of a burst in which something must wait: one coroutine for all of it."""
        while waiting is not None:
            share.stop()
            answer: Outcome[A]
            try:
                answer = await waiting
            except Exception as error:
                answer = self._failed(error)
            finally:
                share.go_on()
            if self._answerer.lost:
                return
            asked, self._asked, waiting = self._asked, False, None
            if asked:
                waiting = self._give(session, share, answer)
            if waiting is None:
                waiting = self._advance(session, share)

    def _give(
        self, session: Session[Q, A], share: ClientShare, answer: Outcome[A]
    ) -> Awaitable[Outcome[A]] | None:
        """Give the session its answer; return what to wait for before the next question."""
        session.answer(answer)
        if session.unsent > OUTPUT_QUANTUM:
            self._answerer.flush()
        turn = share.had(1)
        return self._pause(share, turn=turn) if turn or self._blocked is not None else None

    def _failed(self, error: Exception) -> PostOfficeError:
        if self._answerer.lost and isinstance(error, CancelledError):
            raise error
        return self._answerer.failed(error)

    def _yield_turn(self, question: Yield, share: ClientShare) -> Awaitable[None] | None:
        """The session has answered much by itself: wait if this client's share is used up."""
        if question.steps and not share.had(question.steps):
            return None
        return self._pause(share, turn=True)

    async def _pause(self, share: ClientShare, *, turn: bool = False, new: bool = False) -> None:
        """
        Wait until the transport can take output, and with ``turn`` also for this client's turn.

        A ``new`` burst waits for a turn where this one is used up.
        """
        if self._blocked is not None:
            await self._blocked
            share.go_on()
        if turn or (new and self._reactor_shares.used_up):
            self._answerer.flush()
            await share.wait(new=new)
