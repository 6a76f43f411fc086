"""
The rules of an SMTP session (RFC 5321, 2033, 6409), without I/O: octets in, questions out.

Each question is answered before the next input is processed.  This one rule gives
pipelining, the order of replies, and back-pressure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from postoffice.model import reply
from postoffice.model.errors import PermanentFailure, PostOfficeError
from postoffice.model.reply import Reply
from postoffice.protocol.auth_exchange import LINE_MAXIMUM, AuthExchange, Fault
from postoffice.protocol.questions import Secure
from postoffice.protocol.wire import BareLineEnd, LineTooLong, is_request
from postoffice.smtp import grammar
from postoffice.smtp.options import SessionOptions, SMTPLimits
from postoffice.smtp.questions import Connect, Enter, Hello, Impersonate
from postoffice.smtp.transaction import Transaction

#: Octets of a command line, CRLF included: 512 by §4.5.3.1.4, and more for the extensions.
COMMAND_MAXIMUM = 2048


class SMTPSession(Transaction):
    """The session of one SMTP, submission or LMTP client; used like any ``LineSession``."""

    def __init__(self, options: SessionOptions, limits: SMTPLimits) -> None:
        line_maximum = LINE_MAXIMUM if options.mechanisms else COMMAND_MAXIMUM
        super().__init__(options, limits, line_maximum)
        self._failed_logins = 0
        self._exchange: AuthExchange | None = None
        self._ask(Connect(), self._answered_connect)

    def _reset_session(self) -> None:
        """Return to the state before EHLO."""
        self._end_transaction()
        self._hello = self._mail_without_hello = None
        self._extended = self._login = self._hello_refused = False

    def secured(self, bindings: Mapping[str, bytes]) -> None:
        """TLS has begun: forget everything that the client said before (RFC 3207 §4.2)."""
        self.options = replace(
            self.options, encrypted=True, passwords=True, starttls=False, bindings=bindings
        )
        self.upgrading = False
        self._lines.take()
        self._reset_session()  # no greeting is sent

    # -- reading ---------------------------------------------------------------

    def _step(self) -> bool:
        if self.upgrading:
            if self._input_behind_starttls():
                self.dismiss(reply.INJECTED)
            return False
        return super()._step()

    def _read_line(self) -> bool:
        if self._exchange is None and self._lines.foreign:
            self.refusals.hear(b"")
            self.dismiss(reply.OTHER_PROTOCOL)  # ignore the rest of the input
            return False
        try:
            line = self._lines.next()
            if line is None:
                return False
            if self._exchange is not None:
                self.progress += 1
                self._exchange.respond(line)
            else:
                self._obey(line)
        except LineTooLong:
            self.refusals.hear(b"")
            in_login, self._exchange = self._exchange is not None, None
            self._refuse(reply.LOGIN_LINE_TOO_LONG if in_login else reply.LINE_TOO_LONG)
        except BareLineEnd:
            self.refusals.hear(b"")
            self._exchange = None
            self._refuse(reply.BARE_LINE_END)
        except PermanentFailure as failure:
            self._refuse(failure.reply)
        return True

    def _obey(self, line: bytes) -> None:
        heard = line.replace(b"\t", b" ").strip(b" ")
        self.refusals.hear(heard)
        verb = heard.partition(b" ")[0].decode("latin-1").upper()
        command = self.COMMANDS.get(verb)
        if command is None and is_request(line):
            return self.dismiss(reply.OTHER_PROTOCOL)
        argument = grammar.decode(heard).partition(" ")[2]
        if verb != "BDAT" or self._chunks is None:  # chunks count by their octets
            self.progress += 1
        if len(line) > COMMAND_MAXIMUM - 2 and verb != "AUTH":
            self._refuse(reply.LINE_TOO_LONG)
        elif command is None:
            self._refuse(
                reply.NOT_IMPLEMENTED if verb in NOT_IMPLEMENTED else reply.UNKNOWN_COMMAND
            )
        elif verb not in ADVANCING and (objection := self.options.objection(verb)):
            self._refuse(objection)
        elif verb in IDLE and self._too_many_idle_commands():
            self.dismiss(reply.TOO_MANY_COMMANDS)
        else:
            command(self, argument.strip(" "))
        return None

    def _run_deferred(self, command: Callable[[], None]) -> None:
        """Execute a command that had to wait for an answer."""
        try:
            command()
        except PermanentFailure as failure:
            self._refuse(failure.reply)

    # -- commands: hello -------------------------------------------------------------

    def _ehlo(self, argument: str) -> None:
        self._greet(grammar.hello(argument), extended=True)

    def _helo(self, argument: str) -> None:
        self._greet(grammar.hello(argument), extended=False)

    def _greet(self, name: str, *, extended: bool) -> None:
        self._end_transaction()
        self._hello, self._extended = name, extended
        self._ask(Hello(name), self._answered_hello)

    def _starttls(self, argument: str) -> None:
        if argument:
            return self._refuse(grammar.no_argument("STARTTLS"))
        if self._input_behind_starttls():
            return self.dismiss(reply.INJECTED)
        return self._ask(Secure(), self._answered_secure)

    def _xclient(self, argument: str) -> None:
        if self._mail is not None:
            return self._refuse(reply.IN_A_MESSAGE)
        return self._ask(Impersonate(*grammar.xclient(argument)), self._answered_impersonate)

    # -- commands: logging in (RFC 4954) -----------------------------------------------

    def _auth(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        if not self._extended:
            return self._refuse(reply.SAY_EHLO_FIRST)
        if self._login:
            return self._refuse(reply.LOGGED_IN_ALREADY)
        if self._mail is not None:
            return self._refuse(reply.IN_A_MESSAGE)
        if not self.options.passwords:
            return self._refuse(reply.ENCRYPTION_FIRST)
        offered = self.options.offered
        if mechanism.upper() not in offered:
            return self._refuse(reply.UNKNOWN_MECHANISM if mechanism else NO_MECHANISM)
        self._exchange = AuthExchange(mechanism.upper(), self.options, self)
        return self._exchange.begin(initial.strip(" ").encode() or None)

    def challenge(self, line: bytes) -> None:
        self._say(Reply(334, "", line.decode("ascii")))

    def end_exchange(self, fault: Fault) -> None:
        self._end_exchange(FAULTS[fault])

    def login_proved(self) -> None:
        self.ask(Enter(), self._logged_in, self.refuse_login)

    def _logged_in(self, answer: None) -> None:
        self._exchange = None
        self._login = True
        self._say(reply.LOGGED_IN)

    def _end_exchange(self, refusal: Reply) -> None:
        self._exchange = None
        self._refuse(refusal)

    def refuse_login(self, failure: PostOfficeError) -> None:
        """Refuse a login: a temporary failure with 454 (RFC 4954 §6); others are counted."""
        refusal = failure.reply
        self._failed_logins += refusal.permanent
        if self._failed_logins >= self._limits.logins:
            self._exchange = None
            self._say(refusal)
            self.dismiss(reply.TOO_MANY_LOGINS)
        elif refusal.permanent:
            self._end_exchange(refusal)
        else:
            self._end_exchange(replace(reply.LOGIN_LATER, text=refusal.text))

    # -- commands: a message -----------------------------------------------------------

    def _rset(self, argument: str) -> None:
        if argument:
            return self._refuse(grammar.no_argument("RSET"))
        self._end_transaction()
        return self._say(reply.OK)

    def _noop(self, argument: str) -> None:
        self._say(reply.OK)

    def _vrfy(self, argument: str) -> None:
        """VRFY never tells which addresses exist (§7.3)."""
        if argument:
            self._say(reply.CANNOT_VERIFY)
        else:
            self._refuse(NO_NAME)

    def _help(self, argument: str) -> None:
        known = " ".join(verb for verb in self.COMMANDS if self.options.objection(verb) is None)
        self._say(Reply(214, "2.0.0", f"This is postoffice; it knows\n{known}"))

    def _quit(self, argument: str) -> None:
        if argument:
            self._refuse(grammar.no_argument("QUIT"))
        else:
            self.dismiss(reply.BYE)

    # -- answers ---------------------------------------------------------------

    def _answered_connect(self, answer: Reply | None) -> None:
        if answer is None:
            kind = "LMTP" if self.options.lmtp else "ESMTP"
            self._say(Reply(220, "", f"{self.options.hostname} {kind} postoffice"))
        else:
            self.dismiss(answer)

    def _answered_hello(self, answer: Reply | None) -> None:
        unnamed, self._mail_without_hello = self._mail_without_hello, None
        self._hello_refused = answer is not None
        if answer is not None:
            self._hello = None
            self._refuse(answer)
        elif unnamed is not None:
            self._hello = ""
            self._run_deferred(partial(self._mail_from, unnamed))
        elif self._extended:
            keywords = self.options.keywords(self._limits)
            lines = (f"{self.options.hostname} at your service", *keywords)
            self._say(Reply(250, "", "\n".join(lines)))
        else:
            self._say(Reply(250, "", self.options.hostname))

    def _answered_secure(self, answer: Reply | None) -> None:
        if answer is None:
            self._say(reply.READY_FOR_TLS)
            self.upgrading = True
        else:
            self._refuse(answer)

    def _answered_impersonate(self, answer: Reply | SessionOptions) -> None:
        if isinstance(answer, Reply):
            return self._refuse(answer)
        self.options = answer
        self._reset_session()
        return self._ask(Connect(), self._answered_connect)

    #: Every command and its method; each method checks the order of commands (§4.1.4).
    COMMANDS: ClassVar[Mapping[str, Callable[[Any, str], None]]] = {
        "EHLO": _ehlo,
        "HELO": _helo,
        "LHLO": _ehlo,
        "STARTTLS": _starttls,
        "AUTH": _auth,
        "MAIL": Transaction._mail_from,
        "RCPT": Transaction._rcpt_to,
        "DATA": Transaction._data,
        "BDAT": Transaction._bdat,
        "RSET": _rset,
        "NOOP": _noop,
        "VRFY": _vrfy,
        "HELP": _help,
        "QUIT": _quit,
        "XCLIENT": _xclient,
    }


#: The replies to the faults of a client in an AUTH exchange.
FAULTS = {
    Fault.CANCELLED: reply.LOGIN_CANCELLED,
    Fault.NOT_BASE64: reply.BAD_BASE64,
    Fault.MALFORMED: reply.BAD_LOGIN,
}
NO_MECHANISM = Reply(501, "5.5.4", "AUTH needs the name of a mechanism")
NO_NAME = Reply(501, "5.5.4", "VRFY needs a name")
#: Commands of a message, which all options allow.
ADVANCING = frozenset(("MAIL", "RCPT", "DATA", "BDAT"))
#: Commands that do not advance a message: their number between two messages is limited.
IDLE = frozenset(("EHLO", "HELO", "LHLO", "RSET", "NOOP", "VRFY", "HELP", "AUTH", "XCLIENT"))
#: Known commands of SMTP and its extensions that are not implemented (§4.2.4: 502).
NOT_IMPLEMENTED = frozenset(("EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML", "BURL", "ATRN"))
