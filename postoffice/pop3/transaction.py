"""The TRANSACTION state (RFC 1939 §5), answered from the Listing that was taken at login."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count, islice

from postoffice.model.errors import PostOfficeError
from postoffice.model.listing import Listing
from postoffice.pop3.arguments import CommandFailed, no_argument, whole_number
from postoffice.pop3.questions import Enough, Fetch, More
from postoffice.pop3.replies import Replies
from postoffice.pop3.sent_text import SentText
from postoffice.protocol.line_session import Ask, ignore
from postoffice.protocol.questions import Yield
from postoffice.protocol.wire import dot_stuffed

#: Lines of LIST or UIDL that are sent in one step.
SLICE = 1000


class TransactionState:
    """
    Serves the messages of one session.

    ``break_off`` ends the session in the middle of a text: the client must not take it for
    complete.  ``retrieved`` counts the messages that were sent completely.
    """

    def __init__(
        self,
        ask: Ask,
        send: Callable[[bytes], None],
        replies: Replies,
        break_off: Callable[[], None],
    ) -> None:
        self.listing = Listing(())
        self.retrieved = 0
        self._ahead: dict[int, bytes] = {}  # whole texts that were read already, by number
        self._ask = ask
        self._send = send
        self._replies = replies
        self._break_off = break_off

    def begin(self, listing: Listing, *, utf8: bool) -> None:
        """The login is complete; ``utf8``: the client takes messages in UTF-8 (RFC 6856)."""
        if not utf8:
            listing.downgrade()
        self.listing = listing
        self._say_messages()

    def end(self) -> None:
        """The maildrop is closed: forget what was read."""
        self._ahead.clear()

    def _say_messages(self) -> None:
        self._replies.ok(
            "{messages} messages ({octets} octets)",
            messages=len(self.listing),
            octets=self.listing.octets,
        )

    # -- commands ------------------------------------------------------------------

    def noop(self, argument: bytes) -> None:
        no_argument(argument)
        self._replies.say(b"+OK")

    def stat(self, argument: bytes) -> None:
        no_argument(argument)
        self._replies.say(b"+OK %d %d" % (len(self.listing), self.listing.octets))

    def list(self, argument: bytes) -> None:
        if argument.strip():
            number = self._number(argument)
            self._replies.say(b"+OK %d %d" % (number, self.listing.size(number)))
        else:
            self._say_messages()
            self._say_all(map(b"%d %d\r\n".__mod__, self.listing.sizes()))

    def uidl(self, argument: bytes) -> None:
        if argument.strip():
            number = self._number(argument)
            uidl = self.listing.entries[number - 1].uidl
            self._replies.say(b"+OK %d %s" % (number, uidl.encode("ascii")))
        else:
            self._replies.say(b"+OK")
            self._say_all(map(b"%d %b\r\n".__mod__, self.listing.uidls()))

    def dele(self, argument: bytes) -> None:
        """Mark a message; it is removed at QUIT and only then (RFC 1939 §5)."""
        number = self._number(argument)
        self.listing.delete(number)
        self._replies.ok("message {number} deleted", number=number)

    def rset(self, argument: bytes) -> None:
        no_argument(argument)
        self.listing.reset()
        self._say_messages()

    def retr(self, argument: bytes) -> None:
        self._fetch(self._number(argument))

    def top(self, argument: bytes) -> None:
        message, _, lines = argument.strip(b" \t").replace(b"\t", b" ").partition(b" ")
        self._fetch(self._number(message), whole_number(lines))

    def _number(self, argument: bytes) -> int:
        number = whole_number(argument)
        if not self.listing.has(number):
            raise CommandFailed("no such message")
        return number

    # -- long replies --------------------------------------------------------------

    def _say_all(self, lines: Iterator[bytes]) -> None:
        """Send LIST or UIDL in slices; between them other clients have their turns."""
        slice_ = list(islice(lines, SLICE))
        self._send(b"".join(slice_))
        if len(slice_) < SLICE:
            self._replies.say(b".")
        else:
            self._ask(Yield(1), lambda _: self._say_all(lines), ignore)

    def _fetch(self, number: int, lines: int | None = None) -> None:
        octets = self._ahead.pop(number, None)
        if octets is None:
            entry = self.listing.entries[number - 1]
            text = SentText(number, entry.size, self.listing.size(number), lines)
            self._ask(Fetch(entry), partial(self._fetched, text), self._replies.fail)
        elif lines is None and len(octets) == self.listing.size(number):
            self._send_whole(number, octets)
        else:
            text = SentText(number, len(octets), self.listing.size(number), lines)
            self._begin_text(text, octets)

    def _send_whole(self, number: int, octets: bytes) -> None:
        """Send a text that is in memory and needs no conversion, as most."""
        self._replies.text_follows(len(octets))
        self._send(dot_stuffed(octets))
        self._sent(number)

    def _sent(self, number: int) -> None:
        self.retrieved += 1
        self.listing.collect(number)

    def _fetched(self, text: SentText, texts: Sequence[bytes]) -> None:
        octets, *following = texts
        self._ahead = dict(zip(count(text.number + 1), following, strict=False))
        self._begin_text(text, octets)

    def _begin_text(self, text: SentText, data: bytes) -> None:
        text.at_once = len(data) == text.left
        octets = text.convert(data)
        if octets is None:  # no reply was sent yet
            self._enough(text)
            return self._replies.no("a fault of ours; please try again later", "SYS/TEMP")
        if text.top is None:
            self._replies.text_follows(text.size)
        else:
            self._replies.say(b"+OK")
        return self._send_piece(text, octets)

    def _go_on(self, text: SentText, data: bytes) -> None:
        """Send the next octets: in all exactly as many as LIST promised, or the link breaks."""
        octets = text.convert(data)
        if octets is None:
            return self._break_off()
        return self._send_piece(text, octets)

    def _send_piece(self, text: SentText, octets: bytes) -> None:
        self._send(octets)
        if not text.ended:
            return self._ask(More(), partial(self._go_on, text), self._not_read)
        self._enough(text)
        if text.top is None:
            self._sent(text.number)
        return None

    def _enough(self, text: SentText) -> None:
        """Close the text, unless Fetch returned all of it."""
        if not text.at_once:
            self._ask(Enough(), ignore, ignore)

    def _not_read(self, failure: PostOfficeError) -> None:
        """The rest cannot be read: the client must see that the message is incomplete."""
        self._break_off()
