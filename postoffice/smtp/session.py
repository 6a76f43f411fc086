"""
The rules of an SMTP session (RFC 5321, 2033, 6409), without I/O: octets in, questions out.

Each question is answered before the next input is processed.  This one rule gives
pipelining, the order of replies, and back-pressure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

from postoffice.model import reply
from postoffice.model.errors import PostOfficeError
from postoffice.model.reply import Reply
from postoffice.protocol.auth_exchange import LINE_MAXIMUM, AuthExchange
from postoffice.protocol.line_session import LineSession, ignore
from postoffice.protocol.questions import A, Question, Secure
from postoffice.protocol.refusals import Refusals
from postoffice.protocol.wire import BareLineEnd, LineTooLong, TextReader, is_request
from postoffice.smtp import grammar, questions
from postoffice.smtp.login import Login
from postoffice.smtp.options import ErrorCounts, SMTPLimits, SMTPOptions
from postoffice.smtp.questions import Answer, Mail, SMTPQuestion
from postoffice.smtp.transaction import MailTransaction


class SMTPSession(LineSession[SMTPQuestion, Answer]):
    """
    The session of one SMTP, submission or LMTP client; used like any ``LineSession``.

    ``progress`` grows with each command and with every ``SMTPLimits.pace`` octets of a
    text; ``refusals`` keeps refused commands for the log; ``taken`` counts messages.
    """

    _output_quantum: ClassVar[int] = 8 << 10  # a few milliseconds of work

    def __init__(self, options: SMTPOptions, limits: SMTPLimits) -> None:
        super().__init__(LINE_MAXIMUM if options.mechanisms else grammar.COMMAND_MAXIMUM)
        self.options = options
        self.refusals = Refusals(self.COMMANDS)
        self.taken = 0
        self._limits = limits
        self._counts = ErrorCounts(limits)
        self._exchange: AuthExchange | None = None
        self._transaction = MailTransaction(limits, options.lmtp)
        self._reset()
        self._ask(questions.Connect(), self._answered_connect)

    def _reset(self) -> None:
        """Return to the state before EHLO."""
        self._end_transaction()
        self._hello: str | None = None
        self._hello_refused = False  # a policy refused the name in EHLO or HELO
        self._extended = False
        self._login = False

    def secured(self, bindings: Mapping[str, bytes]) -> None:
        """TLS has begun: forget everything that the client said before (RFC 3207 §4.2)."""
        self.options = replace(
            self.options, encrypted=True, passwords=True, starttls=False, bindings=bindings
        )
        self.upgrading = False
        self._lines.take()
        self._reset()  # no greeting is sent

    def dismiss(self, why: Reply) -> None:
        """End the session from our side with this reply."""
        if not self.closed:
            self._say(why)
            self._close()
            self._end_transaction()

    @property
    def in_message(self) -> bool:
        """Whether a transaction is open."""
        return self._transaction.mail is not None

    @property
    def in_text(self) -> bool:
        """Whether the client is sending a message's text."""
        return self._transaction.reading or self._transaction.chunks is not None

    def _ask(self, question: Question[A], then: Callable[[A | Reply], None]) -> None:
        """Ask; a failure counts as its reply."""
        self.ask(question, then, lambda failure: then(failure.reply))

    def _say(self, said: Reply) -> None:
        if said.code >= 400:
            self.refusals.add(said.log_text, in_message=self.in_message)
        self.replied[said.code // 100] += 1
        self._send(said.wire)

    def _refuse(self, refusal: Reply) -> None:
        """Refuse a command; after many errors slowly, after too many close with 421 (§7.8)."""
        last = self._counts.refused(refusal)
        if last is not None:
            self.dismiss(last)
        elif refusal.permanent and self._counts.slow:
            self._tell(questions.Pause(self._limits.tarpit))
            self._then(partial(self._say, refusal))
        else:
            self._say(refusal)

    def _reply(self, answer: Reply) -> bool:
        """Send the answer to a question; return whether it is positive."""
        (self._say if answer.positive else self._refuse)(answer)
        return answer.positive

    # -- reading ---------------------------------------------------------------

    def _step(self) -> bool:
        if self._transaction.reading:
            return self._read_text(self._transaction)
        if self.upgrading:
            if self._input_behind_starttls():
                self.dismiss(reply.INJECTED)
            return False
        return self._read_line()

    def _read_text(self, text: MailTransaction) -> bool:
        """Pass on more of a text; after a refusal nothing more is passed on."""
        refused = text.refusal is not None
        octets = text.read(self._lines)
        if octets is None:
            return False
        progress, text.unpaced = divmod(text.unpaced, self._limits.pace)
        self.progress += progress
        if octets:
            self._ask(questions.Text(octets), self._answered_text)
        elif text.refusal is not None and not refused:
            self._tell(questions.Abort())
        if text.complete:
            self._then(self._end_of_input)
        return True

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
        except (LineTooLong, BareLineEnd) as wrong:
            self.refusals.hear(b"")
            in_login, self._exchange = self._exchange is not None, None
            if isinstance(wrong, BareLineEnd):
                self._refuse(reply.BARE_LINE_END)
            else:
                self._refuse(reply.LOGIN_LINE_TOO_LONG if in_login else reply.LINE_TOO_LONG)
        except PostOfficeError as failure:
            self._refuse(failure.reply)
        return True

    def _obey(self, line: bytes) -> None:
        heard = line.replace(b"\t", b" ").strip(b" ")
        self.refusals.hear(heard)
        verb = heard.partition(b" ")[0].decode("latin-1").upper()
        command = self.COMMANDS.get(verb)
        if command is None and is_request(line):
            return self.dismiss(reply.OTHER_PROTOCOL)
        argument = grammar.decode(heard).partition(" ")[2].strip(" ")
        if verb != "BDAT" or self._transaction.chunks is None:  # chunks count by their octets
            self.progress += 1
        if len(line) > grammar.COMMAND_MAXIMUM - 2 and verb != "AUTH":
            self._refuse(reply.LINE_TOO_LONG)
        elif command is None:
            self._refuse(
                reply.NOT_IMPLEMENTED if verb in grammar.NOT_IMPLEMENTED else reply.UNKNOWN_COMMAND
            )
        elif verb not in grammar.ADVANCING and (objection := self.options.objection(verb)):
            self._refuse(objection)
        elif verb in grammar.IDLE and self._counts.idled():
            self.dismiss(reply.TOO_MANY_COMMANDS)
        elif self.in_message and verb in grammar.OUTSIDE:
            self._refuse(reply.IN_A_MESSAGE)
        elif argument and verb in grammar.ALONE:
            self._refuse(grammar.no_argument(verb))
        else:
            command(self, argument)
        return None

    # -- commands ------------------------------------------------------------------

    def _ehlo(self, argument: str, *, extended: bool = True) -> None:
        name = grammar.hello(argument)
        self._end_transaction()
        self._hello, self._extended = name, extended
        self._ask(questions.Hello(name), self._answered_hello)

    def _helo(self, argument: str) -> None:
        self._ehlo(argument, extended=False)

    def _starttls(self, argument: str) -> None:
        if self._input_behind_starttls():
            return self.dismiss(reply.INJECTED)
        return self._ask(Secure(), self._answered_secure)

    def _xclient(self, argument: str) -> None:
        impersonate = questions.Impersonate(*grammar.xclient(argument))
        self._ask(impersonate, self._answered_impersonate)

    def _auth(self, argument: str) -> None:
        """RFC 4954."""
        if not self._extended:
            return self._refuse(reply.SAY_EHLO_FIRST)
        if self._login:
            return self._refuse(reply.LOGGED_IN_ALREADY)
        login = Login(self.ask, self._say, self._end_login, self._counts)
        self._exchange, initial = login.exchange(argument, self.options)
        return self._exchange.begin(initial)

    def _end_login(self, said: Reply) -> None:
        self._exchange = None
        if self._counts.logins < self._limits.logins:
            self._login = self._reply(said)
        else:
            self._say(said)
            self.dismiss(reply.TOO_MANY_LOGINS)

    def _mail_from(self, argument: str) -> None:
        if self._hello is None:
            return self._ask_hello_for_mail(argument)
        if self.options.submission and not self._login:
            return self._refuse(reply.LOGIN_FIRST if self.options.passwords else reply.TLS_FIRST)
        parameters = self.options.mail_parameters if self._extended else ()
        mail = grammar.mail(grammar.behind("FROM", argument), parameters)
        if mail.size > self._limits.message_size:
            return self._refuse(reply.TOO_LARGE)
        mail.hello = self._hello
        mail.protocol = self.options.protocol(
            extended=self._extended, utf8=mail.utf8, login=self._login
        )
        return self._ask(mail, partial(self._answered_mail, mail))

    def _ask_hello_for_mail(self, argument: str) -> None:
        """MAIL without EHLO is accepted, after the policies for EHLO were asked with no name."""
        if self.options.lmtp:  # RFC 2033 §4.1
            return self._refuse(reply.SAY_LHLO_FIRST)
        if self.options.submission:  # AUTH needs EHLO before it
            return self._refuse(reply.SAY_EHLO_FIRST)
        if self._hello_refused:
            return self._refuse(reply.SAY_HELLO_FIRST)
        return self._ask(questions.Hello(""), partial(self._answered_no_hello, argument))

    def _rcpt_to(self, argument: str) -> None:
        parameters = self.options.rcpt_parameters if self._extended else ()
        self._ask(self._transaction.recipient(argument, parameters), self._answered_recipient)

    def _data(self, argument: str) -> None:
        self._ask(self._transaction.begin(), self._answered_data)

    def _bdat(self, argument: str) -> None:
        """BDAT; a refused chunk is read to its end, so that it is not taken for commands."""
        chunk = grammar.chunk(argument)
        if chunk is None:
            return self.dismiss(reply.BAD_CHUNK)  # the end of the chunk is unknown
        if chunk == (0, False) and self._counts.idled():
            return self.dismiss(reply.TOO_MANY_COMMANDS)
        if chunk[0] > 2 * self._limits.message_size:
            return self.dismiss(reply.TOO_LARGE)
        refusal = self._transaction.not_ready
        if refusal is not None:
            self._end_transaction()
        if self._transaction.begin_chunk(*chunk, refusal):
            self._ask(questions.Begin(), self._answered_text)
        return None

    def _end_transaction(self) -> None:
        """End the transaction, if there is one (§4.1.1.5)."""
        if self.in_message:
            self._tell(questions.Abort())
        self._transaction = MailTransaction(self._limits, self.options.lmtp)

    def _rset(self, argument: str) -> None:
        self._end_transaction()
        self._say(reply.OK)

    def _noop(self, argument: str) -> None:
        self._say(reply.OK)

    def _vrfy(self, argument: str) -> None:
        """VRFY never tells which addresses exist (§7.3)."""
        self._reply(reply.CANNOT_VERIFY if argument else reply.NO_NAME)

    def _help(self, argument: str) -> None:
        self._say(self.options.help(self.COMMANDS))

    def _quit(self, argument: str) -> None:
        self.dismiss(reply.BYE)

    # -- answers ---------------------------------------------------------------

    def _answered_connect(self, answer: Reply | None) -> None:
        if answer is None:
            self._say(self.options.greeting)
        else:
            self.dismiss(answer)

    def _answered_hello(self, answer: Reply | None) -> None:
        self._hello_refused = answer is not None
        if answer is not None:
            self._hello = None
        self._reply(answer or self.options.hello(self._limits, extended=self._extended))

    def _answered_no_hello(self, argument: str, answer: Reply | None) -> None:
        """The policies have agreed to MAIL without EHLO, or not."""
        if answer is not None:
            self._hello_refused = True
            return self._refuse(answer)
        self._hello = ""
        try:
            return self._mail_from(argument)
        except PostOfficeError as failure:
            return self._refuse(failure.reply)

    def _answered_secure(self, answer: Reply | None) -> None:
        self.upgrading = self._reply(answer or reply.READY_FOR_TLS)

    def _answered_impersonate(self, answer: Reply | SMTPOptions) -> None:
        if isinstance(answer, Reply):
            return self._refuse(answer)
        self.options = answer
        self._reset()
        return self._ask(questions.Connect(), self._answered_connect)

    def _answered_mail(self, question: Mail, answer: Reply) -> None:
        if self._reply(answer):
            self._transaction.mail = question

    def _answered_recipient(self, answer: Reply) -> None:
        self._transaction.recipients += self._reply(answer)

    def _answered_data(self, answer: Reply | None) -> None:
        if answer is None:
            self._transaction.dots = TextReader(self._limits.text_line)
        else:
            self._end_transaction()
        self._reply(answer or reply.GO_AHEAD)

    def _answered_text(self, answer: Reply | None) -> None:
        """The text, or the first chunk, is refused, or not."""
        if answer is not None:
            self._transaction.refusal = answer
            self._waiting.appendleft((questions.Abort(), ignore, ignore))

    def _end_of_input(self) -> None:
        """The text, or one chunk of it, was read to its end and all of it was processed."""
        text = self._transaction
        if text.refusal is not None:
            self._finish(text.refusal)
        elif text.last:
            self._ask(questions.End(), self._finish)
        else:
            text.left = None
            self._say(reply.CHUNK_TAKEN)

    def _finish(self, said: Reply | Sequence[Reply]) -> None:
        """End the transaction with this reply; over LMTP with one for each recipient."""
        replies = self._transaction.replies(said)
        self._transaction = MailTransaction(self._limits, self.options.lmtp)
        self.progress += 1
        if any(one.positive for one in replies):
            self.taken += 1
            self._counts.idle = self._counts.deferrals = 0
        else:
            first, *replies = replies
            self._refuse(first)  # one error and one delay, however many recipients
        if not self.closed:
            for one in replies:
                self._then(partial(self._say, one))

    #: Every command and its method; each method checks the order of commands (§4.1.4).
    COMMANDS: ClassVar[Mapping[str, Callable[[SMTPSession, str], None]]] = {
        "EHLO": _ehlo,
        "HELO": _helo,
        "LHLO": _ehlo,
        "STARTTLS": _starttls,
        "AUTH": _auth,
        "MAIL": _mail_from,
        "RCPT": _rcpt_to,
        "DATA": _data,
        "BDAT": _bdat,
        "RSET": _rset,
        "NOOP": _noop,
        "VRFY": _vrfy,
        "HELP": _help,
        "QUIT": _quit,
        "XCLIENT": _xclient,
    }
