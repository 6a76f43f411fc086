"""
The rules of one SMTP dialogue (RFC 5321, 2033, 6409), pure: octets in, questions out, and back.

A question is the only way out, and is answered before the next octet is
looked at: so pipelining, order and back-pressure are one rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from postoffice import login, reply, sasl
from postoffice.dialogue import Secure
from postoffice.errors import PermanentFailure
from postoffice.login import Login
from postoffice.reply import Reply
from postoffice.sasl import Prove
from postoffice.smtp import grammar
from postoffice.smtp.dialogue import SMTPDialogue
from postoffice.smtp.questions import (
    Abort,
    Begin,
    Connect,
    End,
    Enter,
    Hello,
    Impersonate,
    Mail,
    Pause,
    Recipient,
    Text,
)
from postoffice.smtp.terms import SMTPLimits, Terms
from postoffice.wire import BareLineEnd, Breath, ChunkReader, Judged, LineTooLong, TextReader

#: Octets of a command line, CRLF included: 512 by §4.5.3.1.4, and room for the extensions.
COMMAND_MAXIMUM = 2048
#: A message with this many Received fields is in a loop (§6.3).
HOPS_MAXIMUM = 100


class SMTPSession(SMTPDialogue):
    """
    One dialogue with a client that wants to post, used as any ``Dialogue``.
    """

    def __init__(self, terms: Terms, limits: SMTPLimits) -> None:
        super().__init__(limits, login.LINE_MAXIMUM if terms.mechanisms else COMMAND_MAXIMUM)
        self.terms = terms
        self.taken = 0
        self._failed_logins = 0
        self._idle_commands = 0
        self._paced = 0  # octets of text since the last sign of progress
        self._login = False
        self._mail: Mail | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        """As nobody who has said nothing yet."""
        self._hello: str | None = None
        self._extended = False
        self._exchange: Login | None = None
        self._recipients = 0
        self._dots: TextReader | None = None  # the text behind DATA
        self._chunks: ChunkReader | None = None  # the text so far, by BDAT
        self._left: int | None = None  # octets of the chunk that is being read
        self._last = True  # whether that ends the text
        self._refusal: Reply | None = None  # of a text that is read to its end all the same
        self._ask(Connect())

    # -- the outside -----------------------------------------------------------

    @property
    def in_text(self) -> bool:
        """Whether the client is sending a message's text."""
        return self._dots is not None or self._chunks is not None or self._left is not None

    def secured(self, bindings: Mapping[str, bytes]) -> None:
        """TLS has begun: all that was said before is forgotten (RFC 3207 §4.2)."""
        self.terms = replace(
            self.terms, encrypted=True, passwords=True, starttls=False, bindings=bindings
        )
        self.upgrading = self._login = False
        self._lines.take()
        self._forget()
        self._begin_anew()
        self._waiting.pop()  # who it is was asked already, and TLS has no greeting (§4.2)

    # -- reading ---------------------------------------------------------------

    def _step(self) -> bool:
        if self.upgrading:
            if self._look_behind():
                self.dismiss(reply.INJECTED)
            return False
        if self._left is not None:
            return self._read_chunk(self._left)
        if self._dots is not None:
            return self._read_text(self._dots)
        try:
            line = self._lines.next()
            if line is None:
                return False
            if self._exchange is not None:
                self.progress += 1
                self._go_on(partial(self._exchange.respond, line))
            else:
                self._obey(line)
        except LineTooLong:
            in_login, self._exchange = self._exchange is not None, None
            self._refuse(reply.LOGIN_LINE_TOO_LONG if in_login else reply.LINE_TOO_LONG)
        except BareLineEnd:
            self._exchange = None
            self._refuse(reply.BARE_LINE_END)
        except PermanentFailure as failure:
            self._refuse(failure.reply)
        return True

    def _obey(self, line: bytes) -> None:
        text = grammar.decode(line)
        verb, _, argument = text.partition(" ")
        verb = verb.upper()
        command = self.COMMANDS.get(verb)
        if verb != "BDAT" or self._chunks is None:  # of a text only the octets count
            self.progress += 1
        if len(line) > COMMAND_MAXIMUM - 2 and verb != "AUTH":
            self._refuse(reply.LINE_TOO_LONG)
        elif command is None:
            self._refuse(
                reply.NOT_IMPLEMENTED if verb in NOT_IMPLEMENTED else reply.UNKNOWN_COMMAND
            )
        elif objection := self.terms.objection(verb):
            self._refuse(objection)
        elif verb in IDLE and self._idles_too_long():
            self.dismiss(reply.TOO_MANY_COMMANDS)
        else:
            command(self, argument.strip(" "))

    def _idles_too_long(self) -> bool:
        self._idle_commands += 1
        return self._idle_commands > self._limits.commands

    def _forget(self) -> None:
        """End the transaction, if there is one (§4.1.1.5)."""
        if self._mail is not None:
            self._ask(Abort())
        self._mail = None
        self._recipients = 0
        self._dots = self._chunks = None

    # -- commands: hello -------------------------------------------------------------

    def _ehlo(self, argument: str) -> None:
        self._greet(grammar.hello(argument), extended=True)

    def _helo(self, argument: str) -> None:
        self._greet(grammar.hello(argument), extended=False)

    def _greet(self, name: str, *, extended: bool) -> None:
        self._forget()
        self._hello, self._extended = name, extended
        self._ask(Hello(name))

    def _starttls(self, argument: str) -> None:
        if argument:
            return self._refuse(grammar.BAD_COMMAND)
        if self._look_behind():
            return self.dismiss(reply.INJECTED)
        return self._ask(Secure())

    def _xclient(self, argument: str) -> None:
        if self._mail is not None:
            return self._refuse(reply.BAD_SEQUENCE)
        return self._ask(Impersonate(*grammar.xclient(argument)))

    # -- commands: logging in (RFC 4954) -----------------------------------------------

    def _auth(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        if not self._extended or self._login or self._mail is not None:
            return self._refuse(reply.BAD_SEQUENCE)
        if not self.terms.passwords:
            return self._refuse(reply.ENCRYPTION_FIRST)
        offered = self.terms.offered
        if mechanism.upper() not in offered:
            return self._refuse(reply.UNKNOWN_MECHANISM if mechanism else grammar.BAD_COMMAND)
        exchange = self._exchange = Login(mechanism.upper(), self.terms)
        return self._go_on(partial(exchange.begin, initial.strip(" ").encode() or None))

    def _go_on(self, step: Callable[[], login.Step]) -> None:
        """Take the exchange one step further."""
        try:
            told = step()
        except login.Cancelled:
            self._end_exchange(reply.LOGIN_CANCELLED)
        except login.NoBase64:
            self._end_exchange(reply.BAD_BASE64)
        except sasl.Malformed:
            self._end_exchange(reply.BAD_LOGIN)
        except sasl.Refused:
            self._refuse_login(reply.LOGIN_REFUSED)
        else:
            if isinstance(told, bytes):
                self._say(Reply(334, "", told.decode("ascii")))
            else:
                self._ask(Enter() if told is None else told)

    def _end_exchange(self, refusal: Reply) -> None:
        self._exchange = None
        self._refuse(refusal)

    def _refuse_login(self, refusal: Reply) -> None:
        """What failed for now is 454 (RFC 4954 §6); the rest is counted."""
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

    def _mail_from(self, argument: str) -> None:
        if self._hello is None:
            return self._refuse(reply.SAY_HELLO_FIRST)
        if self.terms.submission and not self._login:
            return self._refuse(reply.LOGIN_FIRST if self.terms.passwords else reply.TLS_FIRST)
        if self._mail is not None:
            return self._refuse(reply.BAD_SEQUENCE)
        if argument[:5].upper() != "FROM:":
            return self._refuse(grammar.BAD_SENDER)
        command = grammar.mail(argument[5:], self._parameters())
        if command.size > self._limits.message_size:
            return self._refuse(reply.TOO_LARGE)
        protocol = self.terms.protocol(
            extended=self._extended, utf8=command.utf8, login=self._login
        )
        return self._ask(Mail(command.sender, command.size, command.utf8, self._hello, protocol))

    def _parameters(self) -> tuple[str, ...]:
        """What MAIL may carry: what EHLO has offered, and nothing else (§4.1.1.11)."""
        if not self._extended:
            return ()
        known: tuple[str, ...] = ("SIZE", "BODY", "SMTPUTF8")
        if self.terms.encrypted:
            known += ("REQUIRETLS",)
        return (*known, "AUTH") if self.terms.offered else known

    def _rcpt_to(self, argument: str) -> None:
        if self._mail is None:
            return self._refuse(reply.NEED_MAIL)
        if self._chunks is not None:
            return self._refuse(reply.BAD_SEQUENCE)
        if argument[:3].upper() != "TO:":
            return self._refuse(grammar.BAD_RECIPIENT)
        address = grammar.rcpt(argument[3:], utf8=self._mail.utf8)
        if self._recipients >= self._limits.recipients:
            return self._refuse(reply.TOO_MANY_RECIPIENTS)
        return self._ask(Recipient(address))

    def _data(self, argument: str) -> None:
        if argument:
            self._refuse(grammar.BAD_COMMAND)
        elif self._chunks is not None:
            self._refuse(reply.BAD_SEQUENCE)  # RFC 3030 §2
        elif refusal := self._not_ready():
            self._refuse(refusal)
        else:
            self._ask(Begin())

    def _not_ready(self) -> Reply | None:
        """Why no text can come, if it cannot (LMTP: RFC 2033 §4.2)."""
        if self._mail is None:
            return reply.NEED_MAIL
        if not self._recipients:
            return reply.NEED_RECIPIENT_LMTP if self.terms.lmtp else reply.NEED_RECIPIENT
        return None

    def _bdat(self, argument: str) -> None:
        """A chunk; one that is refused is read to its end, and never taken for commands."""
        chunk = grammar.chunk(argument)
        if chunk is None:
            return self.dismiss(reply.BAD_CHUNK)  # nobody knows where it ends
        self._left, self._last = chunk
        if self._left > 2 * self._limits.message_size:
            return self.dismiss(reply.TOO_LARGE)
        self._refusal = self._not_ready()
        if self._refusal is not None:
            self._forget()
        elif self._chunks is None:
            self._ask(Begin())
        return None

    def _rset(self, argument: str) -> None:
        if argument:
            return self._refuse(grammar.BAD_COMMAND)
        self._forget()
        return self._say(reply.OK)

    def _noop(self, argument: str) -> None:
        self._say(reply.OK)

    def _vrfy(self, argument: str) -> None:
        """Who is here is told to nobody (§7.3)."""
        if argument:
            self._say(reply.CANNOT_VERIFY)
        else:
            self._refuse(grammar.BAD_COMMAND)

    def _help(self, argument: str) -> None:
        known = " ".join(verb for verb in self.COMMANDS if self.terms.objection(verb) is None)
        self._say(Reply(214, "2.0.0", f"This is postoffice; it knows\n{known}"))

    def _quit(self, argument: str) -> None:
        if argument:
            self._refuse(grammar.BAD_COMMAND)
        else:
            self.dismiss(reply.BYE)

    # -- the text --------------------------------------------------------------

    def _read_text(self, text: TextReader) -> bool:
        """Read on; a text that is refused is read to its end, and never taken for commands."""
        data = self._lines.take()
        if not data:
            return False
        self._keep_pace(len(data))
        octets, rest = text.feed(data)
        self._take_in(text, octets)
        if text.ended:
            self._lines.receive(rest)
            self._dots = None
            self._last = True
            self._then(self._text_read)
        return True

    def _read_chunk(self, left: int) -> bool:
        """Read on in a chunk (RFC 3030 §2)."""
        data = self._lines.take(left) if left else b""
        if left and not data:
            return False
        self._left = left - len(data)
        self._keep_pace(len(data))
        if self._chunks is not None:
            octets = self._chunks.feed(data)
            if not self._left and self._last:
                octets += self._chunks.end()
            self._take_in(self._chunks, octets)
        if not self._left:
            self._left = None
            self._then(self._text_read)
        return True

    def _keep_pace(self, octets: int) -> None:
        """So much of a text has come, wanted or not."""
        self._paced += octets
        if self._paced >= self._limits.pace:
            self._paced = 0
            self.progress += 1

    def _take_in(self, text: Judged, octets: bytes) -> None:
        """
        More of a text; nothing of it is kept any more once something is wrong with it.

        What is worse, and found later, takes the place of that: the client
        hears the same however its octets are cut.
        """
        given_up = self._refusal is not None
        self._refusal = self._judge(text) or self._refusal
        if given_up:
            return
        if self._refusal is not None:
            self._ask(Abort())
        elif octets:
            self._ask(Text(octets))

    def _judge(self, text: Judged) -> Reply | None:
        if text.bare:
            return reply.BARE_CR_OR_LF
        if text.size > self._limits.message_size:
            return reply.TOO_LARGE
        if text.overlong:
            return reply.TEXT_LINE_TOO_LONG
        if text.received >= HOPS_MAXIMUM:
            return reply.TOO_MANY_HOPS
        return None

    def _text_read(self) -> None:
        """The text is read to its end, or one chunk of it is, and all of it was taken in."""
        if self._refusal is not None:
            self._finish(self._refusal)
        elif self._last:
            self._ask(End())
        else:
            self._say(reply.CHUNK_TAKEN)

    def _finish(self, said: Reply | Sequence[Reply]) -> None:
        """The transaction is over, one way or the other."""
        self.progress += 1
        replies = [said] if isinstance(said, Reply) else list(said)
        if self.terms.lmtp and self._last and len(replies) == 1:
            replies *= self._recipients or 1  # RFC 2033 §4.2
        self._mail = None
        self._recipients = 0
        self._chunks = None
        self._refusal = None
        if any(one.positive for one in replies):
            self.taken += 1
            self._idle_commands = self._deferrals = 0
        else:
            first, *replies = replies
            self._refuse(first)  # one error, and one delay, however many hear of it
        if not self.closed:
            for one in replies:
                self._then(partial(self._say, one))

    # -- answers ---------------------------------------------------------------

    def _answered_connect(self, question: Connect, answer: Reply | None) -> None:
        if answer is None:
            kind = "LMTP" if self.terms.lmtp else "ESMTP"
            self._say(Reply(220, "", f"{self.terms.hostname} {kind} postoffice"))
        else:
            self.dismiss(answer)

    def _answered_hello(self, question: Hello, answer: Reply | None) -> None:
        if answer is not None:
            self._hello = None
            self._refuse(answer)
        elif self._extended:
            keywords = self.terms.keywords(self._limits)
            lines = (f"{self.terms.hostname} at your service", *keywords)
            self._say(Reply(250, "", "\n".join(lines)))
        else:
            self._say(Reply(250, "", self.terms.hostname))

    def _answered_secure(self, question: Secure, answer: Reply | None) -> None:
        if answer is None:
            self._say(reply.READY_FOR_TLS)
            self.upgrading = True
        else:
            self._refuse(answer)

    def _answered_impersonate(self, question: Impersonate, answer: Reply | Terms) -> None:
        if isinstance(answer, Reply):
            return self._refuse(answer)
        self.terms = answer
        self._login = False
        return self._begin_anew()

    def _answered_salt(self, question: sasl.SaltOf, answer: Any) -> None:
        if isinstance(answer, Reply):
            self._refuse_login(answer)
        elif self._exchange is not None:
            self._go_on(partial(self._exchange.go_on, answer))

    def _answered_prove(self, question: Prove, answer: Reply | None) -> None:
        if answer is not None:
            self._refuse_login(answer)
        elif self._exchange is not None:
            self._go_on(partial(self._exchange.go_on, None))

    def _answered_enter(self, question: Enter, answer: Reply | None) -> None:
        if answer is not None:
            return self._refuse_login(answer)
        self._exchange = None
        self._login = True
        return self._say(reply.LOGGED_IN)

    def _answered_mail(self, question: Mail, answer: Reply) -> None:
        if answer.positive:
            self._mail = question
            self._say(answer)
        else:
            self._refuse(answer)

    def _answered_recipient(self, question: Recipient, answer: Reply) -> None:
        if answer.positive:
            self._recipients += 1
            self._say(answer)
        else:
            self._refuse(answer)

    def _answered_begin(self, question: Begin, answer: Reply | None) -> None:
        by_chunks = self._left is not None
        if by_chunks:
            self._chunks = ChunkReader(self._limits.text_line)
        self._refusal = answer
        if answer is None:
            if not by_chunks:
                self._dots = TextReader(self._limits.text_line)
                self._say(reply.GO_AHEAD)
        elif by_chunks:
            self._ask(Abort())
        else:
            self._forget()
            self._refuse(answer)

    def _answered_text(self, question: Text, answer: Reply | None) -> None:
        if answer is not None:
            self._refusal = answer
            self._waiting.appendleft(Abort())

    def _answered_end(self, question: End, answer: Reply | Sequence[Reply]) -> None:
        self._finish(answer)

    _ANSWERED: ClassVar[dict[type, Callable[..., None]]] = {
        Connect: _answered_connect,
        Hello: _answered_hello,
        Secure: _answered_secure,
        sasl.SaltOf: _answered_salt,
        Prove: _answered_prove,
        Enter: _answered_enter,
        Impersonate: _answered_impersonate,
        Mail: _answered_mail,
        Recipient: _answered_recipient,
        Begin: _answered_begin,
        Text: _answered_text,
        End: _answered_end,
        Abort: SMTPDialogue._answered_nothing,
        Breath: SMTPDialogue._answered_nothing,
        Pause: SMTPDialogue._answered_nothing,
    }

    #: Every command, and who answers it; each says itself when it may be given (§4.1.4).
    COMMANDS: ClassVar[dict[str, Callable[[SMTPSession, str], None]]] = {
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


#: Commands that bring no message on its way: there is a limit to them between two messages.
IDLE = frozenset(("EHLO", "HELO", "LHLO", "RSET", "NOOP", "VRFY", "HELP", "AUTH", "XCLIENT"))
#: Commands of SMTP and its extensions that we know of and do not have (§4.2.4: 502).
NOT_IMPLEMENTED = frozenset(("EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML", "BURL", "ATRN"))
