"""A checker, and what proves to it who somebody is."""

from __future__ import annotations

from twisted.internet.task import Clock

from postoffice.accounts.checker import Checker
from postoffice.accounts.credentials import credentials_of
from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.passwords import hash_password
from postoffice.model.address import Account
from postoffice.model.envelope import Client
from postoffice.protocol.sasl import Challenge, exchange
from postoffice.protocol.scram import derive
from postoffice.testing import ImmediateExecutor, ScramClient, finish

RIGHT, OTHER, SHARED = b"secret word", b"other word", "tanstaaftanstaaf"
HASHES = {word: hash_password(word) for word in (RIGHT, OTHER)}
KEYS = {word: derive(word, b"salt of " + word, 5000) for word in (RIGHT, OTHER)}
JOE, ANN = "joe@example.net", "ann@example.net"


def directory_of(*accounts):
    directory = MemoryDirectory()
    for account in accounts:
        finish(directory.add_domain(account.address.rpartition("@")[2]))
        finish(directory.add(account.address, account.secret, account.scram))
        finish(directory.set_shared(account.address, account.shared))
    return directory


def account(name, word=None, keys=None, shared=None):
    return Account(name, name, HASHES.get(word), None if keys is None else str(keys), shared)


def everybody():
    """A directory with all kinds of accounts."""
    return directory_of(
        account(JOE, RIGHT, KEYS[RIGHT], SHARED),
        account(ANN, RIGHT),
        account("jörg@example.net", OTHER, KEYS[OTHER], "schön"),
        account("broken@example.net", RIGHT, "no keys"),
        account("empty@example.net", None, None, ""),
        account("postmaster@example.net"),
    )


def checker_of(*directories, executor=None, others=()):
    executor = ImmediateExecutor() if executor is None else executor
    return Checker(directories, executor, clock=Clock().seconds, others=others)


async def by_scram(checker, user, password, meanwhile=lambda: None):
    """A login as a client sees it: who it is, once the server has shown its signature."""
    running = exchange("SCRAM-SHA-256", hostname="mail.example.net", bindings={}, plus=False)
    client = ScramClient(user, password, b"nonce")
    next(running)
    challenge = running.send(await checker.salt(running.send(client.first).user))
    claim = running.send(client.final(challenge.octets))
    meanwhile()
    found = await checker.requestAvatarId(credentials_of(claim, Client(), "submission"))
    assert running.send(None) == Challenge(client.verdict)
    return found
