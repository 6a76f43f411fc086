"""An office for the rules of SMTP: it answers a session's questions, and remembers them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace

import pytest

from postoffice.model import reply
from postoffice.model.errors import LoginRefused
from postoffice.protocol.sasl import PasswordClaim, SharedClaim
from postoffice.protocol.scram import Salt, derive
from postoffice.smtp.options import SMTPLimits, SMTPOptions
from postoffice.smtp.questions import Connect, Hello, Prove, Text
from postoffice.smtp.session import SMTPSession

LIMITS = SMTPLimits(message_size=10_000, recipients=3, text_line=1000, errors=10, logins=3)
KEYS = derive(b"secret word", b"salt", 2)
REPLY = re.compile(
    rb"(?:(?P<code>[2-5][0-9]{2})-[ -~]*\r\n)*(?P<last>[2-5][0-9]{2}) "
    rb"(?P<status>[245]\.[0-9]\.[0-9]{1,2} )?[ -~]*\r\n"
)


def prove(question: Prove):
    """Joe has a password, and shares it with us."""
    claim = question.claim
    if isinstance(claim, PasswordClaim):
        right = claim.password == b"secret word"
    elif isinstance(claim, SharedClaim):
        right = claim.verify(b"secret word")
    else:
        right = claim.verify(KEYS)
    return None if right and claim.user == b"joe" else LoginRefused()


class Office:
    """
    A session on these ``options``, with other ``limits`` and ``answers`` than the usual.

    ``answers`` are by the names of questions: an answer, or a function that
    finds it.  ``text`` is the text of all messages; ``asked`` has no Text,
    and none of what only policies care about.
    """

    def __init__(self, *, limits=None, answers=None, **options):
        options = SMTPOptions("mail.example.net", **options)
        self.session = SMTPSession(options, replace(LIMITS, **(limits or {})))
        self.answers = {
            "Mail": reply.SENDER_OK,
            "Recipient": reply.RECIPIENT_OK,
            "End": reply.Reply(250, "2.0.0", "Taken"),
            "SaltOf": Salt(KEYS.salt, KEYS.iterations),
            "Prove": prove,
            **(answers or {}),
        }
        self.asked = []
        self.text = b""
        self.greeting = self.hear(b"")

    @classmethod
    def greeted(cls, **how):
        """One that has heard EHLO, or LHLO."""
        office = cls(**how)
        office.hear(b"LHLO pc\r\n" if how.get("lmtp") else b"EHLO pc\r\n")
        office.asked.clear()
        return office

    @classmethod
    def addressed(cls, **how):
        """One that has heard of a sender and two recipients."""
        office = cls.greeted(**how)
        envelope = b"MAIL FROM:<a@example.org>\r\n" + b"RCPT TO:<b@example.net>\r\n" * 2
        assert office.told(envelope) == ["250 2.1.0", "250 2.1.5", "250 2.1.5"]
        office.asked.clear()
        return office

    def hear(self, octets: bytes) -> bytes:
        """What is said to these octets."""
        self.session.receive(octets)
        while (question := self.session.next_question()) is not None:
            if isinstance(question, Text):
                self.text += question.octets
            elif not isinstance(question, Connect | Hello):
                self.asked.append(question)
            answer = self.answers.get(type(question).__name__)
            self.session.answer(answer(question) if callable(answer) else answer)
        return self.session.take_output()

    def told(self, octets: bytes) -> list[str]:
        """The code, and the status where there is one, of each reply to these octets."""
        return replies(self.hear(octets))

    @property
    def kinds(self):
        return [type(question) for question in self.asked]


def replies(said: bytes) -> list[str]:
    """The code, and the status where there is one, of each reply; there is nothing else."""
    found, at = [], 0
    while at < len(said):
        one = REPLY.match(said, at)
        assert one is not None, said[at:]
        status = (one["status"] or b"").decode().strip()
        for line in one[0].splitlines():
            assert line[:3] == one["last"], "one code on all its lines"
            assert not status or line[4:].startswith(status.encode()), "and one status"
        found.append(f"{one['last'].decode()} {status}".strip())
        at = one.end()
    return found


def plain(user: bytes = b"joe", password: bytes = b"secret word", other: bytes = b"") -> bytes:
    """What a client says for PLAIN."""
    return b64encode(b"\0".join((other, user, password)))


@pytest.fixture(scope="session")
def office() -> type[Office]:
    return Office


@pytest.fixture(scope="session", name="plain")
def plain_() -> Callable:
    return plain


@pytest.fixture(scope="session", name="replies")
def replies_() -> Callable:
    return replies
