"""
Kill -9 of a daemon that sends, at random moments: python tests/faults/sending.py [--rounds N]

README.rst says what is asked.
"""

from __future__ import annotations

import argparse
import re
import signal
import smtplib
import socketserver
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from tests.trip.conftest import CONFIGURATION, Office  # noqa: E402

ANN, BOB = "ann@example.net", "bob@example.net"
CLIENTS = 6
#: One of so many messages is for nobody too: an account with more refusals is held.
NOBODY = 8
#: Seconds after which a queue that is not empty is wrong.
PATIENCE = 120
TOKEN = re.compile(rb"^Subject: (t[0-9.]+)\r$", re.MULTILINE)


class Sink(socketserver.ThreadingTCPServer):
    """Another server: it counts what it has taken, and knows nobody."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Dialogue)
        self.taken: Counter[str] = Counter()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """The daemon was killed."""


class Dialogue(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self._say(b"220 sink")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"DATA":
                self._say(b"354 go on")
                text = b""
                while (line := self.rfile.readline()) != b".\r\n":
                    if not line:
                        return
                    text += line
                self.server.taken[token_in(text)] += 1
            no = verb == b"RCPT" and b"<nobody@" in line
            self._say(b"550 5.1.1 no such user" if no else b"250 ok")
            if verb == b"QUIT":
                return

    def _say(self, line: bytes) -> None:
        self.wfile.write(line + b"\r\n")


def token_in(text: bytes) -> str:
    found = TOKEN.search(text)
    return found[1].decode() if found else "?"


class Campaign:
    """Clients that submit to people here and elsewhere, and one of whom there is nobody."""

    def __init__(self, folder: Path, durability: str, seed: int) -> None:
        self.accepted: set[str] = set()
        self.unknown: set[str] = set()
        self._folder = folder
        self._atomic = durability == "journal"
        self._random = Random(seed)
        self._sink = Sink()
        self._store = folder / "state" / "maildrops"
        (folder / "postoffice.yaml").write_text(
            f"{CONFIGURATION}store: {{kind: maildir, durability: {durability}}}\n"
            "outbound:\n"
            f'  routes: [{{via: "smtp:127.0.0.1:{self._sink.server_address[1]}"}}]\n'
            "  limits: {recipients: [1000000/h]}\n"
        )

    def run(self, rounds: int) -> list[str]:
        office = Office(self._folder).open()
        for one in (ANN, BOB):
            office.account(one, office.PASSWORD)
        for number in range(rounds):
            clients = [
                threading.Thread(target=self._submit, args=(office, f"t{number}.{n}"))
                for n in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            time.sleep(self._random.uniform(0.2, 2.0))
            office.stop(signal.SIGKILL)
            for client in clients:
                client.join()
            office = Office(self._folder).open()
        try:
            return self._wrong()
        finally:
            office.stop()

    def _submit(self, office: Office, who: str) -> None:
        """One message after the other, until the office is gone."""
        for number in range(10_000):
            token = f"{who}.{number}"
            to = [f"far{number % 7}@example.com", BOB, "nobody@example.com"]
            to = to if number % NOBODY == NOBODY - 1 else to[:2]
            text = f"From: {ANN}\r\nSubject: {token}\r\n\r\nhello\r\n".encode()
            try:
                with smtplib.SMTP("127.0.0.1", office.ports["submission"], timeout=60) as client:
                    client.login(ANN, office.PASSWORD)
                    self.unknown.add(token)
                    client.sendmail(ANN, to, text)
                    self.accepted.add(token)
            except (OSError, smtplib.SMTPException):
                return

    def _wrong(self) -> list[str]:
        began = time.monotonic()
        while left := list(self._store.glob(".queue/messages/new/*")):
            if time.monotonic() - began > PATIENCE:
                return [f"{len(left)} messages are still in the queue"]
            time.sleep(0.2)
        here, letters = self._tokens("bob"), self._tokens("ann")
        wrong = []
        for token in self.accepted | self.unknown:
            told = int(token.rpartition(".")[2]) % NOBODY == NOBODY - 1
            taken = self._sink.taken[token]
            if token in self.accepted and not (taken and here[token]):
                wrong.append(f"{token} was lost: here {here[token]}, there {taken}")
            if here[token] > 1 or letters[token] > 1:
                wrong.append(
                    f"{token} is here {here[token]} times, and told {letters[token]} times"
                )
            halves = bool(taken) is not bool(here[token])
            if halves and (self._atomic or here[token]):  # else the queue comes first
                wrong.append(f"{token}: here {here[token]}, there {taken}")
            if letters[token] != told * bool(taken):
                wrong.append(f"{token}: here {here[token]}, there {taken}, told {letters[token]}")
        return wrong

    def _tokens(self, name: str) -> Counter[str]:
        paths = self._store.glob(f"example.net/{name}/new/*")
        return Counter(token_in(path.read_bytes()) for path in paths)

    def summary(self) -> str:
        taken = self._sink.taken
        twice = sum(count - 1 for count in taken.values())
        return f"{len(self.accepted)} accepted, {sum(taken.values())} sent, {twice} of them again"


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill -9 of a daemon that sends.")
    parser.add_argument("--rounds", type=int, default=20, help="kills for each durability (20)")
    parser.add_argument("--seed", type=int, default=0, help="other moments")
    options = parser.parse_args()
    problems = []
    for durability in ("journal", "files"):
        with tempfile.TemporaryDirectory(prefix="sending-") as folder:
            campaign = Campaign(Path(folder), durability, options.seed)
            wrong = campaign.run(options.rounds)
            print(f"{durability}: {options.rounds} kills, {campaign.summary()}, {len(wrong)} wrong")
            print(*wrong[:10], sep="\n")
            problems += wrong
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
