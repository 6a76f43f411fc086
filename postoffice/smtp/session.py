"""
The rules of one SMTP dialogue (RFC 5321), pure: octets in, questions out; answers in, octets out.

A question is the only way out, and is answered before the next octet is
looked at: so pipelining, order and back-pressure are one rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from postoffice import reply
from postoffice.address import Address
from postoffice.errors import PermanentFailure, PostOfficeError
from postoffice.reply import Reply
from postoffice.smtp import grammar
from postoffice.wire import MOUTHFUL, BareLineEnd, Breath, LineReader, LineTooLong, TextReader

#: Octets of a command line, CRLF included: 512 by §4.5.3.1.4, and room for the extensions.
COMMAND_MAXIMUM = 2048
#: A message with this many Received fields is in a loop (§6.3).
HOPS_MAXIMUM = 100


@dataclass(frozen=True)
class SMTPLimits:
    """Octets of a message; recipients of one; octets of a text line; errors before we hang up."""

    message_size: int = 50 << 20
    recipients: int = 1000
    text_line: int = 64 << 10
    errors: int = 20


@dataclass(frozen=True)
class Mail:
    """May this sender post?  A Reply.  ``protocol`` as in RFC 3848 and 6531."""

    sender: Address | None
    size: int
    utf8: bool
    hello: str
    protocol: str


@dataclass(frozen=True)
class Recipient:
    """May this one have it?  A Reply.  None is ``<Postmaster>``."""

    address: Address | None


@dataclass(frozen=True)
class Begin:
    """DATA: can the text come?  None, or what is in the way."""


@dataclass(frozen=True)
class Text:
    """More of the text.  None, or what went wrong."""

    octets: bytes


@dataclass(frozen=True)
class End:
    """The text is whole: a Reply."""


@dataclass(frozen=True)
class Abort:
    """Forget the sender, the recipients and any text.  None."""


Question = Mail | Recipient | Begin | Text | End | Abort | Breath
Answer = Reply | PostOfficeError | None


class SMTPSession:
    """
    One dialogue with a client that wants to post.

    ``receive`` octets; ask ``next_question`` until it is None, and ``answer``
    each before the next; send what ``take_output`` gives.  ``closed`` means:
    send that, then hang up.
    """

    def __init__(self, hostname: str, limits: SMTPLimits) -> None:
        self.closed = False
        self.taken = 0
        self._hostname = hostname
        self._limits = limits
        self._lines = LineReader(COMMAND_MAXIMUM)
        self._output: list[bytes] = []
        self._unsent = 0
        self._errors = 0
        self._hello: str | None = None
        self._extended = False
        self._mail: Mail | None = None
        self._recipients = 0
        self._text: TextReader | None = None
        self._refusal: Reply | None = None  # of a text that is read to its end all the same
        self._asked: Question | None = None
        self._waiting: list[Question] = []
        self._say(Reply(220, "", f"{hostname} ESMTP postoffice"))

    # -- the outside -----------------------------------------------------------

    @property
    def unread(self) -> int:
        """Octets that have arrived and were not looked at yet."""
        return self._lines.unread

    @property
    def unsent(self) -> int:
        """Octets that ``take_output`` would give."""
        return self._unsent

    @property
    def in_text(self) -> bool:
        """Whether the client is sending a message's text."""
        return self._text is not None

    def receive(self, data: bytes) -> None:
        """Octets have arrived; what comes after the end is not looked at."""
        if not self.closed:
            self._lines.receive(data)

    def next_question(self) -> Question | None:
        """The next question, or None: nothing to ask until more arrives."""
        assert self._asked is None, "a question is still open"
        while not self._waiting and not self.closed and self._step():
            if self._unsent > MOUTHFUL and not self._waiting:
                self._waiting.append(Breath())
        if not self._waiting:
            return None
        self._asked = self._waiting.pop(0)
        return self._asked

    def answer(self, answer: Answer) -> None:
        """Answer the question that was asked last."""
        question, self._asked = self._asked, None
        assert question is not None, "no question is open"
        if isinstance(answer, PostOfficeError):
            answer = answer.reply
        self._ANSWERED[type(question)](self, question, answer)

    def take_output(self) -> bytes:
        """What is to be sent."""
        output = b"".join(self._output)
        self._output.clear()
        self._unsent = 0
        return output

    def dismiss(self, why: Reply) -> None:
        """End the dialogue from our side: say so, and close."""
        if not self.closed:
            self._say(why)
            self._close()

    # -- reading ---------------------------------------------------------------

    def _step(self) -> bool:
        """Look at a little more; False if there is no more."""
        if self._text is not None:
            return self._read_text(self._text)
        try:
            line = self._lines.next()
            if line is None:
                return False
            self._obey(line)
        except LineTooLong:
            self._refuse(reply.LINE_TOO_LONG)
        except BareLineEnd:
            self._refuse(reply.BARE_LINE_END)
        except PermanentFailure as failure:
            self._refuse(failure.reply)
        return True

    def _obey(self, line: bytes) -> None:
        text = grammar.decode(line)
        verb, _, argument = text.partition(" ")
        command = self.COMMANDS.get(verb.upper())
        if command is None:
            self._refuse(
                reply.NOT_IMPLEMENTED if verb.upper() in NOT_IMPLEMENTED else reply.UNKNOWN_COMMAND
            )
        else:
            command(self, argument.strip(" "))

    def _say(self, said: Reply) -> None:
        self._output.append(said.wire)
        self._unsent += len(said.wire)

    def _refuse(self, refusal: Reply) -> None:
        """Say no to a command; to one too many, goodbye."""
        self._errors += refusal.permanent
        if self._errors > self._limits.errors:
            self.dismiss(reply.TOO_MANY_ERRORS)
        else:
            self._say(refusal)

    def _ask(self, question: Question) -> None:
        self._waiting.append(question)

    def _close(self) -> None:
        self._forget()
        self.closed = True
        self._lines.take()

    def _forget(self) -> None:
        """End the transaction, if there is one (§4.1.1.5)."""
        if self._mail is not None:
            self._ask(Abort())
        self._mail = None
        self._recipients = 0
        self._text = None

    # -- commands --------------------------------------------------------------

    def _ehlo(self, argument: str) -> None:
        self._greet(grammar.hello(argument), extended=True)
        keywords = ["PIPELINING", f"SIZE {self._limits.message_size}", "8BITMIME"]
        keywords += ["ENHANCEDSTATUSCODES", "SMTPUTF8", "HELP"]
        self._say(Reply(250, "", "\n".join([f"{self._hostname} at your service", *keywords])))

    def _helo(self, argument: str) -> None:
        self._greet(grammar.hello(argument), extended=False)
        self._say(Reply(250, "", self._hostname))

    def _greet(self, name: str, *, extended: bool) -> None:
        self._forget()
        self._hello, self._extended = name, extended

    def _mail_from(self, argument: str) -> None:
        if self._hello is None:
            return self._refuse(reply.SAY_HELLO_FIRST)
        if self._mail is not None:
            return self._refuse(reply.BAD_SEQUENCE)
        if argument[:5].upper() != "FROM:":
            return self._refuse(grammar.BAD_SENDER)
        command = grammar.mail(argument[5:], extended=self._extended)
        if command.size > self._limits.message_size:
            return self._refuse(reply.TOO_LARGE)
        protocol = "UTF8SMTP" if command.utf8 else "ESMTP" if self._extended else "SMTP"
        return self._ask(Mail(command.sender, command.size, command.utf8, self._hello, protocol))

    def _rcpt_to(self, argument: str) -> None:
        if self._mail is None:
            return self._refuse(reply.NEED_MAIL)
        if argument[:3].upper() != "TO:":
            return self._refuse(grammar.BAD_RECIPIENT)
        address = grammar.rcpt(argument[3:], utf8=self._mail.utf8)
        if self._recipients >= self._limits.recipients:
            return self._refuse(reply.TOO_MANY_RECIPIENTS)
        return self._ask(Recipient(address))

    def _data(self, argument: str) -> None:
        if argument:
            self._refuse(grammar.BAD_COMMAND)
        elif self._mail is None:
            self._refuse(reply.NEED_MAIL)
        elif not self._recipients:
            self._refuse(reply.NEED_RECIPIENT)
        else:
            self._ask(Begin())

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
        known = " ".join(self.COMMANDS)
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
        octets, rest = text.feed(data)
        if self._refusal is None:
            self._refusal = self._judge(text)
            if self._refusal is not None:
                self._ask(Abort())
            elif octets:
                self._ask(Text(octets))
        if text.ended:
            self._lines.receive(rest)
            self._text = None
            if self._refusal is None:
                self._ask(End())
            else:
                self._finish(self._refusal)
        return True

    def _judge(self, text: TextReader) -> Reply | None:
        if text.bare:
            return reply.BARE_CR_OR_LF
        if text.size > self._limits.message_size:
            return reply.TOO_LARGE
        if text.overlong:
            return reply.TEXT_LINE_TOO_LONG
        if text.received >= HOPS_MAXIMUM:
            return reply.TOO_MANY_HOPS
        return None

    def _finish(self, said: Reply) -> None:
        """The transaction is over, one way or the other."""
        self._mail = None
        self._recipients = 0
        if said.positive:
            self.taken += 1
            self._say(said)
        else:
            self._refuse(said)

    # -- answers ---------------------------------------------------------------

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
        if answer is None:
            self._text = TextReader(self._limits.text_line)
            self._refusal = None
            self._say(reply.GO_AHEAD)
        else:
            self._forget()
            self._refuse(answer)

    def _answered_text(self, question: Text, answer: Reply | None) -> None:
        if answer is None:
            return
        at_its_end = bool(self._waiting)  # the End was read along with this
        self._waiting[:] = [Abort()]
        if at_its_end:
            self._finish(answer)
        else:
            self._refusal = answer

    def _answered_end(self, question: End, answer: Reply) -> None:
        self._finish(answer)

    def _answered_nothing(self, question: Abort | Breath, answer: None) -> None:
        pass

    _ANSWERED: ClassVar[dict[type, Callable[..., None]]] = {
        Mail: _answered_mail,
        Recipient: _answered_recipient,
        Begin: _answered_begin,
        Text: _answered_text,
        End: _answered_end,
        Abort: _answered_nothing,
        Breath: _answered_nothing,
    }

    #: Every command, and who answers it; each says itself when it may be given (§4.1.4).
    COMMANDS: ClassVar[dict[str, Callable[[SMTPSession, str], None]]] = {
        "EHLO": _ehlo,
        "HELO": _helo,
        "MAIL": _mail_from,
        "RCPT": _rcpt_to,
        "DATA": _data,
        "RSET": _rset,
        "NOOP": _noop,
        "VRFY": _vrfy,
        "HELP": _help,
        "QUIT": _quit,
    }


#: Commands of SMTP and its extensions that we know of and do not have (§4.2.4: 502).
NOT_IMPLEMENTED = frozenset(
    ("EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML", "BDAT", "STARTTLS", "AUTH", "BURL", "ATRN")
)
