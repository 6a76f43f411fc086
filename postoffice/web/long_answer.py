"""A long answer, such as a message to save: written as fast as its client takes it."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

#: Octets that are written at once, and seconds in which the client has to take so many.
PIECE, TAKING = 64 << 10, 60.0


class Untaken(Protocol):
    """Counts the octets of all long answers that are not written yet."""

    clock: IReactorTime
    untaken: int


@implementer(IPushProducer)
class LongAnswer:
    """The body of the answer to one request of Twisted; a client that takes nothing is cut off."""

    def __init__(self, request: Any, body: bytes, counted: Untaken) -> None:
        self._request = request
        self._body = body
        self._counted = counted
        self._at = 0
        self._going = False
        self._late: IDelayedCall | None = None

    def begin(self) -> None:
        """Write the first piece."""
        self._counted.untaken += len(self._body)
        self._request.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """Write until the client takes no more."""
        self._stop_waiting()
        self._late = self._counted.clock.callLater(TAKING, self._request.channel.cut_off)
        self._going = True
        while self._going and self._at < len(self._body):
            piece = self._body[self._at : self._at + PIECE]
            self._at += len(piece)
            self._request.write(piece)
        if self._going:
            self.stopProducing()
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        """Pause: the client takes no more now."""
        self._going = False

    def stopProducing(self) -> None:
        """Stop: all is written, or the connection is lost."""
        self._going = False
        self._counted.untaken -= len(self._body)
        self._body = b""
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._late is not None and self._late.active():
            self._late.cancel()
        self._late = None
