"""
What the main process itself costs for POP3: sessions in memory, no sockets, a store on the disk.

    python bench/micro_pop3.py [--rounds 9] [--profile] [WHAT...]

A maildrop of 1000 messages of 4 KiB is collected.  CPU time only, the kernel's for the files
included: the least of all rounds is the figure to compare.

fetch      each RETR when the text before has come
pipelined  25 RETR at a time
login      USER, PASS, STAT and QUIT; the password was verified before
"""

from __future__ import annotations

import argparse
import cProfile
import io
import os
import pstats
import tempfile
import time

from collections.abc import Callable
from statistics import median

from twisted.cred.portal import Portal
from twisted.internet.task import Clock
from twisted.logger import globalLogBeginner, globalLogPublisher, textFileLogObserver

from micro import TEXT, Transport
from postoffice.accounts.checker import Checker
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.passwords import hash_password
from postoffice.accounts.realm import Realm
from postoffice.daemon.log_output import LogOutput
from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.server.leases import Leases
from postoffice.server.login_connection import LoginOptions
from postoffice.server.mailbox import MailboxContext
from postoffice.server.pop3 import POP3Factory
from postoffice.store.maildir_store import MaildirStore
from postoffice.testing import ImmediateExecutor, finish
from postoffice.util.process_tuning import collect_garbage_seldom

MESSAGES = 1000
LOGINS = 300
NAME = "joe@example.net"


class WholeTransport(Transport):
    """A transport that can also be closed."""

    def unregisterProducer(self) -> None: ...
    def resumeProducing(self) -> None: ...
    def loseWriteConnection(self) -> None: ...
    def loseConnection(self) -> None: ...


class Office:
    """A POP3 service, and the clients that it has in memory."""

    def __init__(self, folder: str) -> None:
        self.clock = Clock()
        self.clock.seconds = time.monotonic
        executor = ImmediateExecutor()
        store = MaildirStore(
            folder,
            executor,
            hostname="mail.example.net",
            clock=self.clock,
            durability="files",
        )
        finish(store.start())
        recipients = [Recipient(Address.parse(NAME), Account(NAME, NAME))]
        for _ in range(MESSAGES):
            delivery = finish(store.begin(Envelope("id.1", Client(), recipients=recipients)))
            finish(delivery.write(TEXT.removesuffix(b".\r\n")))
            finish(delivery.commit())
        directory = MemoryDirectory()
        finish(directory.start())
        finish(directory.add_domain("example.net"))
        finish(directory.add(NAME, hash_password(b"pw")))
        checker = Checker([directory], executor, clock=self.clock.seconds)
        context = MailboxContext(store, leases=Leases(self.clock))
        self.factory = POP3Factory(
            Portal(Realm(context, None), [checker]),
            clock=self.clock,
            login_options=LoginOptions(("PLAIN", "LOGIN"), "always"),
        )

    def login(self) -> Callable[[bytes], bytes]:
        transport = WholeTransport()
        connection = self.factory.buildProtocol(transport.getPeer())
        connection.makeConnection(transport)
        self.connection = connection

        def say(octets: bytes) -> bytes:
            connection.dataReceived(octets)
            while self.clock.calls and self.clock.calls[0].getTime() <= time.monotonic():
                self.clock.advance(0)
            heard = b"".join(transport.out)
            transport.out.clear()
            return heard

        say(b"USER %s\r\n" % NAME.encode())
        heard = say(b"PASS pw\r\n")
        assert heard.startswith(b"+OK"), heard
        return say

    def collect(self, window: int) -> float:
        """CPU seconds of a message."""
        say = self.login()
        numbers = range(1, MESSAGES + 1)
        groups = [numbers[at : at + window] for at in range(0, MESSAGES, window)]
        lines = [b"".join(b"RETR %d\r\n" % number for number in group) for group in groups]
        began = time.process_time()
        for line in lines:
            heard = say(line)
        took = time.process_time() - began
        assert heard.endswith(b"\r\n.\r\n"), heard[-50:]
        self.connection.connectionLost()
        return took / MESSAGES

    def log_in(self) -> float:
        """CPU seconds of a session without mail."""
        began = time.process_time()
        for _ in range(LOGINS):
            say = self.login()
            say(b"STAT\r\n")
            assert b"goodbye" in say(b"QUIT\r\n")
            self.connection.readConnectionLost()
            self.connection.connectionLost()
        return (time.process_time() - began) / LOGINS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", metavar="WHAT", default=["fetch", "pipelined", "login"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    written = io.StringIO()
    globalLogBeginner.beginLoggingTo([textFileLogObserver(written)], redirectStandardIO=False)
    LogOutput().take_over(globalLogPublisher)
    os.fsync = os.fdatasync = lambda fd: None  # only to fill the maildrop
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="micro-") as folder:
        office = Office(folder)
        loads = {
            "fetch": lambda: office.collect(1),
            "pipelined": lambda: office.collect(25),
            "login": office.log_in,
        }
        office.collect(1)
        time.sleep(2)  # a maildrop that has just changed is not remembered
        office.collect(1)
        collect_garbage_seldom()
        for name in options.what:
            figures = [1e6 * loads[name]() for _ in range(options.rounds)]
            print(f"{name:10} {min(figures):6.1f} us at least, median {median(figures):6.1f}")
        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(loads[options.what[-1]])
            pstats.Stats(profile).sort_stats("tottime").print_stats(60)


if __name__ == "__main__":
    main()
