"""
The rules of an SMTP or LMTP client (RFC 5321, 2033), without I/O: octets in, octets out.

A session first greets the server, begins TLS and logs in; then it sends one transaction after
another.  Every reply belongs to the command that waits longest for one.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from postoffice.model.hop import AUTH, NONE, OPPORTUNISTIC, PeerReply, Result, Transaction
from postoffice.protocol import client_sasl
from postoffice.protocol.client_sasl import NotProved
from postoffice.protocol.client_state import ClientState
from postoffice.protocol.wire import DotWriter
from postoffice.smtp import client_reply
from postoffice.smtp import client_states as states
from postoffice.smtp.client_attempt import Attempt
from postoffice.smtp.client_commands import Offers
from postoffice.smtp.client_options import SMTPClientOptions
from postoffice.smtp.client_reply import NotAReply, ReplyReader, peer_reply


class SMTPClientSession:
    """
    One connection to a server.

    Call ``receive`` with input and send what ``take_output`` returns.  When ``state`` is READY,
    call ``begin`` with a transaction; when it is TEXT, give the text to ``text`` in pieces and call
    ``end_text``; ``take_result`` returns the result once there is one.  When it is HANDSHAKE, send
    the output, begin TLS, and call ``secured``.  When it is CLOSED, send the output and hang up;
    ``failed`` says why, unless we asked for it.  Tell ``lost`` what else ends the connection.

    ``offers`` is what the server offers; ``heard`` grows with each reply.
    """

    def __init__(self, options: SMTPClientOptions) -> None:
        self.options = options
        self.offers = Offers()
        self.failed: PeerReply | None = None
        self.heard = 0
        self.unsent = 0
        self._output: list[bytes] = []
        self._replies = ReplyReader()
        self._lines: tuple[bytes, ...] = ()  # the text of the reply that is taken
        self._awaited: deque[str] = deque([states.GREETING])
        self._resting = states.READY  # the state while no reply is awaited
        self._mechanisms: list[str] = []  # those that we have not tried yet
        self._exchange: client_sasl.Exchange | None = None
        self._attempt: Attempt | None = None
        self._result: Result | None = None
        self._dots = DotWriter()
        self._transactions = 0

    @property
    def state(self) -> str:
        """What the session waits for."""
        return self._awaited[0] if self._awaited else self._resting

    @property
    def seconds(self) -> float:
        """How long the server may take for its next reply; 0 if we do not wait for one."""
        return self.STATES[self.state].seconds

    @property
    def usable(self) -> bool:
        """Whether a transaction can begin: the server is ready, and takes one more (RFC 9422)."""
        most = self.offers.messages
        ready = self.state == states.READY and self._attempt is None
        return ready and not (most and self._transactions >= most)

    # -- the driver's side -----------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Octets have arrived; they are ignored after the session is closed."""
        replies = self._replies
        replies.receive(data)
        try:
            while self._resting not in (states.HANDSHAKE, states.CLOSED):
                found = replies.next()
                if found is None:
                    return
                self._take(*found)
        except NotAReply as why:
            self._fail(self._own(f"The connection was given up: {why}"))
        if self._resting == states.CLOSED:
            replies.clear()
        elif replies.unread:  # an attack (RFC 3207 §6)
            self._fail(self._own("The server sent octets in clear after its reply to STARTTLS"))

    def take_output(self) -> bytes:
        """Return the output that is to be sent, and clear it."""
        output = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output.clear()
        self.unsent = 0
        return output

    def secured(self, *, verified: bool) -> None:
        """TLS has begun: forget everything that the server said before (RFC 3207 §4.2)."""
        assert self.state == states.HANDSHAKE
        self.options = replace(self.options, encrypted=True, verified=verified)
        self._resting = states.READY
        self._greet()

    def begin(self, transaction: Transaction) -> None:
        """Begin a transaction."""
        assert self.usable
        self._attempt = Attempt(transaction, self.offers, verified=self.options.verified)
        if self._attempt.commands:
            self._transactions += 1
            self._go_on()
        else:
            self._finish()

    def text(self, piece: bytes) -> None:
        """The next octets of the text."""
        if self._resting == states.TEXT:
            self._send(self._dots.write(piece))

    def end_text(self) -> None:
        """The text is complete."""
        if self._resting == states.TEXT:
            self._resting = states.READY
            self._send(self._dots.end())
            self._awaited.extend(
                states.END for _ in self._current.begin_end(lmtp=self.options.lmtp)
            )

    def take_result(self) -> Result | None:
        """Return the result of a transaction, once."""
        result, self._result = self._result, None
        return result

    def quit(self) -> None:
        """End the session: politely where the server waits for a command."""
        if self.state == states.READY and self._attempt is None:
            self._command(states.QUIT, b"QUIT\r\n")
        elif self.state not in (states.QUIT, states.CLOSED):
            self._fail(self._own("The connection was given up: we are stopping"))

    def lost(self, why: str) -> None:
        """The connection is lost, the server was silent too long, or the text cannot be read."""
        if self.state == states.QUIT:
            self._close()
        elif self.state != states.CLOSED:
            self._fail(self._own(why))

    # -- replies ---------------------------------------------------------------------

    def _take(self, code: int, lines: tuple[bytes, ...]) -> None:
        state = self.STATES[self._awaited.popleft() if self._awaited else self._resting]
        answer = peer_reply(code, lines, state.phase)
        self.heard += 1
        if code == 421:  # at any time (RFC 5321 §3.8)
            self._fail(answer)
        else:
            self._lines = lines
            state.take(self, answer)

    def _take_unasked(self, answer: PeerReply) -> None:
        """Fail for a reply that nothing asked for; a yes is out of step."""
        self._fail(_out_of_step(answer) if answer.code < 400 else answer)

    def _fits(self, answer: PeerReply, *classes: int) -> bool:
        """Whether a reply of this class is possible here; fail if it is not."""
        if answer.code // 100 in (*classes, 4, 5):
            return True
        self._fail(_out_of_step(answer))
        return False

    def _succeeded(self, answer: PeerReply) -> bool:
        """Whether a command that must succeed has succeeded; fail if it has not."""
        if self._fits(answer, 2) and not answer.sent:
            self._fail(answer)
        return answer.sent

    def _own(self, why: str) -> PeerReply:
        return PeerReply(0, "", why, self.STATES[self.state].phase)

    # -- greeting, TLS, login ----------------------------------------------------------

    def _take_greeting(self, answer: PeerReply) -> None:
        if self._succeeded(answer):
            self._greet()

    def _greet(self) -> None:
        verb = b"LHLO" if self.options.lmtp else b"EHLO"
        self._command(states.EHLO, b"%b %b\r\n" % (verb, self.options.hostname.encode()))

    def _take_ehlo(self, answer: PeerReply) -> None:
        if answer.permanent and not self.options.lmtp:  # a server of before 1995
            self._command(states.HELO, b"HELO %b\r\n" % self.options.hostname.encode())
        elif self._succeeded(answer):
            self._greeted(extended=True)

    def _take_helo(self, answer: PeerReply) -> None:
        if self._succeeded(answer):
            self._greeted(extended=False)

    def _greeted(self, *, extended: bool) -> None:
        self.offers = Offers.read(self._lines, extended=extended)
        options = self.options
        if options.encrypted or options.level == NONE:
            self._log_in()
        elif self.offers.has("STARTTLS"):
            self._command(states.STARTTLS, b"STARTTLS\r\n")
        elif options.level == OPPORTUNISTIC:
            self._log_in()
        else:
            self._fail(client_reply.NO_TLS)

    def _take_starttls(self, answer: PeerReply) -> None:
        if answer.sent:
            self._resting = states.HANDSHAKE
        elif self.options.level != OPPORTUNISTIC:
            self._fail(replace(answer, status=answer.status or client_reply.NO_TLS.status))
        elif self._fits(answer):
            self._log_in()

    def _log_in(self) -> None:
        """Log in, if we are to; then transactions may begin."""
        options = self.options
        if options.login:
            self._mechanisms = client_sasl.mechanisms(
                self.offers.mechanisms, passwords=options.encrypted or options.level == NONE
            )
            self._try_to_log_in(client_reply.NO_LOGIN)

    def _try_to_log_in(self, otherwise: PeerReply) -> None:
        """Try the next mechanism; if there is none, fail because of ``otherwise``."""
        if not self._mechanisms:
            return self._fail(otherwise)
        name, options = self._mechanisms.pop(0), self.options
        self._exchange = client_sasl.exchange(name, options.login, options.password, options.nonce)
        first = next(self._exchange)
        initial = b"" if first is None else b" " + b64encode(first)
        return self._command(states.AUTH, b"AUTH %b%b\r\n" % (name.encode(), initial))

    def _take_auth(self, answer: PeerReply) -> None:
        assert self._exchange is not None
        try:
            if answer.sent:
                _end(self._exchange)
            elif answer.code // 100 == 3:
                challenge = b64decode(self._lines[0].strip(), validate=True)
                self._command(
                    states.AUTH, b64encode(self._exchange.send(challenge) or b"") + b"\r\n"
                )
            elif answer.code in (504, 534):  # this mechanism is not for us
                self._try_to_log_in(answer)
            else:
                self._fail(answer)
        except (NotProved, NotBase64, StopIteration) as error:
            why = f"The login failed: {error}"
            self._fail(PeerReply(0, client_reply.LOGIN_BROKEN, why, AUTH))

    # -- a transaction -----------------------------------------------------------------

    @property
    def _current(self) -> Attempt:
        assert self._attempt is not None
        return self._attempt

    def _go_on(self) -> None:
        """Send the commands that may be sent now: with PIPELINING all of them (RFC 2920)."""
        attempt = self._current
        if self._awaited:
            return
        if not attempt.open:
            self._command(states.RSET, b"RSET\r\n")
        elif self.offers.has("PIPELINING"):
            self._awaited.extend(state for state, _ in attempt.commands)
            self._send(b"".join(line for _, line in attempt.commands))
            attempt.commands.clear()
        else:
            self._command(*attempt.commands.popleft())

    def _take_mail(self, answer: PeerReply) -> None:
        if self._fits(answer, 2) and not self._fails_for_login(answer):
            self._current.take_mail(answer)
            self._go_on()

    def _take_rcpt(self, answer: PeerReply) -> None:
        if self._fits(answer, 2) and not self._fails_for_login(answer):
            self._current.take_rcpt(answer)
            self._go_on()

    def _fails_for_login(self, answer: PeerReply) -> bool:
        """Fail if a host that the configuration names wants a login; return whether it does."""
        wanted = self.options.chosen and answer.code in client_reply.LOGIN_WANTED
        if wanted:
            self._fail(replace(answer, phase=AUTH))
        return wanted

    def _take_data(self, answer: PeerReply) -> None:
        attempt = self._current
        if not self._fits(answer, 3):
            return
        if answer.code // 100 != 3:
            attempt.fill(answer)
            self._command(states.RSET, b"RSET\r\n")
        elif attempt.accepted:
            self._dots = DotWriter()
            self._resting = states.TEXT
        else:  # no recipient, and still it waits for a text (RFC 2920 §3.1)
            self._command(states.LONE_DOT, b".\r\n")

    def _take_end(self, answer: PeerReply) -> None:
        if self._fits(answer, 2):
            self._current.take_end(answer)
            if not self._awaited:
                self._finish()

    def _take_lone_dot(self, answer: PeerReply) -> None:
        if self._fits(answer, 2):
            self._finish()

    def _take_rset(self, answer: PeerReply) -> None:
        if self._succeeded(answer):
            self._finish()

    def _take_quit(self, answer: PeerReply) -> None:
        self._close()

    def _finish(self) -> None:
        """The transaction is over."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            closed = self._resting == states.CLOSED
            self._result = Result(
                [answer for answer in attempt.replies if answer is not None],
                frozenset(attempt.postponed),
                usable=self.usable,
                begun=not closed or attempt.mail_answered or self._transactions < 2,
                dsn=self.offers.has("DSN"),
            )

    # -- sending, ending -----------------------------------------------------------------

    def _command(self, state: str, line: bytes) -> None:
        self._awaited.append(state)
        self._send(line)

    def _send(self, octets: bytes) -> None:
        self._output.append(octets)
        self.unsent += len(octets)

    def _fail(self, why: PeerReply) -> None:
        """Give the connection up; recipients without a reply get this one."""
        self.failed = why
        self._close()
        if self._attempt is not None:
            self._attempt.fill(why)
            self._finish()

    def _close(self) -> None:
        self._resting = states.CLOSED
        self._awaited.clear()
        self._exchange = None

    #: The table of the protocol; the seconds are those of RFC 5321 §4.5.3.2.
    STATES: ClassVar[Mapping[str, ClientState[SMTPClientSession, PeerReply]]] = {
        states.GREETING: ClientState("greeting", 300, _take_greeting),
        states.EHLO: ClientState("hello", 300, _take_ehlo),
        states.HELO: ClientState("hello", 300, _take_helo),
        states.STARTTLS: ClientState("tls", 300, _take_starttls),
        states.HANDSHAKE: ClientState("tls", 120, _take_unasked),
        states.AUTH: ClientState(AUTH, 300, _take_auth),
        states.READY: ClientState("mail", 0, _take_unasked),
        states.MAIL: ClientState("mail", 300, _take_mail),
        states.RCPT: ClientState("rcpt", 300, _take_rcpt),
        states.DATA: ClientState("data", 120, _take_data),
        states.TEXT: ClientState("data", 180, _take_unasked),
        states.END: ClientState("end", 600, _take_end),
        states.LONE_DOT: ClientState("data", 60, _take_lone_dot),
        states.RSET: ClientState("end", 20, _take_rset),
        states.QUIT: ClientState("end", 5, _take_quit),
        states.CLOSED: ClientState("end", 5, _take_unasked),
    }


def _end(exchange: client_sasl.Exchange) -> None:
    """Take the server's word that the login has succeeded.  Raises NotProved if it is too early."""
    try:
        exchange.send(None)
    except StopIteration:
        return
    raise NotProved("the server ended the login too early")


def _out_of_step(answer: PeerReply) -> PeerReply:
    """Turn a reply that is impossible here into a temporary failure."""
    told = f"The server is out of step: {answer.code} {answer.text}"
    return replace(answer, code=0, text=told)
