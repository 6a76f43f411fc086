"""What all tests share: their options, and that a failure which is only logged fails the test."""

from __future__ import annotations

import gc
import os
import resource
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent, globalLogPublisher

import postoffice
from postoffice.accounts.checker import Checker
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.passwords import hash_password
from postoffice.accounts.realm import Realm
from postoffice.config.loader import OTHER_PLACES
from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient, SessionInfo
from postoffice.model.mail_policy import DEFAULT_POLICY
from postoffice.server.leases import Leases
from postoffice.server.mailbox import MailboxContext
from postoffice.server.pop3 import POP3Factory
from postoffice.server.smtp_factory import SMTPFactory
from postoffice.server.submission import Receptions
from postoffice.smtp.options import SMTPLimits
from postoffice.store.journal.journal import Journal
from postoffice.store.memory import MemoryStore
from postoffice.testing import ImmediateExecutor, finish
from tests import processes
from tests.loop import Loop
from tests.nameserver import NameServer
from tests.servers import LDAP, PostgreSQL

#: On a busy machine any example may take long: that is no failure.  In CI the examples are the
#: same each time, so that it says of one commit one thing; others are tried everywhere else.
#: ``--hypothesis-profile=many`` tries more of them.
settings.register_profile(
    "busy",
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.register_profile("many", settings.get_profile("busy"), max_examples=200)
settings.load_profile("busy")
set_hypothesis_home_dir(Path.cwd() / ".hypothesis")
#: A post office that lives on this machine is none of the tests' business: here, and in every
#: process that a test starts, the only place of a configuration is the folder that it works in.
os.environ[OTHER_PLACES] = "postoffice.yaml"
#: Hundreds of interpreters start for the tests: each would compile the same modules again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

#: What ``pytest -m rules`` runs: the rules alone, in these folders, without sockets, files or
#: processes.  A property has fewer examples there; the whole suite tries all.
RULES = ("smtp", "pop3", "protocol", "model")
settings.register_profile(
    "rules", settings.get_profile("busy"), max_examples=10, stateful_step_count=10
)
#: What the interpreter reports (``sys.addaudithook``) of that which no rule needs.
BEYOND_RULES = ("socket.bind", "socket.connect", "sqlite3.connect", "subprocess.Popen", "os.fork")
#: Where tests of several seconds are: these files begin, so that none of them is left for the end.
LONG = (
    "faults/test_devices.py",
    "trip/test_messages.py",
    "trip/test_web_browser.py",
    "trip/test_web_admin.py",
    "trip/test_tls.py",
    "trip/test_guessing.py",
    "trip/test_reload.py",
    "trip/test_backup.py",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_in_rules = False


@cache
def _room(path: Path) -> str:
    """The folder of the tests that this stands in; "" elsewhere."""
    folder = Path(__file__).parent
    return path.relative_to(folder).parts[0] if path.is_relative_to(folder) else ""


def _stay_within_rules(event: str, facts: tuple) -> None:
    if not _in_rules:
        return
    if event == "open":
        path, _, flags = facts
        own = any(word in str(path) for word in ("/.hypothesis", "__pycache__", "/dev/null"))
        assert own or not flags & WRITING, f"a test of the rules writes a file: {path}"
    assert event not in BEYOND_RULES, f"a test of the rules does without {event}"


sys.addaudithook(_stay_within_rules)


def pytest_addoption(parser):
    parser.addoption(
        "--corpus",
        metavar="DIR",
        help="post the messages DIR/*.eml over the real sockets, instead of generated ones",
    )


def pytest_configure(config):
    if config.option.corpus:  # tests work in another folder
        config.option.corpus = str(Path(config.option.corpus).absolute())
    if config.option.markexpr == "rules":
        settings.load_profile("rules")


def pytest_ignore_collect(collection_path, config):
    """Nothing else need be imported to run the rules alone."""
    if config.option.markexpr != "rules" or collection_path == Path(__file__).parent:
        return None
    return True if _room(collection_path) not in ("", *RULES) else None


def pytest_xdist_auto_num_workers():
    """One more than processors: many tests wait for another process, or for the disk."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """No test looks through the thousands of others for garbage, nor does a child forked here."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    items.sort(key=_turn)
    for item in items:
        if _room(item.path) in RULES:
            item.add_marker("rules")


def _turn(item) -> int:
    """Long tests begin, then those with processes; thousands of small ones fill what is left."""
    here = Path(__file__).parent
    if not item.path.is_relative_to(here):
        return 2
    path = item.path.relative_to(here)
    return 0 if str(path) in LONG else 1 if path.parts[0] == "trip" else 2


def pytest_terminal_summary(terminalreporter):
    """The time of the processors, beside pytest's own: it is the same on a busy machine."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    terminalreporter.line(f"CPU time: {seconds:.0f} s")


def pytest_report_header(config):
    corpus = config.getoption("corpus") or "none given: messages are generated"
    return [f"postoffice: {Path(postoffice.__file__).parent}", f"corpus: {corpus}"]


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory):
    """Tests work in an empty folder: in the checkout, too, there may be a configuration."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session", autouse=True)
def forked():
    """What forks processes for the tests is waited for: its time is part of the tests' time."""
    yield
    processes.close()


@pytest.fixture(autouse=True)
def within_rules(request):
    """A test of the rules opens no socket, writes no file and starts no process."""
    global _in_rules
    _in_rules = request.node.get_closest_marker("rules") is not None
    yield
    _in_rules = False


@pytest.fixture(autouse=True)
def stores_left_open(monkeypatch):
    """What a test leaves open of a journal is closed, as a kill does: thousands of tests follow."""
    left: list[Journal] = []
    begin = Journal.open

    def opened(journal, *words, **named):
        left[:] = [one for one in left if one._files.joined]
        left.append(journal)
        return begin(journal, *words, **named)

    monkeypatch.setattr(Journal, "open", opened)
    yield
    for journal in left:
        if journal._files.joined:
            journal._files.leave()


@pytest.fixture(autouse=True)
def failures():
    """What was logged as a failure; a test that means it takes it out."""
    seen = []

    def watch(event):
        if event.get("log_failure") is not None:
            seen.append(event["log_failure"])

    globalLogPublisher.addObserver(watch)
    yield seen
    if seen or gc.isenabled():
        gc.collect(0)
    globalLogPublisher.removeObserver(watch)
    assert not seen, "a failure was logged: " + "\n".join(
        failure.getTraceback() for failure in seen
    )


@pytest.fixture
def logged():
    """What was logged, in words."""
    lines = []

    def watch(event):
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(watch)
    yield lines
    globalLogPublisher.removeObserver(watch)


@pytest.fixture
def in_a_thread():
    """Runs a blocking client while the reactor turns here; what it returns, or raises."""

    def in_a_thread(client, *args):
        outcome = []

        def run():
            try:
                outcome.append((client(*args), None))
            except BaseException as error:
                outcome.append((None, error))
            reactor.callFromThread(lambda: None)

        thread = Thread(target=run)
        thread.start()
        while not outcome:
            reactor.iterate(0.05)
        thread.join()
        [(result, error)] = outcome
        if error is not None:
            raise error
        return result

    return in_a_thread


def turn_until(condition) -> None:
    """Turn the reactor until this is so."""
    late = reactor.callLater(60, lambda: None)
    while not condition():
        assert late.active(), "it does not come to that"
        reactor.iterate(0.05)
    late.cancel()


class Transport(StringTransport):
    """A transport that knows what a conversation asks of TCP."""

    aborted = False

    def setTcpNoDelay(self, on):
        pass

    def setTcpKeepAlive(self, on):
        pass

    def loseWriteConnection(self):
        self.disconnecting = True

    def abortConnection(self):
        self.aborted = True

    def write(self, data):
        super().write(data)
        if self.producer is not None and len(self.value()) > 65536:
            self.producer.pauseProducing()


class MemoryClient:
    """A client of one conversation, on a transport in memory."""

    def __init__(self, factory, address="127.0.0.1"):
        self.transport = Transport(peerAddress=IPv4Address("TCP", address, 4000))
        self.connection = factory.buildProtocol(self.transport.getPeer())
        self.connection.makeConnection(self.transport)

    def say(self, octets: bytes) -> bytes:
        """What is heard when this is said."""
        self.connection.dataReceived(octets)
        return self.hear()

    def hear(self) -> bytes:
        """What came since the last time."""
        heard = self.transport.value()
        self.transport.clear()
        return heard

    def leave(self) -> None:
        """The link is lost."""
        self.connection.connectionLost(None)


class MemoryOffice:
    """
    Both counters over one directory and one store, all in memory; time is a Clock.

    Another store, and neighbours, may be given.
    """

    def __init__(self, secrets, store=None, neighbours=None):
        self.directory, self.clock = MemoryDirectory(), Clock()
        self.store = store or MemoryStore()
        for domain in ("example.net", "example.com"):
            finish(self.directory.add_domain(domain))
        for name, password in (("joe", b"secret word"), ("ann", b"other"), ("postmaster", None)):
            finish(self.directory.add(f"{name}@example.net", secrets.get(password)))
        self.reception_context = Receptions(
            self.directory,
            self.store,
            hostname="mail.example.net",
            postmaster=Address("postmaster", "example.net"),
            now=lambda: datetime(2026, 11, 23, 12, tzinfo=UTC),
        )
        checker = Checker([self.directory], ImmediateExecutor(), clock=self.clock.seconds)
        self.mailbox_context = MailboxContext(self.store, leases=Leases(self.clock, neighbours))
        portal = Portal(Realm(self.mailbox_context, self.reception_context), [checker])
        limits = SMTPLimits()
        self.smtp = SMTPFactory(
            portal, hostname="mail.example.net", limits=limits, clock=self.clock
        )
        self.pop3 = POP3Factory(portal, clock=self.clock)

    def serve(self, **serving) -> None:
        """Mail is served on these terms (``MailPolicy``) from now on."""
        mailbox_context = replace(
            self.mailbox_context, mail_policy=replace(DEFAULT_POLICY, **serving)
        )
        self.pop3.portal.realm = Realm(mailbox_context, self.reception_context)

    def client(self, service: str, address="127.0.0.1") -> MemoryClient:
        """A new client of ``smtp`` or ``pop3``."""
        return MemoryClient(getattr(self, service), address)

    def post(self, text: bytes, name="joe@example.net") -> None:
        """A message from a@example.org, as if it had come over SMTP."""
        recipient = Recipient(Address.parse(name), Account(name, name))
        session_info = SessionInfo("x", "smtp", Client("192.0.2.1"), "pc")
        envelope = Envelope("x.1", Client("192.0.2.1"), "pc", "ESMTP")
        envelope.sender = Address("a", "example.org")
        envelope.recipients = [recipient]
        delivery = finish(self.reception_context.reception(session_info).begin(envelope))
        finish(delivery.write(text))
        finish(delivery.commit())


@pytest.fixture(scope="session")
def secrets():
    return {word: hash_password(word) for word in (b"secret word", b"other")}


@pytest.fixture
def loop():
    """A reactor of this test's own."""
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def nameserver():
    """A DNS server on loopback, whose answers the test writes."""
    server = NameServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgresql():
    """A real PostgreSQL that runs; what it holds is left over from others."""
    pytest.importorskip("psycopg")
    server = PostgreSQL()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def slapd():
    """A real LDAP server that runs; its entries are left over from others."""
    pytest.importorskip("ldap")
    server = LDAP()
    yield server
    server.remove()


@pytest.fixture
def memory_office(secrets):
    return MemoryOffice(secrets)
