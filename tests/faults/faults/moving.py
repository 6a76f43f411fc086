"""Maildirs of another server, their import by the command, and what is checked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random

from faults.daemon import DOMAIN, furnish
from postoffice.store import maildir
from postoffice.store.listing_cache import MeasuredSizes
from postoffice.store.merge import STAGING
from tests import processes
from tests.old_servers import Dovecot, own

COMMAND = "from postoffice.cli import main; main()"


def _digest(text: bytes) -> str:
    """Of a text, whatever its line ends are."""
    return sha256(text.replace(b"\r\n", b"\n")).hexdigest()


@dataclass
class Move:
    """
    A move of ``accounts`` accounts with ``messages`` messages each, into an office in ``folder``.

    ``elsewhere`` is where the Maildirs are: on another file system their files are copied.
    """

    folder: Path
    accounts: int
    messages: int
    elsewhere: Path | None = None
    random: Random = field(default_factory=Random)
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.names = [f"u{number:04}" for number in range(self.accounts)]
        self.source = (self.elsewhere or self.folder) / "old"
        self.wanted: dict[str, list[tuple[str, str]]] = {}

    def prepare(self) -> None:
        """Make the office with its accounts, and the Maildirs."""
        furnish(self.folder, "journal", self.names)
        for name in self.names:
            self.wanted[name] = self._fill(self.maildir(name))
        rows = "".join(f"{name}@{DOMAIN},{self.location(name)}\n" for name in self.names)
        (self.folder / "all.csv").write_text(f"address,source\n{rows}")

    def maildir(self, name: str) -> Path:
        """The Maildir of an account."""
        return self.source / name

    def location(self, name: str) -> str:
        """Where the command imports an account from."""
        return str(self.maildir(name))

    def _fill(self, path: Path) -> list[tuple[str, str]]:
        """Write a Maildir of Dovecot's; UIDL and digest of each message, in the right order."""
        for box in ("new", "cur", "tmp"):
            (path / box).mkdir(parents=True, exist_ok=True)
        uids = self.random.sample(range(1, 10 * self.messages), self.messages)
        lines, wanted = {}, {}
        for number, uid in enumerate(uids):
            base = f"{1700000000 + number}.M{number}P1.old"
            text = f"Subject: {path} {number}\n\n{self.random.random()}\n.\n".encode()
            place = f"new/{base}" if number % 3 else f"cur/{base}:2,S"
            (path / place).write_bytes(text)
            lines[uid] = f"{uid} :{base}\n"
            wanted[uid] = (f"{uid:08x}{1700000000:08x}", _digest(text))
        header = f"3 V1700000000 N99999999 G{1:032x}\n"
        listed = "".join(lines[uid] for uid in sorted(uids))
        (path / "dovecot-uidlist").write_text(header + listed)
        return [wanted[uid] for uid in sorted(uids)]

    # -- the import ------------------------------------------------------------------------

    def run(self) -> float:
        """Import all; seconds."""
        began = time.monotonic()
        process = self._start()
        said = process.communicate()[0]
        assert process.returncode == 0, said
        return time.monotonic() - began

    def kill_at(self, there: int) -> int:
        """Begin to import; kill it when so many messages are there: how many are, then."""
        process = self._start()
        while self.visible() < there and process.poll() is None:
            pass
        process.kill()
        process.communicate()
        return self.visible()

    def _start(self) -> subprocess.Popen[str]:
        words = ["maildrop", "import", "--from-csv", "all.csv", *self.options]
        return processes.Popen(
            [sys.executable, "-c", COMMAND, *words],
            cwd=self.folder,
            env=processes.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    # -- what there is -----------------------------------------------------------------------

    def drop(self, name: str) -> Path:
        """The maildrop of an account."""
        return self.folder / "state" / "maildrops" / DOMAIN / name

    def visible(self) -> int:
        """How many messages there are."""
        places = (self.drop(name) / box for name in self.names for box in ("new", "cur"))
        return sum(len(os.listdir(place)) for place in places if place.is_dir())

    def found(self) -> list[str]:
        """What is wrong now that all is imported: none twice, none missing, nothing half done."""
        return [why for name in self.names for why in self._wrong(name)]

    def _wrong(self, name: str) -> list[str]:
        drop = self.drop(name)
        got = [
            (one.uidl, _digest((drop / one.name).read_bytes()))
            for one in maildir.scan(str(drop), MeasuredSizes()).entries
        ]
        wrong = []
        if got != self.wanted[name]:
            missing = len(set(self.wanted[name]) - set(got))
            twice = len(got) - len(set(got))
            wrong.append(f"{name}: {missing} missing, {twice} twice, or another order")
        # what a killed import has staged is removed after a day
        left = [one for one in os.listdir(drop / "tmp") if not one.startswith(STAGING)]
        if left:
            wrong.append(f"{name}: {len(left)} left in tmp")
        return wrong

    def moments(self, rounds: int) -> list[int]:
        """Random moments to kill at: numbers of messages, rising."""
        total = self.accounts * self.messages
        return sorted(self.random.randrange(total) for _ in range(rounds))


class LiveMove(Move):
    """The same from a Dovecot that runs, over POP3."""

    PASSWORD = "a password"

    def __init__(self, server: Dovecot, folder: Path, accounts: int, messages: int, random: Random):
        self.server = server
        super().__init__(folder, accounts, messages, random=random)
        (folder / "password").write_text(self.PASSWORD)
        self.options = ("--password-file", "password")

    def maildir(self, name: str) -> Path:
        return self.server.maildir(f"{name}@{DOMAIN}")

    def location(self, name: str) -> str:
        return f"pop3://localhost:{self.server.port}"

    def prepare(self) -> None:
        for name in self.names:
            self.server.add(f"{name}@{DOMAIN}", self.PASSWORD)
        super().prepare()
        for name in self.names:
            own(self.maildir(name))
