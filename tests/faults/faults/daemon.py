"""The real daemon in a process of its own, and blocking clients of it."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import postoffice
from faults.departures import Departures
from faults.ledger import Held, Ledger, text_of
from postoffice.accounts.passwords import hash_password
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.model.address import Quota
from postoffice.testing import ImmediateExecutor, finish

ROOT = Path(postoffice.__file__).parent.parent
#: Seconds after which something will never happen.
NEVER = 60
DOMAIN = "example.net"
PASSWORD = "a password"
CONFIGURATION = """\
hostname: mail.example.net
postmaster: postmaster@example.net
state: state
store: {{kind: maildir, durability: {durability}}}
listeners:
  smtp: ["tcp:0:interface=127.0.0.1"]
  submission: ["tcp:0:interface=127.0.0.1"]
  lmtp: ["tcp:0:interface=127.0.0.1"]
  pop3: ["tcp:0:interface=127.0.0.1"]
"""
_OPEN = re.compile(r"the post office is open: (.*)")
#: What a daemon must never say.
_BAD = re.compile(r"Traceback|our fault|Unhandled|is damaged|is lost")


class NotOpen(Exception):
    """It ended before it let anybody in."""


def furnish(folder: Path, durability: str, names: Iterable[str], more: str = "") -> None:
    """A configuration, with ``more`` in it, and accounts, for daemons to be started here."""
    (folder / "postoffice.yaml").write_text(CONFIGURATION.format(durability=durability) + more)
    (folder / "state").mkdir(mode=0o700)
    add(folder, "postmaster", *names)


def add(folder: Path, *names: str, quota: Quota | None = None) -> None:
    """Accounts, with a quota or the common one."""
    path, key = (str(folder / "state" / f"accounts.{kind}") for kind in ("db", "key"))
    directory = SQLiteDirectory(path, ImmediateExecutor(), key)
    finish(directory.start())
    finish(directory.add_domain(DOMAIN))
    secret = hash_password(PASSWORD.encode())
    for name in names:
        finish(directory.add(f"{name}@{DOMAIN}", secret))
        if quota is not None:
            finish(directory.set_quota(f"{name}@{DOMAIN}", quota))
    finish(directory.stop())


class Daemon:
    """``twistd -n postoffice`` in a folder; ``ready``: the seconds until clients were let in."""

    def __init__(
        self,
        folder: Path,
        *,
        under: Sequence[str] = (),
        popen: type[subprocess.Popen[str]] = subprocess.Popen,
    ) -> None:
        twistd = str(Path(sys.executable).with_name("twistd"))
        self._began = time.monotonic()
        self.process = popen(
            [*under, twistd, "-n", "--pidfile=", "postoffice"],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.pid = self.process.pid
        self.lines: list[str] = []
        self.ready = 0.0
        self._opened = threading.Event()
        self._ports: dict[str, int] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := _OPEN.search(line):
                self.ready = time.monotonic() - self._began
                for service, port in re.findall(r"(\w+) [\d.]+:(\d+)", found[1]):
                    self._ports[service] = int(port)
                self._opened.set()
        self._opened.set()  # or never

    def open(self) -> Daemon:
        """Wait until clients are let in.  Raises NotOpen."""
        if not self._opened.wait(NEVER) or not self._ports:
            self.kill()
            raise NotOpen("".join(self.lines))
        return self

    def kill(self) -> None:
        """It is gone, at once."""
        self.process.kill()
        self.process.wait(NEVER)
        self._reader.join(NEVER)

    def all_gone(self) -> bool:
        """
        Behind ``kill``: whether every process of its has ended, or does so soon.

        The one that places ends what it is at, and then it goes.
        """
        until = time.monotonic() + NEVER
        while _in_group(self.pid):
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def kill_placer(self) -> bool:
        """The process that places for it is gone, at once; False where there is none."""
        with suppress(OSError):  # it has just gone by itself
            for task in Path(f"/proc/{self.pid}/task").iterdir():
                for child in (task / "children").read_text(encoding="ascii").split():
                    if Path(f"/proc/{child}/comm").read_text(encoding="ascii") == "store\n":
                        os.kill(int(child), signal.SIGKILL)
                        return True
        return False

    def stop(self) -> None:
        """It closes, and all is in its place."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(NEVER)
        self._reader.join(NEVER)

    def complaints(self) -> list[str]:
        """What it said that it must not; with a traceback, what was raised."""
        return [
            line.strip() + (self._raised(number) if "Traceback" in line else "")
            for number, line in enumerate(self.lines)
            if _BAD.search(line)
        ]

    def _raised(self, number: int) -> str:
        left = (line.removeprefix("\t") for line in self.lines[number + 1 :])
        return " " + next((line.strip() for line in left if not line.startswith(" ")), "")

    def said(self, pattern: str) -> re.Match[str] | None:
        """What it said of this."""
        return re.search(pattern, "".join(self.lines))

    def smtp(self) -> Poster:
        return Poster(self._ports["smtp"], b"EHLO")

    def submission(self, sender: str) -> Submitter:
        return Submitter(self._ports["submission"], sender)

    def lmtp(self) -> Poster:
        return Poster(self._ports["lmtp"], b"LHLO")

    def pop3(self) -> Collector:
        return Collector(self._ports["pop3"])


def _in_group(pid: int) -> list[str]:
    """The processes of a group, without those that only wait for somebody to ask how they ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just gone
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            if group == str(pid) and state not in "ZX":
                found.append(path.parent.name)
    return found


def environment() -> dict[str, str]:
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**outside, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


class Link:
    """A socket and the lines that come out of it; whatever cuts it is a ConnectionError."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), NEVER)
        self._lines = self._socket.makefile("rb")

    def say(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def line(self) -> bytes:
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the other side has gone")
        return line

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class Poster(Link):
    """A client of SMTP or LMTP."""

    def __init__(self, port: int, hello: bytes) -> None:
        super().__init__(port)
        self._apart = hello == b"LHLO"
        self.reply()
        self.say(hello + b" client.example.org\r\n")
        self.reply()

    def reply(self) -> bytes:
        line = self.line()
        while line[3:4] == b"-":
            line = self.line()
        return line

    def offer(
        self, sender: str, addresses: Sequence[str], size: int
    ) -> tuple[list[bytes], list[str]]:
        """
        Begin a message.

        What said no, and the addresses that are accepted; none if no text may follow.
        """
        rcpt = "".join(f"RCPT TO:<{address}>\r\n" for address in addresses)
        self.say(f"MAIL FROM:<{sender}> SIZE={size}\r\n{rcpt}DATA\r\n".encode())
        said = [self.reply() for _ in range(len(addresses) + 2)]
        no = [one for one in said if one[:1] not in b"23"]
        if not said[-1].startswith(b"354"):
            self.say(b"RSET\r\n")
            self.reply()
            return no, []
        return no, [one for one, say in zip(addresses, said[1:], strict=False) if say[:1] == b"2"]

    def post(self, ledger: Ledger, token: str, text: bytes, names: Sequence[str]) -> list[bytes]:
        """
        Post a message, and write into the ledger what is heard.

        What said no, and the replies to the text, over LMTP one for each recipient.
        """
        addresses = [f"{name}@{DOMAIN}" for name in names]
        no, accepted = self.offer("a@example.org", addresses, len(text))
        if not accepted:
            return no[:1]
        names = [one.partition("@")[0] for one in accepted]
        ledger.posting(token, names, apart=self._apart)
        self.say(text + b".\r\n")
        replies = [self.reply() for _ in (names if self._apart else [""])]
        if self._apart:
            for name, one in zip(names, replies, strict=True):
                if one.startswith(b"250"):
                    ledger.posted(token, name)
        elif replies[0].startswith(b"250"):
            ledger.posted(token, *names)
        return [*no, *replies]


#: Nothing is missing in this header, so that nothing is added to it.
_COMPLETE = (
    "Date: Mon, 2 Jan 2023 03:04:05 +0000\r\nFrom: {sender}\r\nTo: you@there0.example\r\n"
    "Message-ID: <{token}@example.net>\r\n"
)


class Submitter(Poster):
    """A client that submits mail of one account."""

    def __init__(self, port: int, sender: str) -> None:
        super().__init__(port, b"EHLO")
        self._sender = f"{sender}@{DOMAIN}"
        secret = base64.b64encode(f"\0{self._sender}\0{PASSWORD}".encode())
        self.say(b"AUTH PLAIN " + secret + b"\r\n")
        if not (reply := self.reply()).startswith(b"235"):
            raise Refused(reply.decode().strip())

    def submit(
        self, departures: Departures, token: str, here: Sequence[str], elsewhere: Sequence[str]
    ) -> list[bytes]:
        """Submit a message, and note what is heard; what said no, and the reply to the text."""
        text = _COMPLETE.format(sender=self._sender, token=token).encode() + text_of(token)
        addresses = [*(f"{name}@{DOMAIN}" for name in here), *elsewhere]
        no, accepted = self.offer(self._sender, addresses, len(text))
        if not accepted:
            return no[:1]
        departures.submitting(
            token,
            [name for name in here if f"{name}@{DOMAIN}" in accepted],
            [address for address in elsewhere if address in accepted],
        )
        self.say(text + b".\r\n")
        reply = self.reply()
        if reply.startswith(b"250"):
            departures.submitted(token)
        return [*no, reply]


class Refused(Exception):
    """-ERR, and what it said."""


class Collector(Link):
    """A client of POP3."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.answer()

    def answer(self) -> bytes:
        line = self.line()
        if not line.startswith(b"+OK"):
            raise Refused(line.decode().strip())
        return line

    def ask(self, command: bytes) -> bytes:
        self.say(command + b"\r\n")
        return self.answer()

    def listed(self, command: bytes) -> list[bytes]:
        """An answer of several lines, its dots undone."""
        self.ask(command)
        return self._lines_until_dot()

    def _lines_until_dot(self) -> list[bytes]:
        lines = []
        while (line := self.line()) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        return lines

    def login(self, name: str) -> Collector:
        """Raises Refused."""
        self.ask(b"USER %b@%b" % (name.encode(), DOMAIN.encode()))
        self.ask(b"PASS " + PASSWORD.encode())
        return self

    def uidls(self) -> list[str]:
        """All, in their order."""
        return [line.split()[1].decode() for line in self.listed(b"UIDL")]

    def retrieve(self, uidls: Sequence[str], numbers: Iterable[int] | None = None) -> list[Held]:
        """These messages (numbers from 1), or all; asked for in one go."""
        chosen = list(range(1, len(uidls) + 1) if numbers is None else numbers)
        held = []
        for at in range(0, len(chosen), 50):
            some = chosen[at : at + 50]
            self.say(b"".join(b"RETR %d\r\n" % number for number in some))
            for number in some:
                self.answer()
                held.append(Held(uidls[number - 1], b"".join(self._lines_until_dot())))
        return held

    def delete(self, numbers: Iterable[int]) -> None:
        chosen = list(numbers)
        self.say(b"".join(b"DELE %d\r\n" % number for number in chosen))
        for _ in chosen:
            self.answer()

    def quit(self) -> None:
        self.ask(b"QUIT")
        self.close()
