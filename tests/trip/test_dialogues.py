"""Written dialogues, played against the conversation in memory, and against the live office."""

from __future__ import annotations

import poplib
import re
import smtplib
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

DIALOGUES = Path(__file__).parents[1] / "dialogues"
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


class InMemory:
    """A client of a conversation on a transport in memory."""

    def __init__(self, client):
        self._client = client
        self._heard = client.hear()

    def say(self, octets: bytes) -> None:
        self._heard += self._client.say(octets)

    def line(self) -> bytes:
        line, end, self._heard = self._heard.partition(b"\r\n")
        return line + end

    def closed(self) -> bool:
        return self._client.transport.disconnecting and not self._heard

    def leave(self) -> None:
        assert self._heard == b"", "nothing more is said"
        self._client.leave()


class Live:
    """A client on a socket."""

    def __init__(self, port: int):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._lines = self._socket.makefile("rb")

    def say(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def line(self) -> bytes:
        return self._lines.readline()

    def closed(self) -> bool:
        return self._lines.read() == b""

    def leave(self) -> None:
        self._lines.close()
        self._socket.close()


def play(lines: list[Line], client, at_once: bool) -> None:
    """Let the client say its lines, and compare what it hears."""
    for line in lines:
        if not line.server:
            for piece in [line.octets] if at_once else [bytes([octet]) for octet in line.octets]:
                client.say(piece)
        elif line.text == "!close":
            assert client.closed(), f"line {line.number}: still open, or more is said"
        else:
            said = client.line()
            assert said.endswith(b"\r\n"), f"line {line.number}: silence"
            assert line.fits(said[:-2]), f"line {line.number}: {said!r} is not {line.text!r}"
    client.leave()


every_dialogue = pytest.mark.parametrize(
    "path", sorted(DIALOGUES.rglob("*.txt")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)


@every_dialogue
def test_a_dialogue_in_memory(path, memory_office):
    """Octet by octet: in whole lines it is played live."""
    for text in WAITING:
        memory_office.post(text)
    play(read(path), InMemory(memory_office.client(path.parent.name)), at_once=False)


@pytest.fixture
def peopled_office(office):
    """The live office, with the people of the dialogues, and two messages for joe."""
    for name, password in (("joe", "secret word"), ("ann", "other"), ("postmaster", "x")):
        office.account(f"{name}@example.net", password)
    office.domain("example.com")
    for name, password in (("joe", "secret word"), ("ann", "other")):
        client = poplib.POP3("127.0.0.1", office.pop3, timeout=30)
        client.user(f"{name}@example.net")
        client.pass_(password)
        for number in range(1, client.stat()[0] + 1):
            client.dele(number)
        client.quit()
    with smtplib.SMTP("127.0.0.1", office.smtp, "pc.example.org", timeout=30) as client:
        for text in WAITING:
            client.sendmail("a@example.org", ["joe@example.net"], text)
    return office


@every_dialogue
def test_a_live_dialogue(path, peopled_office):
    """In whole lines: how octets are cut matters to the conversation alone, which is in memory."""
    play(read(path), Live(getattr(peopled_office, path.parent.name)), at_once=True)
