"""A checker that slows down wrong passwords."""

from __future__ import annotations

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred

from postoffice.accounts.attempts import Allowance, Attempts
from postoffice.accounts.checker import Checker
from postoffice.accounts.credentials import PlainLogin
from postoffice.accounts.login_db import LoginDB
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.throttle import Throttle
from postoffice.model.address import Account
from postoffice.model.envelope import Client
from postoffice.testing import ImmediateExecutor, finish

JOE, ANN, EVE = (f"{name}@example.net" for name in ("joe", "ann", "eve"))
RIGHT = b"secret"
HERE, THERE, AFAR = "192.0.2.1", "198.51.100.7", "2001:db8::1"


class Office:
    """A checker whose wrong passwords are slowed: four a minute from a network, ten at an account.

    Half of them at once.  ``try_`` begins a login: a list with its outcome, as soon as that is
    there.
    """

    def __init__(self, path, clock, executor=None, hashing=None):
        self.clock, self.executor = clock, executor or ImmediateExecutor()
        self.login_db = LoginDB(path)
        self.login_db.open()
        self.attempts = Attempts(self.login_db, Allowance(10, 60), Allowance(4, 60))
        self.throttle = Throttle(
            self.attempts, self.executor, clock, Allowance(4, 60), lambda: 1.8e9 + clock.seconds()
        )
        self.directory = MemoryDirectory()
        finish(self.directory.add_domain("example.net"))
        finish(self.directory.add(JOE, "secret:", "keys that are there already"))
        finish(self.directory.add(ANN, "hers:", "keys"))
        self.checker = Checker(
            [self.directory],
            hashing or ImmediateExecutor(),
            clock=clock.seconds,
            throttle=self.throttle,
        )

    def try_(self, user=JOE, password=b"wrong", address=HERE, service="pop3"):
        return self.show(PlainLogin(user.encode(), password, Client(address), service))

    def show(self, credentials):
        outcome = []
        self.last = Deferred.fromCoroutine(self.checker.requestAvatarId(credentials))
        self.last.addErrback(lambda failure: failure.value)
        self.last.addCallback(outcome.append)
        return outcome

    def guess(self, count, user=JOE, address=HERE):
        """Wrong passwords, each another one; how many were answered at once."""
        outcomes = [self.try_(user, b"wrong %d" % n, address) for n in range(count)]
        return sum(map(wrong, outcomes))


def right(outcome):
    return [type(one) for one in outcome] == [Account]


def wrong(outcome):
    return [type(one) for one in outcome] == [UnauthorizedLogin]


def pass_by(clock, seconds):
    clock.pump([0.5] * int(seconds * 2))
