"""Limits failed logins by client and by account, without delaying successful ones."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.accounts.attempts import ACCOUNT, NETWORK, Allowance, AttemptResult, Attempts
from postoffice.interfaces import Executor
from postoffice.model import log_events
from postoffice.model.errors import TemporaryFailure, TooManyTries
from postoffice.model.log_event import tell
from postoffice.util.cache import Cache
from postoffice.util.periodic import Periodic
from postoffice.util.serial_executor import SerialExecutor
from postoffice.util.token_bucket import TokenBucket

T = TypeVar("T")

log = Logger("postoffice")

#: Seconds that a client waits at most; mail programs wait longer for an answer.
PATIENCE = 5.0
#: Seconds until we look again whether a used-up allowance was cleared, for example by the command.
LOOK_AGAIN = 2.0
#: Seconds that a known network stays in memory, and how many networks at most.
REMEMBERED = 3600.0
MOST_KNOWN = 20_000
#: Wrong passwords that stay in memory, as digests.
MOST_WRONG = 20_000
#: Accounts and networks whose allowance is known to be used up.
MOST_USED_UP = 10_000
#: Octets of a name that are stored at most; the account may not exist.
NAME = 254
#: Seconds between two sweeps of the database.
SWEEPING = 3600.0

#: An account and a network; or a kind (ACCOUNT, NETWORK) and a name.
Pair = tuple[str, str]


class Throttle:
    """
    Allows so many login attempts in a time; further ones wait, and then get a temporary error.

    A network from which the owner of the account has lately logged in has an allowance of
    its own, which nobody else can use up.  All other clients share the allowances of
    their network and of the account. A password that was wrong before, at the same
    account and from the same network, is not counted.

    ``clock`` (IReactorTime) provides timers; ``now`` returns the time of day, for times
    that survive a restart.  Waiting holds no thread.
    """

    log = Logger()

    def __init__(
        self,
        attempts: Attempts,
        executor: Executor,
        clock: IReactorTime,
        own: Allowance,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._attempts = attempts
        self._executor = SerialExecutor(executor)
        self._clock = clock
        self._now = now
        self.allow(own)
        #: Known pairs, and whether the database has the login already.
        self._known: Cache[Pair, bool] = Cache(MOST_KNOWN, clock.seconds)
        self._wrong: Cache[bytes, bool] = Cache(MOST_WRONG)
        self._key = secrets.token_bytes(32)
        self._used_up: Cache[Pair, float] = Cache(MOST_USED_UP)  # until when
        self._waiting: dict[Pair, dict[Deferred[None], None]] = {}
        self._complained = False
        self._sweeping = Periodic(clock, SWEEPING, self._sweep, self._recording_failed)

    def allow(self, own: Allowance) -> None:
        """Use another allowance of known pairs from now on; none of it is used up yet."""
        self._own = TokenBucket(own.burst, own.burst / own.rate, self._clock.seconds)

    def start(self) -> None:
        """Begin to sweep the database; it is open."""
        self._sweeping.start()

    async def stop(self) -> None:
        """Finish writing; no logins come after this."""
        await self._sweeping.stop()
        await self._executor.idle()

    # -- known wrong passwords ------------------------------------------------------------------

    def digest(self, *parts: bytes) -> bytes:
        """Return a digest of an attempt; it has a key that only this process knows."""
        digest = blake2b(key=self._key, digest_size=16)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    def was_wrong(self, digest: bytes) -> bool:
        """Whether this attempt was wrong before."""
        return digest in self._wrong

    # -- an attempt -------------------------------------------------------------------------

    async def judged(
        self,
        account: str,
        network: str,
        digest: bytes | None,
        judge: Callable[[bool], Awaitable[T | None]],
    ) -> T | None:
        """
        Return what ``judge`` returns: the account, or None if the credentials are wrong.

        ``judge`` is called with whether the network is known for this account.  ``digest`` is
        remembered if the credentials are wrong.  Raises TooManyTries if they were not checked,
        and what ``judge`` raises.
        """
        pair = account.encode("utf-8", "replace")[:NAME].decode("utf-8", "replace"), network
        own = await self._admitted(pair)
        try:
            found = await judge(own and pair in self._known)
        except CancelledError:  # the client left without waiting; the attempt counts
            self._settle(pair, own=own, right=False)
            raise
        except Exception:  # unknown whether it was right
            self._settle(pair, own=own, right=None)
            raise
        if found is None and digest is not None:
            self._wrong.set(digest, True)
        self._settle(pair, own=own, right=found is not None)
        return found

    async def _admitted(self, pair: Pair) -> bool:
        """Wait for an allowance; return whether it was the pair's own.  Raises TooManyTries."""
        until = self._clock.seconds() + PATIENCE
        while True:
            own, wait = await self._take(pair)
            if not wait:
                return own
            left = until - self._clock.seconds()
            if left <= 0:
                account, network = pair
                client = network or "local"
                tell(log, log_events.LOGIN_SLOWED, client=client, user=account)
                raise TooManyTries
            await self._wait(pair, min(wait, left, LOOK_AGAIN))

    async def _take(self, pair: Pair) -> tuple[bool, float]:
        """Return whether the pair has its own allowance, and the seconds until an attempt."""
        if pair not in self._known:
            until = max(self._used_up.get(key) or 0.0 for key in _keys(pair))
            if until > self._clock.seconds():
                return False, until - self._clock.seconds()
            try:
                taken = await self._executor.run(self._attempts.take, *pair, self._now())
            except TemporaryFailure as failure:
                self._complain(failure)  # use the pair's own allowance, in memory
                taken = AttemptResult(known=True)
            else:
                self._complained = False
                if taken.known:
                    self._known.set(pair, False, REMEMBERED)
            if not taken.known:
                return False, self._remember_used_up(pair, taken)
        return True, 0.0 if self._own.spend(pair) else self._own.wait(pair)

    def _remember_used_up(self, pair: Pair, taken: AttemptResult) -> float:
        """Remember used-up allowances for a while; return the seconds to wait at least."""
        waits = taken.account_wait, taken.network_wait
        for key, wait in zip(_keys(pair), waits, strict=True):
            if wait:
                until = self._clock.seconds() + min(wait, LOOK_AGAIN)
                self._used_up.set(key, until)
        return max(waits)

    def _settle(self, pair: Pair, *, own: bool, right: bool | None) -> None:
        """Record the result in the background; ``right`` is None if it is unknown."""
        now = self._now()
        if own and right is not False:
            self._own.give_back(pair)
        if right is False:
            self._record(self._attempts.wrong, *pair, now)
        elif not own:
            given = self._record(self._attempts.give_back, *pair, now, bool(right))
            given.addCallback(lambda _: self._wake(pair))
        if right:
            if self._known.get(pair):
                return
            if own:
                self._record(self._attempts.remember_network, *pair, now)
            self._known.set(pair, True, REMEMBERED)

    # -- waiting -----------------------------------------------------------------------

    async def _wait(self, pair: Pair, seconds: float) -> None:
        """Wait until an attempt was given back, at most so many seconds."""
        waiting: Deferred[None] = Deferred()
        timer = self._clock.callLater(seconds, waiting.callback, None)
        for key in _keys(pair):
            self._waiting.setdefault(key, {})[waiting] = None
        try:
            await waiting
        finally:
            if timer.active():
                timer.cancel()
            for key in _keys(pair):
                self._waiting[key].pop(waiting)
                if not self._waiting[key]:
                    del self._waiting[key]

    def _wake(self, pair: Pair) -> None:
        """Let the login that has waited longest use the attempt that was given back."""
        for key in _keys(pair):
            self._used_up.pop(key)
            if key in self._waiting:
                next(iter(self._waiting[key])).callback(None)

    # -- the database ------------------------------------------------------------------

    def _record(self, function: Callable[..., None], *args: object) -> Deferred[None]:
        recorded = Deferred.fromCoroutine(self._executor.run(function, *args))
        return recorded.addErrback(self._recording_failed)

    def _recording_failed(self, why: Failure) -> None:
        if isinstance(why.value, TemporaryFailure):
            self._complain(why.value)
        else:
            self.log.failure("recording a login attempt failed", failure=why)

    def _complain(self, why: TemporaryFailure) -> None:
        """Log the failure once, until recording works again."""
        if not self._complained:
            self._complained = True
            self.log.warn("counting wrong passwords failed: {why}", why=str(why))

    async def _sweep(self) -> bool:
        return await self._executor.run(self._attempts.sweep, self._now())


def _keys(pair: Pair) -> tuple[Pair, Pair]:
    """Return the keys under which a pair is counted."""
    return (ACCOUNT, pair[0]), (NETWORK, pair[1])
