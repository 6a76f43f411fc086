"""A mail transaction (RFC 5321 §3.3), and the text that the client sends for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postoffice.model import reply
from postoffice.model.errors import PostOfficeError
from postoffice.model.reply import Reply
from postoffice.protocol.wire import ChunkReader, LineReader, TextChecks, TextReader
from postoffice.smtp import grammar
from postoffice.smtp.options import SMTPLimits
from postoffice.smtp.questions import Begin, Mail, Recipient

#: A message with this many Received fields is in a loop (§6.3).
HOPS_MAXIMUM = 100


@dataclass(slots=True)
class MailTransaction:
    """
    How far the client has come with a message; each message has a new one.

    ``mail`` is None before MAIL.  ``dots`` reads the text after DATA, ``chunks`` that of
    BDAT.  ``left`` octets of the current chunk have not been read, None between chunks;
    ``last``: it is the last chunk.  A text with a ``refusal``, or without MAIL, is still read to
    its end, so that it is not taken for commands.
    """

    limits: SMTPLimits
    lmtp: bool
    mail: Mail | None = None
    recipients: int = 0
    dots: TextReader | None = None
    chunks: ChunkReader | None = None
    left: int | None = None
    last: bool = True
    refusal: Reply | None = None
    unpaced: int = 0  # octets of text, accepted or not, that are not counted as progress yet

    def recipient(self, argument: str, parameters: tuple[str, ...]) -> Recipient:
        """
        Return the question that a RCPT asks; ``parameters`` are those that are allowed.

        Raises PostOfficeError.
        """
        if self.mail is None:
            raise PostOfficeError(reply=reply.NEED_MAIL)
        if self.chunks is not None:
            raise PostOfficeError(reply=reply.IN_CHUNKS)
        path = grammar.behind("TO", argument)
        recipient = grammar.rcpt(path, parameters, utf8=self.mail.utf8)
        if self.recipients >= self.limits.recipients:
            raise PostOfficeError(reply=reply.TOO_MANY_RECIPIENTS)
        return recipient

    @property
    def not_ready(self) -> Reply | None:
        """Why no text can follow now, or None (LMTP: RFC 2033 §4.2)."""
        if self.mail is None:
            return reply.NEED_MAIL
        if not self.recipients:
            return reply.NEED_RECIPIENT_LMTP if self.lmtp else reply.NEED_RECIPIENT
        return None

    def begin(self) -> Begin:
        """Return the question that DATA asks.  Raises PostOfficeError."""
        refusal = self.not_ready if self.chunks is None else reply.IN_CHUNKS  # RFC 3030 §2
        if refusal is not None:
            raise PostOfficeError(reply=refusal)
        return Begin()

    def begin_chunk(self, octets: int, last: bool, refusal: Reply | None) -> bool:
        """A chunk follows; return whether it is the first of a text that may come."""
        self.left, self.last, self.refusal = octets, last, refusal
        first = refusal is None and self.chunks is None
        if first:
            self.chunks = ChunkReader(self.limits.text_line)
        return first

    @property
    def reading(self) -> bool:
        """Whether the input is text now, and not commands."""
        return self.left is not None or self.dots is not None

    @property
    def complete(self) -> bool:
        """Whether the text, or its current chunk, was read to its end."""
        return self.left == 0 if self.dots is None else self.dots.ended

    def read(self, lines: LineReader) -> bytes | None:
        """
        Take more of the text from the input, nothing of a refused one; None if there is none.

        A later refusal replaces an earlier one, so that the reply does not depend on
        how the input was split.
        """
        data = lines.take(self.left)
        if not data and self.left != 0:
            return None
        self.unpaced += len(data)
        if self.dots is not None:
            octets, rest = self.dots.feed(data)
            lines.receive(rest)  # empty before the end of the text
        else:
            octets = self._feed_chunk(data)
        self.refusal = self._check(self.dots or self.chunks) or self.refusal
        return octets if self.refusal is None else b""

    def replies(self, said: Reply | Sequence[Reply]) -> list[Reply]:
        """The replies to a whole text: one, or over LMTP one for each recipient."""
        if not isinstance(said, Reply):
            return list(said)
        return [said] * (self.recipients or 1) if self.lmtp and self.last else [said]

    def _feed_chunk(self, data: bytes) -> bytes:
        """Read more of a chunk (RFC 3030 §2)."""
        assert self.left is not None
        self.left -= len(data)
        if self.chunks is None:
            return b""
        octets = self.chunks.feed(data)
        return octets if self.left or not self.last else octets + self.chunks.end()

    def _check(self, text: TextChecks | None) -> Reply | None:
        if text is None:
            return None
        if text.bare:
            return reply.BARE_CR_OR_LF
        if text.size > self.limits.message_size:
            return reply.TOO_LARGE
        if text.overlong:
            return reply.TEXT_LINE_TOO_LONG
        return reply.TOO_MANY_HOPS if text.received >= HOPS_MAXIMUM else None
