"""A reactor of a test's own, which turns until something has happened."""

from __future__ import annotations

from time import monotonic

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor

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

    def close(self):
        """Close all that is open."""
        self.reactor.iterate(0)
        for reader in self.reactor.removeAll():
            reader.connectionLost(None)
        self.reactor.iterate(0)  # sockets are closed in the next turn
        for reader in self.reactor._internalReaders:
            reader.connectionLost(None)
