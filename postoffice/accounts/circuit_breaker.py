"""
For directories on another server, which may be down or slow.

While the server is down, clients get a temporary error, never *unknown user*.  Nobody waits for a
server that has just failed, and mail for addresses that were found lately goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from postoffice.interfaces import Executor
from postoffice.model.alias import Found
from postoffice.model.config_values import DURATION, Key
from postoffice.model.errors import TemporaryFailure
from postoffice.util.cache import Cache
from postoffice.util.shield import start_work

T = TypeVar("T")
Args = TypeVarTuple("Args")

#: Seconds without a question after the first failure; they double with each further one.
PAUSE, LONGEST_PAUSE = 1.0, 30.0
#: Answers to keep for the time when the server is down.
REMEMBERED = 20_000
#: The keys of every such directory.
KEYS = (
    Key("timeout", DURATION, 5, "Seconds that the server has to answer."),
    Key(
        "stale",
        DURATION,
        "1 h",
        "While the server is down, accounts and aliases that it has returned before are still "
        "served for this time; 0: never.",
    ),
)


class Unavailable(TemporaryFailure):
    """The server cannot be reached, does not answer in time, or refuses us."""


class Breaker:
    """
    An executor for calls to one server; it fails at once while the server is down.

    After a call that raises Unavailable, or takes longer than ``timeout`` seconds, calls
    fail without being made for a pause.  Then one call is made, to see whether the server
    is back.  ``server`` is its name in the log; ``cut`` is called when a call takes too
    long, to end what its thread waits for.
    """

    log = Logger()

    def __init__(
        self,
        executor: Executor,
        clock: IReactorTime,
        server: str,
        timeout: float,
        cut: Callable[[], object] = lambda: None,
    ) -> None:
        self._executor = executor
        self._clock = clock
        self._server = server
        self._timeout = timeout
        self._cut = cut
        self._failures = 0
        self._until = 0.0
        self._trying = False
        self._why = ""

    async def run(self, function: Callable[[*Args], T], *args: *Args) -> T:
        """Call ``function(*args)`` on a thread.  Raises Unavailable, and its exceptions."""
        if self._failures and (self._trying or self._clock.seconds() < self._until):
            raise Unavailable(f"{self._why}; {self._server} is not asked again yet")
        trying = self._trying = self._failures > 0
        try:
            result = await self._call(function, *args)
        except Unavailable as error:
            self._fail(str(error))
            raise
        except CancelledError:
            raise
        except Exception:
            self._succeed()  # the server has answered
            raise
        finally:
            if trying:
                self._trying = False
        self._succeed()
        return result

    async def _call(self, function: Callable[[*Args], T], *args: *Args) -> T:
        work = start_work(self._executor.run(function, *args))
        work.addTimeout(self._timeout, self._clock)
        try:
            result: T = await work
            return result
        except TimedOut as error:
            self._cut()
            why = f"{self._server} failed: no answer within {self._timeout:g} s: timed out"
            raise Unavailable(why) from error

    def _fail(self, why: str) -> None:
        if self._clock.seconds() < self._until:
            return  # this call began before the pause
        if not self._failures:
            self.log.warn("{why}; retrying", why=why)
        self._why = why
        self._until = self._clock.seconds() + min(PAUSE * 2**self._failures, LONGEST_PAUSE)
        self._failures = min(self._failures + 1, 10)

    def _succeed(self) -> None:
        if self._failures:
            self.log.info("{server} answers again", server=self._server)
        self._failures = 0


class StaleAnswers:
    """Positive answers, which are served while the server is down; each for ``seconds``."""

    def __init__(self, seconds: float, clock: IReactorTime) -> None:
        self._seconds = seconds
        self._known: Cache[str, Found] = Cache(REMEMBERED, clock.seconds)

    async def ask(self, name: str, ask: Callable[[], Awaitable[Found]]) -> Found:
        """Return an answer; if the server is down, its last positive answer."""
        try:
            found = await ask()
        except Unavailable:
            known = self._known.get(name)
            if known is None:
                raise
            return known
        if found.entry is not None or (name.startswith("@") and found.domain is not None):
            if self._seconds:
                self._known.set(name, found, self._seconds)
        else:
            self._known.pop(name)
        return found
