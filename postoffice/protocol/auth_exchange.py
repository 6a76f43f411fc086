"""AUTH (RFC 4954 §4, RFC 5034 §4): a SASL exchange over base64 lines, for SMTP and POP3 alike."""

from __future__ import annotations

from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Protocol

from postoffice.model.errors import LoginRefused, PostOfficeError
from postoffice.protocol import sasl
from postoffice.protocol.line_session import Ask, Link
from postoffice.protocol.sasl import Challenge, Claim, Prove, SaltOf
from postoffice.protocol.scram import Salt

#: Octets of a line of an AUTH exchange, CRLF included.
LINE_MAXIMUM = 12288


class Fault(Enum):
    """Why an exchange ended without a claim."""

    CANCELLED = "the client has cancelled the exchange with *"
    NOT_BASE64 = "the client's line is not base64"
    MALFORMED = "the client's message does not fit the mechanism"


class LoginSession(Protocol):
    """What an exchange needs of its session."""

    @property
    def ask(self) -> Ask: ...

    def challenge(self, line: bytes) -> None:
        """Send a challenge, which is in base64 already."""

    def end_exchange(self, fault: Fault) -> None:
        """The exchange is over, because of a fault of the client."""

    def refuse_login(self, failure: PostOfficeError) -> None:
        """The exchange is over: the claim is false, or could not be checked."""

    def login_proved(self) -> None:
        """The client has proved who it is."""


class AuthExchange:
    """One exchange with one mechanism, which ``link`` must offer."""

    def __init__(self, mechanism: str, link: Link, session: LoginSession) -> None:
        self._mechanism = mechanism
        self._session = session
        self._refused = False
        self._exchange = sasl.exchange(
            mechanism,
            hostname=link.hostname,
            bindings=link.bindings,
            plus=any(name.endswith("-PLUS") for name in link.offered),
        )

    def begin(self, initial: bytes | None) -> None:
        """Take the first step; ``initial`` is the initial response in base64, or None."""
        self._advance(partial(self._first, initial))

    def respond(self, line: bytes) -> None:
        """The client has sent this line."""
        line = line.rstrip(b" \t")
        if self._refused:  # the client has read the error
            self._session.refuse_login(LoginRefused())
        elif line == b"*":
            self._session.end_exchange(Fault.CANCELLED)
        else:
            self._advance(lambda: self._exchange.send(_decoded(line)))

    def _first(self, initial: bytes | None) -> Challenge | SaltOf | Claim:
        step = self._exchange.send(None)
        if initial is None:
            return step
        if not isinstance(step, Challenge) or not step.first:
            raise sasl.Malformed("an initial response")
        return self._exchange.send(b"" if initial == b"=" else _decoded(initial))

    def _advance(self, step: Callable[[], Challenge | SaltOf | Claim]) -> None:
        """Advance the exchange by one step."""
        try:
            asked = step()
        except StopIteration:
            self._session.login_proved()
        except NotBase64:
            self._session.end_exchange(Fault.NOT_BASE64)
        except sasl.Malformed:
            self._session.end_exchange(Fault.MALFORMED)
        except sasl.Refused:
            self._session.refuse_login(LoginRefused())
        else:
            self._send_or_ask(asked)

    def _send_or_ask(self, step: Challenge | SaltOf | Claim) -> None:
        session = self._session
        if isinstance(step, Challenge):
            session.challenge(b2a_base64(step.octets, newline=False))
        elif isinstance(step, SaltOf):
            session.ask(step, self._go_on, session.refuse_login)
        else:
            session.ask(Prove(step, self._mechanism), self._go_on, self._not_proved)

    def _go_on(self, answer: Salt | None) -> None:
        self._advance(lambda: self._exchange.send(answer))

    def _not_proved(self, failure: PostOfficeError) -> None:
        """Refuse; some mechanisms first send an error, and expect one more line."""
        if isinstance(failure, LoginRefused):
            self._refused = True
            self._advance(lambda: self._exchange.throw(sasl.Refused("the claim is not true")))
        else:
            self._session.refuse_login(failure)


def _decoded(line: bytes) -> bytes:
    """Decode base64.  Raises NotBase64."""
    return a2b_base64(line, strict_mode=True) if line else b""
