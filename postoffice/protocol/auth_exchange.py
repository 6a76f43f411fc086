"""A login over lines (RFC 4954 §4, RFC 5034 §4): an exchange in base64, one step at a time."""

from __future__ import annotations

from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64
from typing import Any

from postoffice.protocol import sasl
from postoffice.protocol.line_session import Link
from postoffice.protocol.sasl import Claim, Prove, SaltOf

#: Octets of a line of a login, its CRLF included.
LINE_MAXIMUM = 12288

#: A line for the client; a question; or None: the client has proved who it is.
Step = bytes | SaltOf | Prove | None


class Cancelled(Exception):
    """The client does not want to log in any more."""


class NoBase64(Exception):
    """The client's line is none of a login."""


class AuthExchange:
    """
    One exchange, over a link that offers its mechanism.

    Every step raises Cancelled, NoBase64, and what the exchange raises: Malformed,
    Refused.  Then it is over.
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
        """The first step; with the client's initial response, if it has one."""
        step = self._exchange.send(None)
        if initial is None:
            return self._told(step)
        if not isinstance(step, sasl.Challenge) or not step.first:
            raise sasl.Malformed("an initial response")
        return self.go_on(b"" if initial == b"=" else _decoded(initial))

    def respond(self, line: bytes) -> Step:
        """The client has answered with this line."""
        if self._refused:
            raise sasl.Refused("now it knows why")
        line = line.rstrip(b" \t")
        if line == b"*":
            raise Cancelled
        return self.go_on(_decoded(line))

    def go_on(self, answer: Any) -> Step:
        """The question has been answered."""
        try:
            return self._told(self._exchange.send(answer))
        except StopIteration:
            return None

    def refuse(self) -> Step:
        """The claim is not true; some mechanisms say why, and hear one line more."""
        self._refused = True
        return self._told(self._exchange.throw(sasl.Refused("the claim is not true")))

    def _told(self, step: sasl.Challenge | SaltOf | Claim) -> Step:
        if isinstance(step, sasl.Challenge):
            return b2a_base64(step.octets, newline=False)
        return Prove(step, self.mechanism) if isinstance(step, Claim) else step


def _decoded(line: bytes) -> bytes:
    try:
        return a2b_base64(line, strict_mode=True) if line else b""
    except NotBase64:
        raise NoBase64 from None
