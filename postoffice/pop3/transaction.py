"""The TRANSACTION state (RFC 1939 §5): all is answered from the Listing that was taken at login."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from postoffice.errors import PostOfficeError
from postoffice.listing import Entry, Listing
from postoffice.pop3.dialogue import No, POP3Dialogue, nothing, whole, why
from postoffice.pop3.questions import Enough, Fetch, More
from postoffice.pop3.terms import POP3Limits, Terms
from postoffice.wire import DotWriter, TopReader

#: Lines of LIST or UIDL that are made at once.
SLICE = 1000


class _Sending:
    """A text on its way to the client."""

    __slots__ = ("dots", "left", "number", "top", "whole")

    def __init__(self, number: int, entry: Entry, top: TopReader | None = None) -> None:
        self.number = number
        self.left = entry.size  # octets of it that have not come yet
        self.dots = DotWriter()
        self.top = top
        self.whole = False  # whether all came at once


class Transaction(POP3Dialogue):
    """What a client does with its mail."""

    def __init__(self, terms: Terms, limits: POP3Limits) -> None:
        super().__init__(terms, limits)
        self.retrieved = 0
        self._listing = Listing(())
        self._sending: _Sending | None = None
        self._listed: Iterator[bytes] | None = None

    def _begin(self, listing: Listing) -> None:
        self._listing = listing
        self._say(b"+OK %d messages (%d octets)" % (len(listing), listing.octets))

    def _step(self) -> bool:
        return super()._step() if self._listed is None else self._list_on(self._listed)

    def _close(self) -> None:
        super()._close()
        self._listed = None

    def _stat(self, argument: bytes) -> None:
        nothing(argument)
        self._say(b"+OK %d %d" % (len(self._listing), self._listing.octets))

    def _list(self, argument: bytes) -> None:
        if argument:
            number, entry = self._message(argument)
            self._say(b"+OK %d %d" % (number, entry.size))
        else:
            count, octets = len(self._listing), self._listing.octets
            self._say(b"+OK %d messages (%d octets)" % (count, octets))
            self._listed = map(b"%d %d\r\n".__mod__, self._listing.sizes())

    def _uidl(self, argument: bytes) -> None:
        if argument:
            number, entry = self._message(argument)
            self._say(b"+OK %d %s" % (number, entry.uidl.encode("ascii")))
        else:
            self._say(b"+OK")
            self._listed = map(b"%d %b\r\n".__mod__, self._listing.uidls())

    def _retr(self, argument: bytes) -> None:
        number, entry = self._message(argument)
        self._sending = _Sending(number, entry)
        self._ask(Fetch(entry))

    def _top(self, argument: bytes) -> None:
        message, _, lines = argument.partition(b" ")
        number, entry = self._message(message)
        self._sending = _Sending(number, entry, TopReader(whole(lines)))
        self._ask(Fetch(entry))

    def _dele(self, argument: bytes) -> None:
        """Mark a message; it is removed at QUIT and only then (RFC 1939 §5)."""
        number, _ = self._message(argument)
        self._listing.delete(number)
        self._say(b"+OK message %d deleted" % number)

    def _rset(self, argument: bytes) -> None:
        nothing(argument)
        self._listing.reset()
        self._say(b"+OK %d messages (%d octets)" % (len(self._listing), self._listing.octets))

    def _message(self, argument: bytes) -> tuple[int, Entry]:
        number = whole(argument)
        entry = self._listing.get(number)
        if entry is None:
            raise No("no such message")
        return number, entry

    # -- long replies ----------------------------------------------------------

    def _list_on(self, listed: Iterator[bytes]) -> bool:
        """The next slice of LIST or UIDL."""
        lines = list(islice(listed, SLICE))
        self._send(b"".join(lines))
        if len(lines) < SLICE:
            self._listed = None
            self._say(b".")
        return True

    def _send_on(self, data: bytes) -> None:
        """Send the next octets of a text: exactly as many as LIST promised, or the link breaks."""
        sending = self._sending
        assert sending is not None
        sending.left -= len(data)
        if sending.left < 0 or (sending.left and not data):
            return self._break_off()
        if sending.top is not None:
            data = sending.top.feed(data)
        self._send(sending.dots.write(data))
        if sending.left and not (sending.top and sending.top.done):
            self._ask(More())
        else:
            self._end_sending(sending)
        return None

    def _end_sending(self, sending: _Sending) -> None:
        self._send(sending.dots.end())
        self._sending = None
        if not sending.whole:
            self._ask(Enough())
        if sending.top is None:
            self.retrieved += 1
            self._listing.collect(sending.number)

    def _break_off(self) -> None:
        """The rest cannot be had: the client must not take what it has for the whole."""
        self.broken = True
        self._sending = None
        self._close()

    def _answered_fetch(self, question: Fetch, answer: bytes | PostOfficeError) -> None:
        sending = self._sending
        assert sending is not None
        if isinstance(answer, PostOfficeError):
            self._sending = None
            self._say(b"-ERR " + why(answer))
            return
        self._say(b"+OK" if sending.top else b"+OK %d octets" % question.entry.size)
        sending.whole = len(answer) == question.entry.size
        self._send_on(answer)

    def _answered_more(self, question: More, answer: bytes | PostOfficeError) -> None:
        if isinstance(answer, PostOfficeError):
            self._break_off()
        else:
            self._send_on(answer)
