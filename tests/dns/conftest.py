"""A reactor of the test's own, a clock that it moves, and a name server that it scripts."""

from __future__ import annotations

from time import monotonic

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock

from tests.nameserver import NameServer

#: Seconds after which a test that waits is stuck.
HANGS = 60


class Loop:
    """A reactor that turns until something has happened."""

    def __init__(self):
        self.reactor = EPollReactor()

    def until(self, condition):
        end = monotonic() + HANGS
        while not condition():
            assert monotonic() < end, "it hangs"
            self.reactor.iterate(0.01)

    def wait(self, coroutine):
        """The result of a coroutine, or what it raises."""
        outcome = self.start(coroutine)
        self.until(lambda: outcome)
        return self.result(outcome)

    def start(self, coroutine):
        """Start a coroutine; what it gives will stand in the list."""
        outcome = []
        Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
        return outcome

    def result(self, outcome):
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.reactor.iterate(0)
    for reader in made.reactor.removeAll():
        reader.connectionLost(None)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def nameserver():
    server = NameServer()
    yield server
    server.stop()
