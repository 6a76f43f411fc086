"""A mail transaction (RFC 5321 §3.3): MAIL, RCPT, and the text by DATA or in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from postoffice.model import reply
from postoffice.model.reply import Reply
from postoffice.protocol.wire import ChunkReader, Judged, TextReader
from postoffice.smtp import grammar
from postoffice.smtp.line_session import SMTPLineSession
from postoffice.smtp.options import SessionOptions, SMTPLimits
from postoffice.smtp.questions import Abort, Begin, End, Hello, Mail, Recipient, Text

#: A message with this many Received fields is in a loop (§6.3).
HOPS_MAXIMUM = 100


class Transaction(SMTPLineSession):
    """How a client that has said who it is posts a message."""

    def __init__(self, options: SessionOptions, limits: SMTPLimits, line_maximum: int) -> None:
        super().__init__(limits, line_maximum)
        self.options = options
        self.taken = 0
        self._hello: str | None = None
        self._turned_away = False  # for the name it gave
        self._unnamed: str | None = None  # what stands behind MAIL, where no EHLO came before it
        self._extended = False
        self._login = False
        self._idle_commands = 0
        self._mail: Mail | None = None
        self._recipients = 0
        self._dots: TextReader | None = None  # the text behind DATA
        self._chunks: ChunkReader | None = None  # the text so far, by BDAT
        self._left: int | None = None  # octets of the chunk that is being read
        self._last = True  # whether that ends the text
        self._refusal: Reply | None = None  # of a text that is read to its end all the same
        self._paced = 0  # octets of text since the last sign of progress

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
        """What comes is no text."""
        raise AssertionError("a session has commands")

    def _idles_too_long(self) -> bool:
        """Whether this command, which brings no message on its way, is one too many."""
        self._idle_commands += 1
        return self._idle_commands > self._limits.commands

    def _forget(self) -> None:
        """End the transaction, if there is one (§4.1.1.5)."""
        if self._mail is not None:
            self._ask(Abort())
        self._mail = None
        self._recipients = 0
        self._dots = self._chunks = None

    @property
    def in_message(self) -> bool:
        return self._mail is not None

    # -- commands -----------------------------------------------------------------

    def _mail_from(self, argument: str) -> None:
        if self._hello is None:
            return self._unnamed_mail(argument)
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
        return self._ask(Mail(command.sender, command.size, command.utf8, self._hello, protocol))

    def _unnamed_mail(self, argument: str) -> None:
        """A greeting is no reason to refuse mail, and none is missed: what would judge it, does."""
        if self.options.lmtp:  # RFC 2033 §4.1
            return self._refuse(reply.SAY_LHLO_FIRST)
        if self.options.submission:  # who has to log in has to say it before
            return self._refuse(reply.SAY_EHLO_FIRST)
        if self._turned_away:
            return self._refuse(reply.SAY_HELLO_FIRST)
        self._unnamed = argument
        return self._ask(Hello(""))

    def _parameters(self) -> tuple[str, ...]:
        """What MAIL may carry: what EHLO has offered, and nothing else (§4.1.1.11)."""
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
        return self._ask(Recipient(address))

    def _data(self, argument: str) -> None:
        if argument:
            self._refuse(grammar.no_argument("DATA"))
        elif self._chunks is not None:
            self._refuse(reply.IN_CHUNKS)  # RFC 3030 §2
        elif refusal := self._not_ready():
            self._refuse(refusal)
        else:
            self._ask(Begin())

    def _not_ready(self) -> Reply | None:
        """Why no text can come, if it cannot (LMTP: RFC 2033 §4.2)."""
        if self._mail is None:
            return reply.NEED_MAIL
        if not self._recipients:
            return reply.NEED_RECIPIENT_LMTP if self.options.lmtp else reply.NEED_RECIPIENT
        return None

    def _bdat(self, argument: str) -> None:
        """A chunk; one that is refused is read to its end, and never taken for commands."""
        chunk = grammar.chunk(argument)
        if chunk is None:
            return self.dismiss(reply.BAD_CHUNK)  # nobody knows where it ends
        if chunk == (0, False) and self._idles_too_long():
            return self.dismiss(reply.TOO_MANY_COMMANDS)
        self._left, self._last = chunk
        if self._left > 2 * self._limits.message_size:
            return self.dismiss(reply.TOO_LARGE)
        self._refusal = self._not_ready()
        if self._refusal is not None:
            self._forget()
        elif self._chunks is None:
            self._ask(Begin())
        return None

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
            self._refuse(first)  # one error, and one delay, however many hear of it
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
