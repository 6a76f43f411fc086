"""Verifying passwords: off the reactor's thread, once for all who ask, remembered for a while."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from postoffice.accounts import passwords
from postoffice.errors import TemporaryFailure
from postoffice.interfaces import Workers

#: Seconds that a verified password is remembered.
LIFETIME = 300.0
#: Verified passwords that are remembered; the least used ones go.
REMEMBERED = 10_000
#: Verifications that may be under way or wait for a worker: some seconds of work.
WAITING = 200


class Verified:
    """
    Passwords that were right, by a digest that only this process can make.

    The digest covers the stored hash: another hash makes another digest, so
    that nothing need be forgotten when a password is changed.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        until = self._until.get(digest)
        if until is None:
            return False
        if self._clock() >= until:
            del self._until[digest]
            return False
        self._until.move_to_end(digest)
        return True

    def add(self, digest: bytes) -> None:
        """Remember one, from now on."""
        self._until[digest] = self._clock() + LIFETIME
        self._until.move_to_end(digest)
        if len(self._until) > REMEMBERED:
            self._until.popitem(last=False)


class Verification:
    """One run of the hash, and those who wait for it; nobody waits: it need not be done."""

    def __init__(self, secret: str | None, password: bytes) -> None:
        self._secret = secret
        self._password = password
        self.waiting: list[Deferred[bool]] = []

    def run(self) -> bool:
        """Hash; this is what a worker does."""
        return bool(self.waiting) and passwords.verify(self._secret, self._password)


class Verifying:
    """
    Answers whether passwords are right.

    ``hashing`` are workers of its own: each run takes MEMORY for some
    hundredths of a second, and whoever waits for a disk should not wait here.
    """

    def __init__(self, hashing: Workers, clock: Callable[[], float]) -> None:
        self._hashing = hashing
        self._verified = Verified(clock)
        self._under_way: dict[bytes, Verification] = {}
        self._key = secrets.token_bytes(32)

    async def matches(self, user: bytes, secret: str | None, password: bytes) -> bool:
        """
        Whether ``secret`` is a hash of ``password``; ``secret`` None: the same work, and False.

        All who ask the same for the same user at the same time share one run;
        the user counts because two unknown ones must not be faster together
        than two known ones.  Raises TemporaryFailure when too many wait.
        """
        digest = self._digest(user, (secret or "").encode(), password)
        if digest in self._verified:
            return True
        if await self._verification(digest, secret, password):
            self._verified.add(digest)
            return True
        return False

    def _digest(self, *parts: bytes) -> bytes:
        digest = blake2b(key=self._key, digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    def _verification(self, digest: bytes, secret: str | None, password: bytes) -> Deferred[bool]:
        """Wait for the run that is under way, or begin one."""

        def leave(deferred: Deferred[bool]) -> None:
            if deferred in verification.waiting:
                verification.waiting.remove(deferred)
            if not verification.waiting and self._under_way.get(digest) is verification:
                del self._under_way[digest]

        waiting: Deferred[bool] = Deferred(leave)
        if digest in self._under_way:
            verification = self._under_way[digest]
            verification.waiting.append(waiting)
            return waiting
        if len(self._under_way) >= WAITING:
            raise TemporaryFailure(f"{WAITING} passwords wait to be verified")
        verification = self._under_way[digest] = Verification(secret, password)
        verification.waiting.append(waiting)
        Deferred.fromCoroutine(self._run(digest, verification))
        return waiting

    async def _run(self, digest: bytes, verification: Verification) -> None:
        outcome: bool | Failure
        try:
            outcome = await self._hashing.run(verification.run)
        except Exception:
            outcome = Failure()  # type: ignore[no-untyped-call]
        if self._under_way.get(digest) is verification:
            del self._under_way[digest]
        waiting, verification.waiting = verification.waiting, []
        for deferred in waiting:
            if not deferred.called:  # one that was told before may have cancelled it
                deferred.callback(outcome)
