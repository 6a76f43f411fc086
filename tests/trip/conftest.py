"""The real daemon in a process of its own, and what the trips need of it."""

from __future__ import annotations

import os
import poplib
import queue
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from postoffice.accounts.passwords import hash_password
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.cli import self_signed
from postoffice.protocol.scram import derive
from postoffice.testing import ImmediateExecutor, finish
from tests import processes
from tests.processes import COMMAND, NEVER, environment
from tests.web.chromium import Chromium

OPEN = re.compile(r"the post office is open: (.*)")
TWISTD = (str(Path(sys.executable).with_name("twistd")),)
CONFIGURATION = """\
hostname: mail.example.net
postmaster: postmaster@example.net
state: state
listeners:
  smtp: ["tcp:0:interface=127.0.0.1"]
  submission: ["tcp:0:interface=127.0.0.1"]
  lmtp: ["tcp:0:interface=127.0.0.1"]
  pop3: ["tcp:0:interface=127.0.0.1"]
"""
#: Those whom the whole office lets speak for others.
BALANCER, RELAY = "127.0.0.2", "127.0.0.3"
HOSTS = ("mail.example.net", "mail.example.com")
_PLACE = '"tcp:0:interface=127.0.0.1"'
_PROXIED = f"endpoint: {_PLACE}, proxy_from: [{BALANCER}]"
_LOGIN = "mechanisms: [SCRAM-SHA-256, CRAM-MD5, PLAIN, LOGIN]"
WHOLE = f"""\
hostname: mail.example.net
postmaster: postmaster@example.net
state: state
tls:
  certificates:
    - {{certificate: mail.example.net.pem, key: mail.example.net.pem}}
    - {{certificate: mail.example.com.pem, key: mail.example.com.pem}}
listeners:
  smtp: [{{{_PROXIED}, xclient_from: [{RELAY}]}}]
  submission: [{{{_PROXIED}, {_LOGIN}}}]
  submissions: [{{{_PROXIED}, {_LOGIN}}}]
  lmtp: [{{endpoint: {_PLACE}, xclient_from: [{RELAY}]}}]
  pop3: [{{{_PROXIED}, {_LOGIN}}}, {{endpoint: {_PLACE}, mechanisms: [APOP]}}]
  pop3s: [{{{_PROXIED}, {_LOGIN}}}]
"""


class Process:
    """A process whose output is read as it comes; wait for what it says, never for the time."""

    def __init__(
        self, words: list[str], cwd: Path, popen: type[subprocess.Popen] = processes.Popen, **more
    ) -> None:
        self.process = popen(
            words,
            cwd=cwd,
            env=more.pop("env", environment()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # without a terminal
            **more,
        )
        self.pid = self.process.pid
        self.out: list[str] = []
        self.err: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=facts)
            for facts in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe, kept: list[str]) -> None:
        for line in pipe:
            kept.append(line)
            self._lines.put(line)
        self._lines.put(None)

    @property
    def said(self) -> str:
        return "".join(self.out) + "".join(self.err)

    def wait_for(self, pattern: str | re.Pattern[str]) -> re.Match[str]:
        """Until it says this; it must not end before."""
        ended = 0
        while ended < len(self._readers):
            try:
                line = self._lines.get(timeout=NEVER)
            except queue.Empty:
                raise AssertionError(f"it does not say {pattern!r}:\n{self.said}") from None
            if line is None:
                ended += 1
            elif found := re.search(pattern, line):
                return found
        raise AssertionError(f"it ended without saying {pattern!r}:\n{self.said}")

    def end(self) -> int:
        """Its exit status, when it has ended by itself."""
        status = self.process.wait(NEVER)
        for reader in self._readers:
            reader.join(NEVER)
        self.process.stdout.close()
        self.process.stderr.close()
        return status

    def stop(self, by: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(by)
        return self.end()


class Raw:
    """A socket and the lines that come out of it."""

    def __init__(self, port: int, source: str = "127.0.0.1"):
        self.socket = socket.create_connection(("127.0.0.1", port), NEVER / 2, (source, 0))
        self.lines = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.lines.close()
        self.socket.close()

    def say(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def hear(self, count: int = 1) -> list[bytes]:
        return [self.lines.readline() for _ in range(count)]

    def ask(self, command: bytes) -> bytes:
        """Say a command, and hear its whole reply."""
        self.say(command + b"\r\n")
        return self.reply()

    def reply(self) -> bytes:
        """A reply of SMTP, however many lines it has."""
        said = line = self.lines.readline()
        while line[3:4] == b"-":
            line = self.lines.readline()
            said += line
        return said

    def rest(self) -> bytes:
        """All that comes until the other side closes."""
        return self.lines.read()

    def begin_tls(self, trusted: ssl.SSLContext, host: str = "localhost") -> None:
        self.lines.close()
        self.socket = trusted.wrap_socket(
            self.socket, server_hostname=host, suppress_ragged_eofs=False
        )
        self.lines = self.socket.makefile("rb")

    def reset(self) -> None:
        """Hang up without a word."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.lines.close()
        self.socket.close()


@dataclass
class Account:
    address: str
    password: str


class Office(Process):
    """``twistd -n postoffice``, open."""

    PASSWORD = "a password"

    def __init__(self, folder: Path, *words: str, twistd: Sequence[str] = TWISTD, **more) -> None:
        super().__init__([*twistd, "-n", *(words or ("postoffice",))], folder, **more)
        self.folder = folder
        self._secrets: dict[str, tuple[str, str]] = {}
        self._numbers = iter(range(1_000_000))

    def open(self) -> Office:
        """Wait until clients are let in."""
        where = self.wait_for(OPEN)[1]
        self.ports: dict[str, int] = {}
        self.places: dict[str, list[int]] = {}
        for service, *places in map(str.split, where.split(", ")):
            for port in re.findall(r":(\d+)\b", " ".join(places)):  # a UNIX socket has none
                self.ports.setdefault(service, int(port))
                self.places.setdefault(service, []).append(int(port))
        self.smtp, self.pop3 = self.ports["smtp"], self.ports["pop3"]
        return self

    @property
    def held(self) -> int:
        """The octets that the process holds now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def new_account(self) -> Account:
        """An account that nobody has used."""
        return self.account(f"joe{next(self._numbers)}@example.net", self.PASSWORD)

    def account(self, address: str, password: str) -> Account:
        """An account, made as the command makes it, in the running office."""
        if password not in self._secrets:
            octets = password.encode()
            self._secrets[password] = hash_password(octets), str(derive(octets))
        self.domain(address.rpartition("@")[2])
        with self.directory() as directory:
            finish(directory.add(address, *self._secrets[password]))
        return Account(address, password)

    def collect(self, account: Account) -> list[bytes]:
        """Take what lies in its maildrop, in the order in which it came."""
        client = poplib.POP3("127.0.0.1", self.pop3, timeout=NEVER)
        client.user(account.address)
        client.pass_(account.password)
        found = []
        for number in range(1, client.stat()[0] + 1):
            found.append(b"".join(line + b"\r\n" for line in client.retr(number)[1]))
            client.dele(number)
        client.quit()
        return found

    def domain(self, name: str) -> None:
        """A domain of ours."""
        with self.directory() as directory:
            finish(directory.add_domain(name))

    @contextmanager
    def directory(self) -> Iterator[SQLiteDirectory]:
        """The accounts of the running office."""
        path, key = (str(self.folder / "state" / f"accounts.{kind}") for kind in ("db", "key"))
        directory = SQLiteDirectory(path, ImmediateExecutor(), key)
        finish(directory.start())
        yield directory
        finish(directory.stop())

    def check(self) -> None:
        """It closes as it should, and nothing went wrong inside."""
        assert self.stop() in (0, -signal.SIGTERM)
        assert "Traceback" not in self.said
        assert "our fault" not in self.said
        assert "Unhandled" not in self.said


def run(
    *words: str, cwd: Path, text: str | None = None, python: str = sys.executable, **more
) -> subprocess.CompletedProcess[str]:
    """The ``postoffice`` command."""
    return processes.run([python, "-c", COMMAND, *words], cwd=cwd, text=text, **more)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A Chromium, for the tests that are not skipped without one."""
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def raw() -> type[Raw]:
    """A client that says what the test says, octet for octet."""
    return Raw


@pytest.fixture
def command(tmp_path):
    """Runs the ``postoffice`` command in the test's own folder."""

    def command(*words, text: str | None = None, **more) -> subprocess.CompletedProcess[str]:
        return run(*words, cwd=tmp_path, text=text, **more)

    return command


@pytest.fixture
def written(tmp_path):
    """Writes a configuration: the least one, changed by pairs of texts, and more behind it."""

    def written(more: str = "", *changes: tuple[str, str]) -> None:
        text = CONFIGURATION
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "postoffice.yaml").write_text(text + more)

    return written


@pytest.fixture
def with_path():
    """The environment of a process, with further folders on Python's path."""
    return environment


@pytest.fixture
def daemonize(tmp_path) -> Iterator:
    """Starts ``twistd`` as a daemon: what the terminal shows; it is ended in the end."""

    def daemonize(*words: str, **more) -> subprocess.CompletedProcess[str]:
        files = ("--logfile=twistd.log", "--pidfile=twistd.pid")
        return processes.run([*TWISTD, *files, *words], cwd=tmp_path, **more)

    yield daemonize
    if (tmp_path / "twistd.pid").exists():
        pid = int((tmp_path / "twistd.pid").read_text())
        gone = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        waiting = select.poll()  # select() takes no descriptor beyond 1023
        waiting.register(gone, select.POLLIN)
        assert waiting.poll(NEVER * 1000)
        os.close(gone)


@pytest.fixture
def start(tmp_path) -> Iterator:
    """Starts ``twistd`` in the test's own folder; whatever still runs in the end is stopped."""
    started = []

    def start(*words: str, cwd: Path = tmp_path, **more) -> Office:
        started.append(Office(cwd, *words, **more))
        return started[-1]

    yield start
    for process in started:
        process.stop()


def opened(folder: Path, configuration: str = "") -> Iterator[Office]:
    if configuration:
        (folder / "postoffice.yaml").write_text(configuration)
    office = Office(folder).open()
    yield office
    office.check()


@pytest.fixture(scope="session")
def office(tmp_path_factory) -> Iterator[Office]:
    """A post office for all tests; each takes an account of its own."""
    quick = CONFIGURATION + "limits: {tarpit: 0.01}\n"
    yield from opened(tmp_path_factory.mktemp("office"), quick)


@pytest.fixture(scope="session")
def roomy_office(tmp_path_factory) -> Iterator[Office]:
    """A post office that takes large messages."""
    roomy = CONFIGURATION + "limits: {message_size: 200 MiB, tarpit: 0.05}\n"
    yield from opened(tmp_path_factory.mktemp("roomy"), roomy)


def furnish(folder: Path) -> None:
    """What the whole office needs to open: certificates of two hosts, and its configuration."""
    for host in HOSTS:
        certificate, key = self_signed.make([host])
        (folder / f"{host}.pem").write_bytes(certificate + key)
    (folder / "postoffice.yaml").write_text(WHOLE)


@pytest.fixture(name="furnish", scope="session")
def _furnish():
    return furnish


@pytest.fixture(name="opened", scope="session")
def _opened():
    """Opens the post office of a folder, and closes it; a generator, for fixtures."""
    return opened


@pytest.fixture(scope="session")
def launch():
    """Starts any program, whose output is read as it comes."""

    @contextmanager
    def launch(words: list[str], cwd: Path) -> Iterator[Process]:
        process = Process(words, cwd)
        try:
            yield process
        finally:
            process.stop()

    return launch


@pytest.fixture(scope="session")
def whole_office(tmp_path_factory) -> Iterator[Office]:
    """A post office with all services, certificates of two hosts, a balancer and a relay."""
    folder = tmp_path_factory.mktemp("whole")
    furnish(folder)
    for office in opened(folder):
        office.account("postmaster@example.net", office.PASSWORD)
        yield office


@pytest.fixture(scope="session")
def trusted(whole_office) -> ssl.SSLContext:
    """What its clients believe: its certificates, and no others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for host in HOSTS:
        context.load_verify_locations(whole_office.folder / f"{host}.pem")
    return context
