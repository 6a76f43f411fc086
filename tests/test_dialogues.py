"""Written dialogues, played against the conversation on a transport in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

DIALOGUES = Path(__file__).parent / "dialogues"
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


def play(lines: list[Line], client, at_once: bool) -> None:
    """Let the client say its lines, and compare what it hears."""
    heard = client.hear()
    for line in lines:
        if not line.server:
            for piece in [line.octets] if at_once else [bytes([octet]) for octet in line.octets]:
                heard += client.say(piece)
        elif line.text == "!close":
            assert client.transport.disconnecting, f"line {line.number}: still open"
        else:
            said, end, heard = heard.partition(b"\r\n")
            assert end, f"line {line.number}: silence"
            assert line.fits(said), f"line {line.number}: {said!r} is not {line.text!r}"
    assert heard == b"", "nothing more is said"
    client.leave()


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "octet by octet"])
@pytest.mark.parametrize(
    "path", sorted(DIALOGUES.rglob("*.txt")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_a_dialogue(path, at_once, memory_office):
    for text in WAITING:
        memory_office.post(text)
    play(read(path), memory_office.client(path.parent.name), at_once)
