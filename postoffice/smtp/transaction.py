"""A mail transaction (RFC 5321 §3.3): MAIL, RCPT, and the text by DATA or in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from postoffice.model import reply
from postoffice.model.reply import Reply
from postoffice.protocol.line_session import ignore
from postoffice.protocol.wire import ChunkReader, Judged, TextReader
from postoffice.smtp import grammar
from postoffice.smtp.line_session import SMTPLineSession
from postoffice.smtp.options import SessionOptions, SMTPLimits
from postoffice.smtp.questions import Abort, Begin, End, Hello, Mail, Recipient, Text

#: A message with this many Received fields is in a loop (§6.3).
HOPS_MAXIMUM = 100


class Transaction(SMTPLineSession):
    """The part of an SMTP session that takes messages."""

    def __init__(self, options: SessionOptions, limits: SMTPLimits, line_maximum: int) -> None:
        super().__init__(limits, line_maximum)
        self.options = options
        self.taken = 0
        self._hello: str | None = None
        self._hello_refused = False  # a policy refused the name in EHLO or HELO
        self._mail_without_hello: str | None = None  # the argument of a MAIL without EHLO before it
        self._extended = False
        self._login = False
        self._idle_commands = 0
        self._mail: Mail | None = None
        self._recipients = 0
        self._dots: TextReader | None = None  # the text after DATA
        self._chunks: ChunkReader | None = None  # the text in chunks, by BDAT
        self._left: int | None = None  # octets left of the current chunk
        self._last = True  # whether the current chunk is the last
        self._refusal: Reply | None = None  # of the current text; the text is still read to its end
        self._octets_since_progress = 0  # octets of text

    @property
    def in_text(self) -> bool:
        """Whether the client is sending a message's text."""
        return self._dots is not None or self._chunks is not None or self._left is not None

    def _step(self) -> bool:
        if self._left is not None:
            return self._read_chunk(self._left)
        if self._dots is not None:
            return self._read_text(self._dots)
        return self._read_line()

    def _read_line(self) -> bool:
        """Read a command line; the input is not message text."""
        raise AssertionError("the subclass must read commands")

    def _too_many_idle_commands(self) -> bool:
        """Count a command that does not advance a message; return whether it is one too many."""
        self._idle_commands += 1
        return self._idle_commands > self._limits.commands

    def _end_transaction(self) -> None:
        """End the transaction, if there is one (§4.1.1.5)."""
        if self._mail is not None:
            self._tell(Abort())
        self._mail = None
        self._recipients = 0
        self._dots = self._chunks = None

    @property
    def in_message(self) -> bool:
        return self._mail is not None

    def _answered_hello(self, answer: Reply | None) -> None:
        """EHLO, or MAIL without it, was answered."""
        raise AssertionError("the subclass must greet")

    # -- commands -----------------------------------------------------------------

    def _mail_from(self, argument: str) -> None:
        if self._hello is None:
            return self._ask_hello_for_mail(argument)
        if self.options.submission and not self._login:
            return self._refuse(reply.LOGIN_FIRST if self.options.passwords else reply.TLS_FIRST)
        if self._mail is not None:
            return self._refuse(reply.IN_A_MESSAGE)
        command = grammar.mail(grammar.behind("FROM", argument), self._parameters())
        if command.size > self._limits.message_size:
            return self._refuse(reply.TOO_LARGE)
        protocol = self.options.protocol(
            extended=self._extended, utf8=command.utf8, login=self._login
        )
        mail = Mail(command.sender, command.size, command.utf8, self._hello, protocol)
        return self._ask(mail, partial(self._answered_mail, mail))

    def _ask_hello_for_mail(self, argument: str) -> None:
        """MAIL without EHLO is accepted, after the policies for EHLO were asked with no name."""
        if self.options.lmtp:  # RFC 2033 §4.1
            return self._refuse(reply.SAY_LHLO_FIRST)
        if self.options.submission:  # AUTH needs EHLO before it
            return self._refuse(reply.SAY_EHLO_FIRST)
        if self._hello_refused:
            return self._refuse(reply.SAY_HELLO_FIRST)
        self._mail_without_hello = argument
        return self._ask(Hello(""), self._answered_hello)

    def _parameters(self) -> tuple[str, ...]:
        """The parameters that MAIL may have: only those that EHLO offered (§4.1.1.11)."""
        if not self._extended:
            return ()
        known: tuple[str, ...] = ("SIZE", "BODY", "SMTPUTF8")
        if self.options.encrypted:
            known += ("REQUIRETLS",)
        return (*known, "AUTH") if self.options.offered else known

    def _rcpt_to(self, argument: str) -> None:
        if self._mail is None:
            return self._refuse(reply.NEED_MAIL)
        if self._chunks is not None:
            return self._refuse(reply.IN_CHUNKS)
        address = grammar.rcpt(grammar.behind("TO", argument), utf8=self._mail.utf8)
        if self._recipients >= self._limits.recipients:
            return self._refuse(reply.TOO_MANY_RECIPIENTS)
        return self._ask(Recipient(address), self._answered_recipient)

    def _data(self, argument: str) -> None:
        if argument:
            self._refuse(grammar.no_argument("DATA"))
        elif self._chunks is not None:
            self._refuse(reply.IN_CHUNKS)  # RFC 3030 §2
        elif refusal := self._not_ready():
            self._refuse(refusal)
        else:
            self._ask(Begin(), self._answered_begin)

    def _not_ready(self) -> Reply | None:
        """Why no text can follow now, or None (LMTP: RFC 2033 §4.2)."""
        if self._mail is None:
            return reply.NEED_MAIL
        if not self._recipients:
            return reply.NEED_RECIPIENT_LMTP if self.options.lmtp else reply.NEED_RECIPIENT
        return None

    def _bdat(self, argument: str) -> None:
        """BDAT; a refused chunk is read to its end, so that it is not taken for commands."""
        chunk = grammar.chunk(argument)
        if chunk is None:
            return self.dismiss(reply.BAD_CHUNK)  # the end of the chunk is unknown
        if chunk == (0, False) and self._too_many_idle_commands():
            return self.dismiss(reply.TOO_MANY_COMMANDS)
        self._left, self._last = chunk
        if self._left > 2 * self._limits.message_size:
            return self.dismiss(reply.TOO_LARGE)
        self._refusal = self._not_ready()
        if self._refusal is not None:
            self._end_transaction()
        elif self._chunks is None:
            self._ask(Begin(), self._answered_begin)
        return None

    # -- the text --------------------------------------------------------------

    def _read_text(self, text: TextReader) -> bool:
        """Read text; a refused text is read to its end, so that it is not taken for commands."""
        data = self._lines.take()
        if not data:
            return False
        self._count_progress(len(data))
        octets, rest = text.feed(data)
        self._process_text(text, octets)
        if text.ended:
            self._lines.receive(rest)
            self._dots = None
            self._last = True
            self._then(self._end_of_input)
        return True

    def _read_chunk(self, left: int) -> bool:
        """Read more of a chunk (RFC 3030 §2)."""
        data = self._lines.take(left) if left else b""
        if left and not data:
            return False
        self._left = left - len(data)
        self._count_progress(len(data))
        if self._chunks is not None:
            octets = self._chunks.feed(data)
            if not self._left and self._last:
                octets += self._chunks.end()
            self._process_text(self._chunks, octets)
        if not self._left:
            self._left = None
            self._then(self._end_of_input)
        return True

    def _count_progress(self, octets: int) -> None:
        """Count octets of text, accepted or not, towards ``progress``."""
        self._octets_since_progress += octets
        if self._octets_since_progress >= self._limits.pace:
            self._octets_since_progress = 0
            self.progress += 1

    def _process_text(self, text: Judged, octets: bytes) -> None:
        """
        Check and pass on more of a text; after a refusal nothing more is passed on.

        A later finding of ``_judge`` replaces the refusal, so that the reply does not
        depend on how the input was split.
        """
        given_up = self._refusal is not None
        self._refusal = self._judge(text) or self._refusal
        if given_up:
            return
        if self._refusal is not None:
            self._tell(Abort())
        elif octets:
            self._ask(Text(octets), self._answered_text)

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

    def _end_of_input(self) -> None:
        """The text, or one chunk of it, was read to its end and all of it was processed."""
        if self._refusal is not None:
            self._finish(self._refusal)
        elif self._last:
            self._ask(End(), self._finish)
        else:
            self._say(reply.CHUNK_TAKEN)

    def _finish(self, said: Reply | Sequence[Reply]) -> None:
        """End the transaction with this reply; over LMTP with one for each recipient."""
        self.progress += 1
        replies = [said] if isinstance(said, Reply) else list(said)
        if self.options.lmtp and self._last and len(replies) == 1:
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
            self._refuse(first)  # one error and one delay, however many recipients
        if not self.closed:
            for one in replies:
                self._then(partial(self._say, one))

    # -- answers ---------------------------------------------------------------

    def _answered_mail(self, question: Mail, answer: Reply) -> None:
        if answer.positive:
            self._mail = question
            self._say(answer)
        else:
            self._refuse(answer)

    def _answered_recipient(self, answer: Reply) -> None:
        if answer.positive:
            self._recipients += 1
            self._say(answer)
        else:
            self._refuse(answer)

    def _answered_begin(self, answer: Reply | None) -> None:
        by_chunks = self._left is not None
        if by_chunks:
            self._chunks = ChunkReader(self._limits.text_line)
        self._refusal = answer
        if answer is None:
            if not by_chunks:
                self._dots = TextReader(self._limits.text_line)
                self._say(reply.GO_AHEAD)
        elif by_chunks:
            self._tell(Abort())
        else:
            self._end_transaction()
            self._refuse(answer)

    def _answered_text(self, answer: Reply | None) -> None:
        if answer is not None:
            self._refusal = answer
            self._waiting.appendleft((Abort(), ignore, ignore))
