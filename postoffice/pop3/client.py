"""
The rules of a POP3 client (RFC 1939, 2449, 2595, 5034), without I/O: octets in, octets out.

A session first begins TLS, if it is to, and logs in; then it takes commands.  Every reply belongs
to the command that waits longest for one.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

from postoffice.pop3 import client_states as states
from postoffice.pop3.client_commands import CAPA, Command, Ended, Event, TextPiece
from postoffice.pop3.client_options import WINDOW, Capabilities, POP3ClientOptions
from postoffice.pop3.client_reply import (
    COMMAND,
    END,
    GREETING,
    LOGIN,
    PERMANENT,
    TLS,
    ClientReply,
    NotAReply,
    Secrets,
    failure,
)
from postoffice.protocol import client_sasl
from postoffice.protocol.client_sasl import NotProved
from postoffice.protocol.client_state import ClientState
from postoffice.protocol.wire import BareLineEnd, LineReader, LineTooLong, UncheckedReader

#: Octets of a reply's line with its CRLF; RFC 2449 §4 allows 512.
LINE_MAXIMUM = 4096
#: Octets of a command's line that carries a first response (RFC 5034 §4).
COMMAND_MAXIMUM = 255
#: So many octets of a text count as a sign of life, as a reply does.
LIFE = 16 << 10
_UNSAFE = re.compile(r"[\x00\r\n]")


class POP3ClientSession:
    """
    One connection to a server.

    Call ``receive`` with input and send what ``take_output`` returns.  When ``state`` is READY or
    there is ``room``, call ``ask`` with commands, and ``take_events`` for what was answered.  When
    it is HANDSHAKE, send the output, begin TLS, and call ``secured``.  When it is CLOSED, send the
    output and hang up; ``failed`` says why, unless we asked for it, and then ``farewell`` is the
    reply to QUIT.  Tell ``lost`` what else ends the connection.

    ``offers`` is what the server offers; ``heard`` grows with each reply and each 16 KiB of text.
    """

    def __init__(self, options: POP3ClientOptions) -> None:
        self.options = options
        self.offers = Capabilities()
        self._secrets = Secrets(options.password)
        self.failed: ClientReply | None = None
        self.farewell: ClientReply | None = None
        self.entered = False  # logged in
        self.heard = 0
        self._output: list[bytes] = []
        self._events: list[Event] = []
        self._lines = LineReader(LINE_MAXIMUM)
        self._awaited: deque[str] = deque([states.GREETING])
        self._asked: deque[Command] = deque()
        self._resting = states.READY  # the state while no reply is awaited
        self._text: UncheckedReader | None = None  # of the first command in _asked
        self._status: ClientReply | None = None  # its +OK
        self._octets = self._counted = 0
        self._capa: list[bytes] = []
        self._after_capa: Callable[[POP3ClientSession], None] = POP3ClientSession._secure
        self._mechanism = ""
        self._exchange: client_sasl.Exchange | None = None

    @property
    def state(self) -> str:
        """What the session waits for."""
        if self._text is not None:
            return states.TEXT
        return self._awaited[0] if self._awaited else self._resting

    @property
    def seconds(self) -> float:
        """How long the server may take for its next reply; 0 if we do not wait for one."""
        return self.STATES[self.state].seconds

    @property
    def room(self) -> int:
        """How many commands can be asked now: more than one needs PIPELINING."""
        if not self.entered or self._resting != states.READY:
            return 0
        wide = self.options.pipelining and self.offers.has("PIPELINING")
        return max((WINDOW if wide else 1) - len(self._awaited), 0)

    # -- the driver's side -----------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Octets have arrived; they are ignored after the session is closed."""
        self._lines.receive(data)
        try:
            while self._resting not in (states.HANDSHAKE, states.CLOSED) and self._read():
                pass
        except (LineTooLong, BareLineEnd) as why:
            self._fail(self._own(_WRONG_LINES[type(why)]))
        except NotAReply as why:
            self._fail(self._own(str(why)))
        if self._resting == states.CLOSED:
            self._lines.take()
        elif self._resting == states.HANDSHAKE and self._lines.unread:  # an attack (RFC 2595 §4)
            self._fail(self._own("The server sent octets in clear after its reply to STLS"))

    def take_output(self) -> bytes:
        """Return the output that is to be sent, and clear it."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def take_events(self) -> list[Event]:
        """Return what was answered since the last call."""
        events, self._events = self._events, []
        return events

    def secured(self) -> None:
        """TLS has begun: forget everything that the server said before (RFC 2595 §4)."""
        assert self.state == states.HANDSHAKE
        self.options = replace(self.options, encrypted=True)
        self._resting = states.READY
        self._ask_capa(POP3ClientSession._log_in)

    def ask(self, command: Command) -> None:
        """Send a command; there must be ``room``."""
        assert self.room
        self._command(states.COMMAND, command)

    def quit(self) -> None:
        """End the session: politely where the server waits for a command."""
        if self.state == states.READY:
            self._send(states.QUIT, b"QUIT\r\n")
        elif self.state not in (states.QUIT, states.CLOSED):
            self._fail(self._own("The connection was given up: we are stopping"))

    def lost(self, why: str) -> None:
        """The connection is lost, or the server was silent too long."""
        if self.state != states.CLOSED:
            self._fail(self._own(why))

    # -- reading ---------------------------------------------------------------------

    def _read(self) -> bool:
        """Take the next line, or more of a text; False if there is nothing whole yet."""
        if self._text is not None:
            return self._read_text(self._text)
        line = self._lines.next()
        if line is None:
            return False
        self.heard += 1
        state = self.STATES[self.state]
        if self.state == states.AUTH and line[:1] == b"+" and line[1:2] in (b" ", b""):
            self._go_on_with_login(line[2:])
            return True
        answer = self._secrets.read(line, state.phase)
        if self._awaited:
            self._awaited.popleft()
        state.take(self, answer)
        return True

    def _read_text(self, reader: UncheckedReader) -> bool:
        if not self._lines.unread:
            return False
        text, rest = reader.feed(self._lines.take())
        command = self._asked[0]
        self._octets += len(text)
        self.heard += (self._octets - self._counted) // LIFE
        self._counted += (self._octets - self._counted) // LIFE * LIFE
        if self._octets > command.most:
            self._fail(self._own(f"The reply to {command.verb} has over {command.most} octets"))
            return False
        if text:
            self._tell(TextPiece(command, text))
        if reader.ended:
            self._text = None
            self._lines.receive(rest)
            assert self._status is not None
            self._end(self._status)
        return True

    def _take_command(self, answer: ClientReply) -> None:
        if answer.ok and self._asked[0].most:
            self._text = UncheckedReader()
            self._status = answer
            self._octets = self._counted = 0
        else:
            self._end(answer)

    def _tell(self, piece: TextPiece) -> None:
        if piece.command is CAPA:
            self._capa.append(piece.octets)
        else:
            self._events.append(piece)

    def _end(self, answer: ClientReply) -> None:
        """The reply to a command is complete."""
        command = self._asked.popleft()
        if command is CAPA:
            self.offers = Capabilities.read(b"".join(self._capa))
            self._capa.clear()
            self._after_capa(self)
        else:
            self._events.append(Ended(command, answer))

    def _take_unasked(self, answer: ClientReply) -> None:
        """Fail for a reply that nothing asked for; a yes is out of step."""
        if answer.ok:
            answer = self._own(f"The server is out of step: +OK {answer.text}")
        self._fail(answer)

    # -- greeting, TLS, login ----------------------------------------------------------

    def _take_greeting(self, answer: ClientReply) -> None:
        if answer.ok:
            self._ask_capa(POP3ClientSession._secure)
        else:
            self._fail(answer)

    def _ask_capa(self, then: Callable[[POP3ClientSession], None]) -> None:
        """Ask for the capabilities; a server of before 1998 refuses, and has none."""
        self._after_capa = then
        self._command(states.CAPA, CAPA)

    def _secure(self) -> None:
        options = self.options
        if options.encrypted or not options.stls:
            self._log_in()
        elif self.offers.has("STLS") or not self.offers.names:
            self._send(states.STLS, b"STLS\r\n")
        else:
            self._fail(failure(TLS, "The server does not offer TLS (STLS): try pop3s://"))

    def _take_stls(self, answer: ClientReply) -> None:
        if answer.ok:
            self._resting = states.HANDSHAKE
        else:
            self._fail(replace(answer, text=f"STLS failed: {answer.text}"))

    def _log_in(self) -> None:
        """
        Log in by the best mechanism.

        With TLS that is PLAIN, which works with every kind of stored password.  USER is tried if
        the server offers no mechanism.
        """
        options, offered = self.options, self.offers.mechanisms
        clear = options.encrypted or options.passwords
        known = client_sasl.mechanisms(offered, passwords=clear)
        if options.encrypted and "PLAIN" in known:
            known = ["PLAIN"]
        if _UNSAFE.search(options.login) or _UNSAFE.search(options.password):
            self._fail(_never("The login or the password has a NUL, CR or LF"))
        elif known and (known[0] != "LOGIN" or not self.offers.has("USER")):
            self._authenticate(known[0])
        elif clear:
            self._send(states.USER, b"USER %b\r\n" % options.login.encode())
        else:
            self._fail(_never("The server offers no login without TLS that hides passwords"))

    def _take_user(self, answer: ClientReply) -> None:
        if answer.ok:
            self._send(states.PASS, b"PASS %b\r\n" % self.options.password.encode())
        else:
            self._fail(answer)

    def _take_pass(self, answer: ClientReply) -> None:
        if not answer.ok:
            self._fail(answer)
            return
        self.entered = True
        if self.offers.names:  # they may be others now (RFC 2449 §5)
            self._ask_capa(POP3ClientSession._ready)

    def _ready(self) -> None:
        """Commands may be asked now."""

    def _authenticate(self, mechanism: str) -> None:
        options = self.options
        self._exchange = client_sasl.exchange(
            mechanism, options.login, options.password, options.nonce
        )
        first = next(self._exchange)
        line = b"AUTH %b" % mechanism.encode()
        whole = (
            line
            if first is None
            else b"%b %b" % (line, self._secrets.add(b64encode(first)) or b"=")
        )
        if len(whole) + 2 > COMMAND_MAXIMUM:  # then it is the answer to an empty challenge
            self._exchange = _late(first, self._exchange)
            next(self._exchange)
            whole = line
        self._send(states.AUTH, whole + b"\r\n")

    def _go_on_with_login(self, challenge: bytes) -> None:
        assert self._exchange is not None
        try:
            response = self._exchange.send(b64decode(challenge.strip(), validate=True))
        except (NotProved, NotBase64, StopIteration) as error:
            self._fail(failure(LOGIN, f"The login failed: {error}"))
        else:
            self._output.append(self._secrets.add(b64encode(response or b"")) + b"\r\n")

    def _take_auth(self, answer: ClientReply) -> None:
        assert self._exchange is not None
        try:
            if answer.ok:
                self._exchange.send(None)
                raise NotProved("the server ended the login too early")
        except StopIteration:
            pass
        except NotProved as error:
            self._fail(failure(LOGIN, f"The login failed: {error}"))
            return
        self._exchange = None
        self._take_pass(answer)

    # -- sending, ending -----------------------------------------------------------------

    def _take_quit(self, answer: ClientReply) -> None:
        self.farewell = answer
        self._close()

    def _own(self, why: str) -> ClientReply:
        return failure(self.STATES[self.state].phase, why)

    def _command(self, state: str, command: Command) -> None:
        self._asked.append(command)
        self._send(state, bytes(command))

    def _send(self, state: str, line: bytes) -> None:
        self._awaited.append(state)
        self._output.append(line)

    def _fail(self, why: ClientReply) -> None:
        """Give the connection up."""
        self.failed = why
        self._close()

    def _close(self) -> None:
        self._resting = states.CLOSED
        self._awaited.clear()
        self._asked.clear()
        self._text = self._exchange = None

    #: The table of the protocol.
    STATES: ClassVar[Mapping[str, ClientState[POP3ClientSession, ClientReply]]] = {
        states.GREETING: ClientState(GREETING, 120, _take_greeting),
        states.CAPA: ClientState(GREETING, 120, _take_command),
        states.STLS: ClientState(TLS, 120, _take_stls),
        states.HANDSHAKE: ClientState(TLS, 120, _take_unasked),
        states.USER: ClientState(LOGIN, 120, _take_user),
        states.PASS: ClientState(LOGIN, 300, _take_pass),
        states.AUTH: ClientState(LOGIN, 300, _take_auth),
        states.READY: ClientState(COMMAND, 0, _take_unasked),
        states.COMMAND: ClientState(COMMAND, 600, _take_command),
        states.TEXT: ClientState(COMMAND, 300, _take_unasked),
        states.QUIT: ClientState(END, 600, _take_quit),
        states.CLOSED: ClientState(END, 5, _take_unasked),
    }


_WRONG_LINES: Mapping[type[Exception], str] = {
    LineTooLong: "The server sent a line that is too long for a reply",
    BareLineEnd: "The server sent a line that does not end with CRLF",
}


def _never(why: str) -> ClientReply:
    return failure(LOGIN, why, PERMANENT)


def _late(first: bytes | None, exchange: client_sasl.Exchange) -> client_sasl.Exchange:
    """An exchange whose first response waits for an empty challenge (RFC 5034 §4)."""
    challenge = yield None
    if challenge != b"":
        raise NotProved("a challenge where none was due")
    challenge = yield first
    while True:
        try:
            response = exchange.send(challenge)
        except StopIteration:
            return
        challenge = yield response
