"""Written dialogues, played against the conversation on a transport in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from postoffice.accounts.checker import Checker
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.passwords import hash_password
from postoffice.accounts.realm import Realm
from postoffice.address import Account, Address
from postoffice.envelope import Client, Envelope, Recipient
from postoffice.maildrop.memory import MemoryStore
from postoffice.pop3.protocol import POP3Factory
from postoffice.smtp.protocol import SMTPFactory
from postoffice.smtp.reception import Reception
from postoffice.smtp.session import SMTPLimits
from postoffice.testing import InlineWorkers, finish

DIALOGUES = Path(__file__).parent / "dialogues"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
WAITING = (
    b"Subject: one\r\n\r\nfirst line\r\n.dot\r\nlast line\r\n",
    b"Subject: two\r\n\r\nshort\r\n",
)


@dataclass(frozen=True)
class Line:
    """One line of a dialogue: who says it, and what."""

    number: int
    server: bool
    text: str

    @property
    def octets(self) -> bytes:
        """What a client sends."""
        text, end = (self.text[:-1], "") if self.text.endswith("\\") else (self.text, "\\r\\n")
        named = {r"\r": b"\r", r"\n": b"\n", r"\0": b"\0"}
        return re.sub(
            rb"\\(?:x([0-9a-f]{2})|[rn0])",
            lambda m: bytes.fromhex(m[1].decode()) if m[1] else named[m[0].decode()],
            (text + end).encode(),
        )

    def fits(self, said: bytes) -> bool:
        """Whether this is what the server said."""
        pattern = ".*".join(re.escape(part) for part in self.text.split("*"))
        return re.fullmatch(pattern.encode(), said, re.DOTALL) is not None


def read(path: Path) -> list[Line]:
    lines = []
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if line[:2] in ("C:", "S:"):
            lines.append(Line(number, line[0] == "S", line[3:]))
        else:
            assert not line or line.startswith("#"), f"{path}:{number}: {line!r}"
    return lines


class Transport(StringTransport):
    def loseWriteConnection(self):
        self.disconnecting = True

    def setTcpNoDelay(self, on):
        pass

    def setTcpKeepAlive(self, on):
        pass


@pytest.fixture(scope="module")
def secrets():
    return {word: hash_password(word) for word in (b"secret word", b"other")}


@pytest.fixture
def office(secrets):
    """Both counters over one directory and one store, all in memory."""
    directory, store, clock = MemoryDirectory(), MemoryStore(), Clock()
    for domain in ("example.net", "example.com"):
        finish(directory.add_domain(domain))
    finish(directory.add("joe@example.net", secrets[b"secret word"]))
    finish(directory.add("ann@example.net", secrets[b"other"]))
    finish(directory.add("postmaster@example.net", None))
    reception = Reception(
        directory,
        store,
        hostname="mail.example.net",
        postmaster=Address("postmaster", "example.net"),
        now=lambda: NOON,
    )
    checker = Checker([directory], InlineWorkers(), clock=clock.seconds)
    portal = Portal(Realm(store, reception), [checker])
    joe = Recipient(Address("joe", "example.net"), Account("joe@example.net", "joe@example.net"))
    for text in WAITING:
        sender = Address("a", "example.org")
        envelope = Envelope("x.1", Client("192.0.2.1"), "pc", "ESMTP", sender, recipients=[joe])
        delivery = finish(reception.begin(envelope))
        finish(delivery.write(text))
        finish(delivery.commit())
    return {
        "smtp": SMTPFactory(portal, hostname="mail.example.net", limits=SMTPLimits(), clock=clock),
        "pop3": POP3Factory(portal, clock=clock),
    }


def play(lines: list[Line], factory, at_once: bool) -> None:
    """Let the client say its lines, and compare what it hears."""
    transport = Transport(peerAddress=IPv4Address("TCP", "127.0.0.1", 4000))
    conversation = factory.buildProtocol(transport.getPeer())
    conversation.makeConnection(transport)
    heard = 0
    for line in lines:
        if not line.server:
            for piece in [line.octets] if at_once else [bytes([octet]) for octet in line.octets]:
                conversation.dataReceived(piece)
        elif line.text == "!close":
            assert transport.disconnecting, f"line {line.number}: still open"
        else:
            said, end, _ = transport.value()[heard:].partition(b"\r\n")
            assert end, f"line {line.number}: silence"
            assert line.fits(said), f"line {line.number}: {said!r} is not {line.text!r}"
            heard += len(said + end)
    assert transport.value()[heard:] == b"", "nothing more is said"
    conversation.connectionLost(None)


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "octet by octet"])
@pytest.mark.parametrize(
    "path", sorted(DIALOGUES.rglob("*.txt")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_a_dialogue(path, at_once, office):
    play(read(path), office[path.parent.name], at_once)
