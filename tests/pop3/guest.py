"""A client of the rules that has not logged in."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import replace
from hashlib import md5

from postoffice.model.errors import (
    LoginRefused,
)
from postoffice.model.listing import Entry, Listing
from postoffice.pop3.options import POP3Options
from postoffice.pop3.questions import Enter, Entered, Update
from postoffice.pop3.session import POP3Session
from postoffice.protocol import sasl
from postoffice.protocol.sasl import (
    APOPClaim,
    BearerClaim,
    PasswordClaim,
    Prove,
    SaltOf,
    ScramClaim,
    SharedClaim,
)
from postoffice.protocol.scram import Salt, derive

WORD, SHARED, TOKEN = b"secret word", b"a secret of its own", b"a.token"
KEYS = derive(WORD, b"salt", 4096)
STAMP = "<1896.697170952@mail.example.net>"
BINDINGS = {"tls-exporter": b"e" * 32}
OPEN = POP3Options("mail.example.net", mechanisms=sasl.MECHANISMS, passwords=True)
STAMPED = replace(OPEN, stamp=STAMP)
IN = b"+OK 2 messages (30 octets)\r\n"
AUTH = b"-ERR [AUTH] wrong name or password\r\n"


class Guest:
    """A client that gets in as joe, or does not."""

    def __init__(self, options=OPEN, limits=None):
        self.session = POP3Session(options, limits)
        self.failures = {}
        self.asked = []
        self.greeting = self.session.take_output()

    def hear(self, octets: bytes) -> bytes:
        """What is said to these octets."""
        said = b""
        self.session.receive(octets)
        while (question := self.session.next_question()) is not None:
            self.asked.append(question)
            self.session.answer(self.answer(question))
            said += self.session.take_output()
        return said + self.session.take_output()

    def ask(self, line: bytes) -> bytes:
        return self.hear(line + b"\r\n")

    def challenge(self, line: bytes) -> bytes:
        """What the server says in an exchange, base64 undone."""
        said = self.ask(line)
        assert re.fullmatch(rb"\+ [A-Za-z0-9+/=]*\r\n", said)
        return b64decode(said[2:-2], validate=True)

    def answer(self, question):
        if failure := self.failures.get(type(question)):
            return failure
        match question:
            case Prove(claim):
                return None if claim.user == b"joe" and right(claim) else LoginRefused()
            case SaltOf():
                return Salt(KEYS.salt, KEYS.iterations)
            case Enter():
                return Entered(Listing([Entry("a", 10), Entry("b", 20)]), self.session.options)
            case Update(entries):
                return len(entries)
        return None

    def capabilities(self) -> list[str]:
        return self.ask(b"CAPA").decode().splitlines()[1:-1]


def right(claim) -> bool:
    """Whether it is joe's password, secret, key or token."""
    match claim:
        case PasswordClaim(password=password):
            return password == WORD
        case APOPClaim() | SharedClaim():
            return claim.verify(SHARED)
        case ScramClaim():
            return claim.verify(KEYS)
    assert isinstance(claim, BearerClaim)
    return claim.token == TOKEN


def line(octets: bytes) -> bytes:
    """What a client says in an exchange."""
    return b64encode(octets)


def by_apop(stamp: str = STAMP, secret: bytes = SHARED, user: bytes = b"joe") -> bytes:
    return b"APOP %b %b" % (user, md5(stamp.encode() + secret).hexdigest().encode())


PLAIN = line(b"\0joe\0" + WORD)


def secured(guest: Guest, bindings=BINDINGS) -> Guest:
    """Behind STLS."""
    assert guest.ask(b"STLS") == b"+OK begin TLS\r\n"
    assert guest.session.upgrading
    guest.session.secured(bindings)
    return guest
