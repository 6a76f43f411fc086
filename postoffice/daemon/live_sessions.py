"""The sessions of the daemon: list them, and end those of one account."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from twisted.internet.interfaces import IReactorTime

from postoffice.daemon.control_socket import Answers
from postoffice.daemon.listeners import Server
from postoffice.server.connection_setup import OpenConnection

#: Seconds that a session has to finish its command before it is cut off.
PATIENCE = 5.0


class Sessions:
    """Answers the commands ``sessions`` and ``end``."""

    def __init__(self, factories: Callable[[], Iterable[Server]], clock: IReactorTime) -> None:
        self._factories = factories
        self._clock = clock

    @property
    def commands(self) -> dict[str, Answers]:
        """The commands, for the control socket."""
        return {"sessions": self.listed, "end": self.end}

    def listed(self, question: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
        """Yield all sessions; sessions that end meanwhile may be missing."""
        for connection in self._all():
            yield connection.described()

    def end(self, question: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
        """End the sessions of ``account``; yield each of them."""
        for connection in self._all():
            described = connection.described()
            if described["account"] and described["account"] == question.get("account"):
                connection.leave()
                self._clock.callLater(PATIENCE, connection.abort)
                yield described

    def _all(self) -> list[OpenConnection]:
        return [one for factory in self._factories() for one in factory.connections]
