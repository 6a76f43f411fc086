"""The TRANSACTION state (RFC 1939 §5), answered from the Listing that was taken at login."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice

from postoffice.model.listing import Entry, Listing
from postoffice.pop3.line_session import CommandFailed, POP3LineSession, no_argument, whole_number
from postoffice.pop3.options import POP3Limits, SessionOptions
from postoffice.pop3.questions import Enough, Fetch, More
from postoffice.protocol.downgrade import Downgrader
from postoffice.protocol.wire import DotWriter, TopReader

#: Lines of LIST or UIDL that are sent in one step.
SLICE = 1000


class _Sending:
    """
    A text that is being sent; LIST promised ``size`` octets to the client.

    ``downgrader`` converts it for a client without UTF-8 (RFC 6856 §2.1).
    """

    __slots__ = ("dots", "downgrader", "entry", "left", "number", "size", "top", "whole")

    def __init__(self, number: int, entry: Entry, size: int, top: TopReader | None = None) -> None:
        self.number = number
        self.entry = entry
        self.size = size
        self.left = entry.size  # octets of the stored text that are not read yet
        self.downgrader = Downgrader() if size != entry.size else None
        self.dots = DotWriter()
        self.top = top
        self.whole = False  # whether Fetch returned all of it

    def take(self, data: bytes) -> bytes | None:
        """Convert the next octets for the client; None if the promised size cannot be kept."""
        self.left -= len(data)
        if self.left < 0 or (self.left and not data):
            return None
        if self.downgrader is None:
            return data
        data = self.downgrader.feed(data)
        if self.left:
            return data if self.downgrader.size <= self.size else None
        data += self.downgrader.end()
        return data if self.downgrader.size == self.size else None


class Transaction(POP3LineSession):
    """The part of a POP3 session that serves messages."""

    def __init__(self, options: SessionOptions, limits: POP3Limits) -> None:
        super().__init__(options, limits)
        self.retrieved = 0
        self._listing = Listing(())
        self._listed: Iterator[bytes] | None = None

    def _begin_transaction(self, listing: Listing) -> None:
        if not self.utf8:
            listing.downgrade()
        self._listing = listing
        self._ok_messages()

    def _ok_messages(self) -> None:
        self._ok(
            "{messages} messages ({octets} octets)",
            messages=len(self._listing),
            octets=self._listing.octets,
        )

    def _step(self) -> bool:
        return super()._step() if self._listed is None else self._continue_listing(self._listed)

    def _close(self) -> None:
        super()._close()
        self._listed = None

    def _stat(self, argument: bytes) -> None:
        no_argument(argument)
        self._say(b"+OK %d %d" % (len(self._listing), self._listing.octets))

    def _list(self, argument: bytes) -> None:
        if argument.strip():
            number, entry = self._message(argument)
            self._say(b"+OK %d %d" % (number, self._listing.size(entry)))
        else:
            self._ok_messages()
            self._listed = map(b"%d %d\r\n".__mod__, self._listing.sizes())

    def _uidl(self, argument: bytes) -> None:
        if argument.strip():
            number, entry = self._message(argument)
            self._say(b"+OK %d %s" % (number, entry.uidl.encode("ascii")))
        else:
            self._say(b"+OK")
            self._listed = map(b"%d %b\r\n".__mod__, self._listing.uidls())

    def _retr(self, argument: bytes) -> None:
        number, entry = self._message(argument)
        self._fetch(_Sending(number, entry, self._listing.size(entry)))

    def _top(self, argument: bytes) -> None:
        message, _, lines = argument.strip(b" \t").replace(b"\t", b" ").partition(b" ")
        number, entry = self._message(message)
        top = TopReader(whole_number(lines))
        self._fetch(_Sending(number, entry, self._listing.size(entry), top))

    def _dele(self, argument: bytes) -> None:
        """Mark a message; it is removed at QUIT and only then (RFC 1939 §5)."""
        number, _ = self._message(argument)
        self._listing.delete(number)
        self._ok("message {number} deleted", number=number)

    def _rset(self, argument: bytes) -> None:
        no_argument(argument)
        self._listing.reset()
        self._ok_messages()

    def _message(self, argument: bytes) -> tuple[int, Entry]:
        number = whole_number(argument)
        entry = self._listing.get(number)
        if entry is None:
            raise CommandFailed("no such message")
        return number, entry

    # -- long replies ----------------------------------------------------------

    def _continue_listing(self, listed: Iterator[bytes]) -> bool:
        """The next slice of LIST or UIDL."""
        lines = list(islice(listed, SLICE))
        self._send(b"".join(lines))
        if len(lines) < SLICE:
            self._listed = None
            self._say(b".")
        return True

    def _fetch(self, sending: _Sending) -> None:
        self.ask(Fetch(sending.entry), partial(self._begin_sending, sending), self._fail)

    def _continue_sending(self, sending: _Sending, data: bytes) -> None:
        """Send the next octets of a text: exactly as many as LIST promised, or the link breaks."""
        octets = sending.take(data)
        if octets is None:
            return self._abort_sending()
        return self._send_text(sending, octets)

    def _send_text(self, sending: _Sending, data: bytes) -> None:
        if sending.top is not None:
            data = sending.top.feed(data)
        self._send(sending.dots.write(data))
        if sending.left and not (sending.top and sending.top.done):
            self.ask(
                More(), partial(self._continue_sending, sending), lambda _: self._abort_sending()
            )
        else:
            self._end_sending(sending)

    def _end_sending(self, sending: _Sending) -> None:
        self._send(sending.dots.end())
        if not sending.whole:
            self._tell(Enough())
        if sending.top is None:
            self.retrieved += 1
            self._listing.collect(sending.number)

    def _abort_sending(self) -> None:
        """The rest cannot be read: abort, so that the client sees an incomplete message."""
        self.broken = True
        self._close()

    def _begin_sending(self, sending: _Sending, data: bytes) -> None:
        sending.whole = len(data) == sending.entry.size
        octets = sending.take(data)
        if octets is None:  # no reply was sent yet
            if not sending.whole:
                self._tell(Enough())
            return self._no("a fault of ours; please try again later", "SYS/TEMP")
        if sending.top:
            self._say(b"+OK")
        else:
            self._ok("{octets} octets", octets=sending.size)
        return self._send_text(sending, octets)
