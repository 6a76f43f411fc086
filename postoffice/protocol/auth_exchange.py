"""AUTH (RFC 4954 §4, RFC 5034 §4): a SASL exchange over base64 lines, one step at a time."""

from __future__ import annotations

from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64
from typing import Any

from postoffice.protocol import sasl
from postoffice.protocol.line_session import Link
from postoffice.protocol.sasl import Claim, Prove, SaltOf

#: Octets of a line of an AUTH exchange, CRLF included.
LINE_MAXIMUM = 12288

#: A line for the client; a question; or None: the client has proved who it is.
Step = bytes | SaltOf | Prove | None


class Cancelled(Exception):
    """The client has cancelled the exchange with ``*``."""


class NoBase64(Exception):
    """The client's line is not base64."""


class AuthExchange:
    """
    One exchange with one mechanism, which ``link`` must offer.

    Every step may raise Cancelled, NoBase64, or an exception of the mechanism
    (Malformed, Refused).  After an exception the exchange is over.
    """

    def __init__(self, mechanism: str, link: Link) -> None:
        self.mechanism = mechanism
        self._refused = False
        self._exchange = sasl.exchange(
            mechanism,
            hostname=link.hostname,
            bindings=link.bindings,
            plus=any(name.endswith("-PLUS") for name in link.offered),
        )

    def begin(self, initial: bytes | None) -> Step:
        """The first step; ``initial`` is the client's initial response in base64, or None."""
        step = self._exchange.send(None)
        if initial is None:
            return self._as_step(step)
        if not isinstance(step, sasl.Challenge) or not step.first:
            raise sasl.Malformed("an initial response")
        return self.go_on(b"" if initial == b"=" else _decoded(initial))

    def respond(self, line: bytes) -> Step:
        """The client has sent this line."""
        if self._refused:
            raise sasl.Refused("the client has read the error")
        line = line.rstrip(b" \t")
        if line == b"*":
            raise Cancelled
        return self.go_on(_decoded(line))

    def go_on(self, answer: Any) -> Step:
        """The question that the last step returned has been answered."""
        try:
            return self._as_step(self._exchange.send(answer))
        except StopIteration:
            return None

    def refuse(self) -> Step:
        """The claim is not true.  Some mechanisms then send an error and expect one more line."""
        self._refused = True
        return self._as_step(self._exchange.throw(sasl.Refused("the claim is not true")))

    def _as_step(self, step: sasl.Challenge | SaltOf | Claim) -> Step:
        if isinstance(step, sasl.Challenge):
            return b2a_base64(step.octets, newline=False)
        return Prove(step, self.mechanism) if isinstance(step, Claim) else step


def _decoded(line: bytes) -> bytes:
    try:
        return a2b_base64(line, strict_mode=True) if line else b""
    except NotBase64:
        raise NoBase64 from None
