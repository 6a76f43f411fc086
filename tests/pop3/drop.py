"""A maildrop in memory, at the other end of the rules."""

from __future__ import annotations

from postoffice.model.errors import (
    LoginRefused,
)
from postoffice.model.listing import Entry, Listing
from postoffice.pop3.options import POP3Options
from postoffice.pop3.questions import Announce, Enter, Entered, Fetch, More, Update
from postoffice.pop3.session import POP3Session
from postoffice.protocol.sasl import PasswordClaim, Prove

TEXTS = [b"A: 1\r\n\r\none\r\n.dot\r\nthree\r\n", b"A: 2\r\n\r\n", b"\r\n" * 50, b""]
#: A local link, and a password as it is.
CLEAR = POP3Options(passwords=True, mechanisms=("PLAIN", "LOGIN"))


class Drop:
    """A maildrop that is a list, and the client's session with it."""

    def __init__(self, texts=TEXTS, *, piece: int = 1000, options=CLEAR):
        self.options = options
        self.session = POP3Session(options)
        self.texts = {f"u{n}": text for n, text in enumerate(texts, 1)}
        self.piece = piece
        self.announced = options
        self.failure = None
        self.asked = []
        self.reading = b""
        self.greeting = self.session.take_output()

    def hear(self, data: bytes) -> bytes:
        """What is said to these octets."""
        said = b""
        self.session.receive(data)
        while (question := self.session.next_question()) is not None:
            self.asked.append(question)
            self.session.answer(self.answer(question))
            said += self.session.take_output()
        return said + self.session.take_output()

    def answer(self, question):
        failure, self.failure = self.failure, None
        if failure is not None:
            return failure
        match question:
            case Prove(PasswordClaim(b"joe", password)):
                return None if password == b"secret word" else LoginRefused()
            case Prove():
                return LoginRefused()
            case Announce():
                return self.announced
            case Enter():
                listing = Listing([Entry(uidl, len(text)) for uidl, text in self.texts.items()])
                return Entered(listing, self.options)
            case Fetch(entry):
                self.reading = self.texts[entry.uidl]
                return [self.next_piece()]
            case More():
                return self.next_piece()
            case Update(entries):
                for entry in entries:
                    del self.texts[entry.uidl]
                return len(entries)
        return None

    def next_piece(self):
        piece, self.reading = self.reading[: self.piece], self.reading[self.piece :]
        return piece
