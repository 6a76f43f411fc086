"""Verifies passwords on threads; equal requests share one run, and right passwords are cached."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from hashlib import blake2b

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.accounts import password_schemes, passwords
from postoffice.accounts.fair_queue import Bounds, FairQueue, QueueFull
from postoffice.interfaces import Executor
from postoffice.model.errors import TemporaryFailure
from postoffice.util.cache import Cache

#: Seconds that a verified password is remembered.
LIFETIME = 300.0
#: Verified passwords that are remembered; the least recently used ones are dropped.
REMEMBERED = 10_000
#: Runs at once: one for each processor.
AT_ONCE = os.cpu_count() or 1
#: How many verifications may wait.  Those for strangers are some seconds of work; those for known
#: clients, which come first, take as long as mail programs wait for an answer.
STRANGERS = Bounds(total=200, per_network=16, per_prefix=32)
KNOWN = Bounds(total=2000, per_network=2000, per_prefix=2000)
#: While verifications for known clients wait, every so many runs one is for a stranger.
STRANGERS_TURN = 8
_REFUSED = "login refused: too many passwords wait to be verified"


#: Seconds between two complaints about the same stored hash, and how many hashes are remembered.
SILENCE = 3600.0
COMPLAINTS = 1000


class Verification:
    """One run of the hash, and the callers that wait for it; if none waits, the run is skipped."""

    def __init__(self, asked: bytes, secret: str | None, password: bytes, network: str) -> None:
        self.asked = asked
        self._secret = secret
        self._password = password
        self.network = network
        self.waiting: list[Deferred[bool]] = []

    def run(self) -> bool:
        """Verify, on a worker thread."""
        return bool(self.waiting) and passwords.verify(self._secret, self._password)


class VerificationQueue:
    """
    Which verification is next: those for known clients first, then those for strangers.

    Each kind has a queue of its own, so that strangers take no place from known clients.  While
    both wait, every STRANGERS_TURN-th run is for a stranger.
    """

    def __init__(self) -> None:
        self._known: FairQueue[Verification] = FairQueue(KNOWN)
        self._strangers: FairQueue[Verification] = FairQueue(STRANGERS)
        self._in_a_row = 0  # turns of the known while strangers wait

    def join(self, one: Verification, known: bool) -> Verification | None:
        """Add a verification; return the one that gives way to it, or None.  Raises QueueFull."""
        return (self._known if known else self._strangers).join(one, one.network)

    def leave(self, one: Verification) -> None:
        """Take a verification out, if it is there."""
        self._known.leave(one, one.network)
        self._strangers.leave(one, one.network)

    def next(self) -> Verification | None:
        """Remove and return the next verification; None if none waits."""
        if self._known and self._strangers:
            self._in_a_row = (self._in_a_row + 1) % STRANGERS_TURN
        first, second = self._known, self._strangers
        if not self._in_a_row:
            first, second = second, first
        return first.next() or second.next()


class PasswordVerifier:
    """
    Verifies passwords.

    ``hashing`` is an executor for this alone, of which ``at_once`` threads work at the
    same time.  Each run takes MEMORY for some hundredths of a second, and disk work must
    not wait for it.
    """

    log = Logger()

    def __init__(
        self, hashing: Executor, clock: Callable[[], float], at_once: int = AT_ONCE
    ) -> None:
        self._hashing = hashing
        #: Passwords that were right, by a digest that only this process can make.  It covers the
        #: stored hash: nothing need be forgotten when a password is changed.
        self._verified: Cache[bytes, bool] = Cache(REMEMBERED, clock)
        self._complaints: Cache[bytes, bool] = Cache(COMPLAINTS, clock)
        self._queue = VerificationQueue()
        self._idle = at_once
        self._under_way: dict[bytes, Verification] = {}
        self._key = secrets.token_bytes(32)

    async def matches(
        self,
        user: bytes,
        secret: str | None,
        password: bytes,
        *,
        network: str = "",
        known: bool = False,
    ) -> bool:
        """
        Whether ``secret`` is a hash of ``password``; if it is None, do the same work, return False.

        ``known``: somebody has lately logged in to this account from this ``network``.

        Equal requests for one user at the same time share one run.  Two users never share
        one, because two unknown users must not be faster together than two known ones.
        Raises TemporaryFailure if too many wait.
        """
        digest = self._digest(user, (secret or "").encode("utf-8", "surrogatepass"), password)
        if digest in self._verified:
            return True
        # A known client shares no run with strangers: that run would wait among the strangers.
        asked = digest + bytes([known])
        if await self._verification(asked, secret, password, network, known):
            self._verified.set(digest, True, LIFETIME)
            return True
        if secret is not None:
            self._complain(user, secret)
        return False

    def _complain(self, user: bytes, secret: str) -> None:
        """Log why no password can be right for an account, but not for each login."""
        digest = self._digest(user, secret.encode("utf-8", "surrogatepass"))
        if digest in self._complaints:
            return
        try:
            password_schemes.read(secret)
        except password_schemes.UnusableHash as why:
            self._complaints.set(digest, True, SILENCE)
            self.log.warn(
                "logins of {user} fail: the stored password hash cannot be used: {why}",
                user=user.decode("utf-8", "replace"),
                why=str(why),
            )

    def _digest(self, *parts: bytes) -> bytes:
        digest = blake2b(key=self._key, digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    def _verification(
        self, asked: bytes, secret: str | None, password: bytes, network: str, known: bool
    ) -> Deferred[bool]:
        """Wait for the run that is under way, or queue a new one."""

        def leave(deferred: Deferred[bool]) -> None:
            if deferred in verification.waiting:
                verification.waiting.remove(deferred)
            if not verification.waiting:
                self._forget(verification)
                self._queue.leave(verification)

        waiting: Deferred[bool] = Deferred(leave)
        if asked in self._under_way:
            verification = self._under_way[asked]
            verification.waiting.append(waiting)
            return waiting
        verification = Verification(asked, secret, password, network)
        try:
            displaced = self._queue.join(verification, known)
        except QueueFull as full:
            raise TemporaryFailure(f"{_REFUSED}: {full}") from None
        self._under_way[asked] = verification
        verification.waiting.append(waiting)
        if displaced is not None:
            self._answer(displaced, Failure(TemporaryFailure(_REFUSED)))  # type: ignore[no-untyped-call]
        self._go_on()
        return waiting

    def _forget(self, verification: Verification) -> None:
        if self._under_way.get(verification.asked) is verification:
            del self._under_way[verification.asked]

    def _answer(self, verification: Verification, outcome: bool | Failure) -> None:
        self._forget(verification)
        waiting, verification.waiting = verification.waiting, []
        for deferred in waiting:
            if not deferred.called:  # the callback of an earlier one may have cancelled it
                deferred.callback(outcome)

    def _go_on(self) -> None:
        """Start verifications while threads are idle."""
        while self._idle and (verification := self._queue.next()) is not None:
            self._idle -= 1
            Deferred.fromCoroutine(self._run(verification))

    async def _run(self, verification: Verification) -> None:
        outcome: bool | Failure
        try:
            outcome = await self._hashing.run(verification.run)
        except Exception:
            outcome = Failure()  # type: ignore[no-untyped-call]
        self._idle += 1
        self._answer(verification, outcome)
        self._go_on()
