"""A login through the portal with a database and hashing on real threads, each its own."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from postoffice.accounts import passwords
from postoffice.accounts.checker import Checker
from postoffice.accounts.credentials import PlainLogin
from postoffice.accounts.passwords import hash_password
from postoffice.accounts.realm import Realm
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.daemon.thread_executor import ThreadExecutor
from postoffice.interfaces import IMaildrop
from postoffice.model.envelope import Client
from postoffice.server.mailbox import MailboxContext
from postoffice.store.memory import MemoryStore

JOE = "joe@example.net"


class Office:
    """Directory, checker, realm and portal; the test's thread is the reactor's."""

    def __init__(self, path):
        self.calls = SimpleQueue()
        self.disk = ThreadExecutor(self, 2, "disk")
        self.hashing = ThreadExecutor(self, 2, "hashing")
        self.directory = SQLiteDirectory(path, self.disk)
        self.found = []  # the accounts that the checker was told of
        self.checker = Checker([self], self.hashing, clock=Clock().seconds)
        self.portal = Portal(Realm(MailboxContext(MemoryStore()), object()), [self.checker])

    async def find(self, name):
        """What the checker asks: the directory's own answer, noted."""
        account = await self.directory.find(name)
        self.found.append(account)
        return account

    def callFromThread(self, function):
        self.calls.put(function)

    def turn_until(self, *waiting):
        while not all(one.called for one in waiting):
            self.calls.get(timeout=30)()

    def done(self, coroutine):
        """What comes of it; an exception is raised."""
        waiting, outcome = Deferred.fromCoroutine(coroutine), []
        self.turn_until(waiting)
        waiting.addBoth(outcome.append)
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    async def enter(self, password, user=JOE):
        """Log in and out; who it was."""
        credentials = PlainLogin(user.encode(), password, Client("192.0.2.1"), "pop3")
        _, maildrop, logout = await self.portal.login(credentials, None, IMaildrop)
        await maildrop.open()
        logout()
        return maildrop

    def trying(self, password, user=JOE):
        """A login that is under way; what it ends in is told instead of raised."""
        waiting = Deferred.fromCoroutine(self.enter(password, user))
        return waiting.addCallbacks(lambda _: "in", lambda failure: failure.type)


@pytest.fixture
def office(tmp_path):
    office = Office(str(tmp_path / "accounts.db"))
    office.disk.start()
    office.hashing.start()
    office.done(office.directory.start())
    office.done(office.directory.add_domain("example.net"))
    office.done(office.directory.add(JOE, hash_password(b"secret word")))
    yield office
    office.done(office.checker.stop())
    office.done(office.directory.stop())
    office.done(office.disk.stop())
    office.done(office.hashing.stop())


class Runs(list):
    """The threads that ran the hash, one name a run; none goes on before ``go`` is set."""

    def __init__(self, office):
        super().__init__()
        self.office = office
        self.go = threading.Event()

    def wait_for(self, number):
        """Turn the reactor until so many have begun."""
        while len(self) < number:
            self.office.calls.get(timeout=30)()

    def verify(self, secret, password, real=passwords.verify):
        self.append(threading.current_thread().name)
        self.office.callFromThread(lambda: None)  # wakes whoever waits for it
        assert self.go.wait(30)
        return real(secret, password)


@pytest.fixture
def runs(office, monkeypatch):
    runs = Runs(office)
    monkeypatch.setattr(passwords, "verify", runs.verify)
    yield runs
    runs.go.set()


def test_an_owner_comes_in_and_nobody_else(office):
    assert office.done(office.enter(b"secret word"))
    assert office.done(office.enter(b"secret word"))
    for user, password in ((JOE, b"wrong"), ("eve@example.net", b"secret word"), ("eve", b"")):
        with pytest.raises(UnauthorizedLogin):
            office.done(office.enter(password, user))


def test_passwords_are_hashed_on_threads_of_their_own_and_the_disk_stays_free(office, runs):
    waiting = [office.trying(word) for word in (b"secret word", b"wrong", b"wrong, too")]
    runs.wait_for(2)  # both hashing threads are busy, a third password waits
    assert office.done(office.directory.find("ann@example.net")) is None
    assert office.done(office.directory.add("ann@example.net", None))
    assert not any(one.called for one in waiting)
    runs.go.set()
    office.turn_until(*waiting)
    assert [one.result for one in waiting] == ["in", UnauthorizedLogin, UnauthorizedLogin]
    assert {name.split()[0] for name in runs} == {"hashing"}


def test_equal_logins_share_one_run_and_a_cancelled_one_harms_none(office, runs):
    waiting = [office.trying(b"secret word") for _ in range(20)]
    runs.wait_for(1)
    while len(office.found) < 20:  # one alone who goes would end a run that nobody waits for
        office.calls.get(timeout=30)()
    waiting[0].cancel()
    runs.go.set()
    office.turn_until(*waiting)
    assert [one.result for one in waiting] == [CancelledError] + ["in"] * 19
    assert len(runs) == 1


def test_a_password_that_changes_while_the_old_one_is_verified_counts_for_the_next(office, runs):
    first = office.trying(b"secret word")
    runs.wait_for(1)
    assert office.done(office.directory.set_secret(JOE, hash_password(b"new word")))
    runs.go.set()
    office.turn_until(first)
    late, new = office.trying(b"secret word"), office.trying(b"new word")
    office.turn_until(late, new)
    assert (first.result, late.result, new.result) == ("in", UnauthorizedLogin, "in")
