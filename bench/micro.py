"""
What the main process itself costs for one message: sessions in memory, no kernel and no store.

    python bench/micro.py [--rounds 7] [--messages 5000] [--profile LAYER] [LAYER...]

Each message comes in four pieces (MAIL, RCPT, DATA, text), as from a client that does not
pipeline.  CPU time only: the least of all rounds is the figure to compare, as other work on the
machine makes everything dearer.  Layers:

rules    the session alone: command lines, grammar, replies and the text
metrics  as memory, and counting for Prometheus
memory   rules, connection, reception, policies, trace fields and log, over accounts in memory
sqlite   the same over accounts in SQLite, as in the daemon
"""

from __future__ import annotations

import argparse
import cProfile
import io
import pstats
import tempfile
import time

from collections.abc import Callable
from pathlib import Path
from statistics import median

from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.logger import globalLogBeginner, globalLogPublisher, textFileLogObserver

from postoffice.accounts.checker import Checker
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.realm import Realm
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.daemon.log_output import LogOutput
from postoffice.daemon.build import _now
from postoffice.metrics.event_counts import EventCounts
from postoffice.model import reply
from postoffice.model.address import Address, Quota
from postoffice.model.reply import Reply
from postoffice.server.factory import ServiceFigures
from postoffice.server.mailbox import MailboxContext
from postoffice.server.submission import Receptions
from postoffice.server.smtp_factory import SMTPFactory
from postoffice.smtp.options import SMTPOptions, SMTPLimits
from postoffice.smtp.session import SMTPSession
from postoffice.store.memory import MemoryStore
from postoffice.testing import ImmediateExecutor, finish
from postoffice.util.process_tuning import collect_garbage_seldom

LINE = b"x" * 76 + b"\r\n"
TEXT = (
    b"From: Ann <ann@example.org>\r\nTo: joe@example.net\r\nSubject: what it costs\r\n"
    b"Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1.2.3@example.org>\r\n\r\n"
    + LINE * 50
    + b".\r\n"
)
#: Accounts that get the mail; every message has a sender of its own.
USERS = 200


class Delivery:
    """Keeps nothing: the store's part is measured elsewhere."""

    uidl = "1795432100.M1P1.mail.example.net"

    async def write(self, data: bytes) -> None:
        pass

    async def commit(self) -> None:
        pass

    def abort(self) -> None:
        pass


class Destination:
    async def begin(self, envelope: object) -> Delivery:
        return Delivery()

    async def admit(self, account: object, size: int) -> None:
        pass


class Transport:
    """As much of a transport as a connection asks for; it takes all output at once."""

    connected, disconnecting = True, False
    offset, dataBuffer, _tempDataBuffer = 0, b"", ()

    def __init__(self) -> None:
        self.out: list[bytes] = []

    def writeSomeData(self, data: bytes) -> int:
        self.out.append(data)
        return len(data)

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 4000)

    def setTcpNoDelay(self, on: bool) -> None: ...
    def setTcpKeepAlive(self, on: bool) -> None: ...
    def registerProducer(self, producer: object, streaming: bool) -> None: ...


def rules() -> Callable[[bytes], bytes]:
    session = SMTPSession(SMTPOptions("mail.example.net"), SMTPLimits())
    answers = {
        "Mail": reply.SENDER_OK,
        "Recipient": reply.RECIPIENT_OK,
        "End": Reply(250, "2.0.0", "Taken"),
    }

    def say(octets: bytes) -> bytes:
        session.receive(octets)
        while (question := session.next_question()) is not None:
            session.answer(answers.get(type(question).__name__))
        return session.take_output()

    return say


def office(directory: object, figures: ServiceFigures | None = None) -> Callable[[bytes], bytes]:
    finish(directory.start())
    finish(directory.add_domain("example.net"))
    for name in ("postmaster", *(f"user{number}" for number in range(USERS))):
        finish(directory.add(f"{name}@example.net", None))
    time.sleep(0.05)  # a database that has just changed is not remembered
    destination, clock = Destination(), Clock()
    clock.seconds = time.monotonic
    context = Receptions(
        directory,
        destination,
        hostname="mail.example.net",
        postmaster=Address("postmaster", "example.net"),
        now=_now,
        quota=Quota(1 << 30, 0, "reject"),
    )
    checker = Checker([directory], ImmediateExecutor(), clock=clock.seconds)
    portal = Portal(Realm(MailboxContext(MemoryStore()), context), [checker])
    factory = SMTPFactory(portal, hostname="mail.example.net", limits=SMTPLimits(), clock=clock)
    factory.figures = figures
    transport = Transport()
    connection = factory.buildProtocol(transport.getPeer())
    connection.makeConnection(transport)

    def say(octets: bytes) -> bytes:
        connection.dataReceived(octets)
        if len(clock.calls) > 1:  # besides the timeout
            clock.advance(0)
        heard = b"".join(transport.out)
        transport.out.clear()
        return heard

    return say


def memory() -> Callable[[bytes], bytes]:
    return office(MemoryDirectory())


def metrics() -> Callable[[bytes], bytes]:
    return office(MemoryDirectory(), ServiceFigures())


def sqlite() -> Callable[[bytes], bytes]:
    folder = Path(tempfile.mkdtemp(prefix="micro-"))
    return office(SQLiteDirectory(str(folder / "accounts.db"), ImmediateExecutor()))


LAYERS = {"rules": rules, "memory": memory, "metrics": metrics, "sqlite": sqlite}


def post(say: Callable[[bytes], bytes], messages: int) -> None:
    for number in range(messages):
        say(b"MAIL FROM:<ann%d@example.org> SIZE=4096\r\n" % number)
        say(b"RCPT TO:<user%d@example.net>\r\n" % (number % USERS))
        say(b"DATA\r\n")
        heard = say(TEXT)
        assert heard.startswith(b"250 "), heard


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layers", nargs="*", metavar="LAYER", default=list(LAYERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    written = io.StringIO()
    globalLogBeginner.beginLoggingTo([textFileLogObserver(written)], redirectStandardIO=False)
    LogOutput().take_over(globalLogPublisher)
    says, counts = {}, EventCounts()
    for name in options.layers:
        says[name] = LAYERS[name]()
        says[name](b"EHLO pc.example.org\r\n")
        post(says[name], 200)
    collect_garbage_seldom()
    took: dict[str, list[float]] = {name: [] for name in says}
    for _ in range(options.rounds):
        for name, say in says.items():
            if name == "metrics":
                globalLogPublisher.addObserver(counts)
            began = time.process_time()
            post(say, options.messages)
            took[name].append(1e6 * (time.process_time() - began) / options.messages)
            if name == "metrics":
                globalLogPublisher.removeObserver(counts)
            written.seek(0)
            written.truncate()
    for name, figures in took.items():
        print(f"{name:8} {min(figures):6.1f} us at least, median {median(figures):6.1f}")
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(post, says[options.layers[-1]], options.messages)
        pstats.Stats(profile).sort_stats("tottime").print_stats(60)


if __name__ == "__main__":
    main()
