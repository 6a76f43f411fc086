"""Test doubles for the executor and for SCRAM clients: for our tests and for plugin authors."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from hashlib import pbkdf2_hmac, sha256
from itertools import pairwise
from typing import Any, TypeVar, TypeVarTuple

from twisted.internet.defer import Deferred, execute
from twisted.python.failure import Failure

from postoffice import moved

T = TypeVar("T")
Args = TypeVarTuple("Args")


class ImmediateExecutor:
    """An executor that calls each function at once, on the caller's thread."""

    def run(self, function: Callable[[*Args], T], *args: *Args) -> Awaitable[T]:
        """Call it now."""
        return execute(function, *args)


class ManualExecutor:
    """An executor that queues calls until the test runs them, in order."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[..., object], tuple[object, ...]]] = []

    def run(self, function: Callable[[*Args], T], *args: *Args) -> Awaitable[T]:
        """Queue the call."""
        result: Deferred[T] = Deferred()
        self.waiting.append((result, function, args))
        return result

    def work(self) -> None:
        """Run all calls that are queued now, but not the ones that these calls queue."""
        waiting, self.waiting = self.waiting, []
        for result, function, args in waiting:
            execute(function, *args).chainDeferred(result)

    def work_on(self) -> None:
        """Run queued calls until the queue is empty."""
        while self.waiting:
            self.work()


class ScramClient:
    """
    The client's side of SCRAM-SHA-256 (RFC 5802 §3); it shares no code with the server's side.

    ``gs2`` is the GS2 header (channel binding and authorization identity), ``binding``
    the channel binding data. ``final()`` sets ``verdict``, the server signature to
    expect.
    """

    def __init__(
        self, user: bytes, password: bytes, nonce: bytes, gs2: bytes = b"n,,", binding: bytes = b""
    ) -> None:
        self._password = password
        self._channel = b64encode(gs2 + binding)
        self._bare = b"n=%b,r=%b" % (user.replace(b"=", b"=3D").replace(b",", b"=2C"), nonce)
        self.first = gs2 + self._bare
        self.verdict = b""

    def final(self, challenge: bytes) -> bytes:
        """Return the client's final message (the proof) for the server's first message."""
        nonce, salt, iterations = (word[2:] for word in challenge.split(b","))
        salted = pbkdf2_hmac("sha256", self._password, b64decode(salt), int(iterations))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        unsigned = b"c=%b,r=%b" % (self._channel, nonce)
        message = b",".join((self._bare, challenge, unsigned))
        signature = hmac.digest(sha256(client_key).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self.verdict = b"v=" + b64encode(hmac.digest(server_key, message, "sha256"))
        return unsigned + b",p=" + b64encode(proof)


def finish(coroutine: T | Coroutine[Deferred[Any], Any, T]) -> T:
    """Return the result of a coroutine that waits for nothing, or raise what it raised."""
    if not isinstance(coroutine, Coroutine):
        return coroutine  # an answer that was known at once
    outcome: list[T | Failure] = []
    Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
    assert outcome, "the coroutine is still waiting for something"
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]


def finish_all(each: AsyncIterator[T]) -> list[T]:
    """Return all that an iterator yields that waits for nothing."""

    async def gather() -> list[T]:
        return [one async for one in each]

    return finish(gather())


def cut(octets: bytes, places: Iterable[int]) -> list[bytes]:
    """Split ``octets`` at these offsets (any whole numbers; they wrap around)."""
    edges = sorted({0, len(octets), *(place % (len(octets) + 1) for place in places)})
    return [octets[start:end] for start, end in pairwise(edges)]


#: Names of 0.1 and what they are now; plugins can use the old names for one version.
_RENAMED = {"InlineWorkers": "ImmediateExecutor", "PatientWorkers": "ManualExecutor"}


def __getattr__(name: str) -> object:
    return moved.renamed(__name__, name, _RENAMED, globals())
