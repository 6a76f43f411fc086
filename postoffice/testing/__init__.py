"""Stand-ins for what is outside a room: for our tests and for plugin authors."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterable
from hashlib import pbkdf2_hmac, sha256
from itertools import pairwise
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute

from postoffice import moved

T = TypeVar("T")


class ImmediateExecutor:
    """Workers that do everything at once, on the caller's thread."""

    def run(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Call it now."""
        return execute(function, *args)


class ManualExecutor:
    """Workers that do what they were asked when the test says so, in its order."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def run(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Remember it."""
        result: Deferred[T] = Deferred()
        self.waiting.append((result, function, args))
        return result

    def work(self) -> None:
        """Do all that waits now; what follows from it waits."""
        waiting, self.waiting = self.waiting, []
        for result, function, args in waiting:
            execute(function, *args).chainDeferred(result)

    def work_on(self) -> None:
        """Work until nothing waits any more."""
        while self.waiting:
            self.work()


class ScramClient:
    """
    The client's side of SCRAM-SHA-256 (RFC 5802 §3), made without ours.

    ``gs2`` is what it says of channel binding and of an identity, ``binding``
    the data of the channel.  ``verdict`` is what the server must say in the
    end; it is there once ``final`` was asked for.
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
        """The proof, for the server's first message."""
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


def finish(coroutine: Any) -> Any:
    """The result of a coroutine that has nothing to wait for; what it raises is raised."""
    outcome: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
    assert outcome, "it is still waiting for something"
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


def cut(octets: bytes, places: Iterable[int]) -> list[bytes]:
    """``octets`` in pieces, cut at these places (any whole numbers; they wrap around)."""
    edges = sorted({0, len(octets), *(place % (len(octets) + 1) for place in places)})
    return [octets[start:end] for start, end in pairwise(edges)]


#: What had another name in 0.1: plugins can use it for one version.
_RENAMED = {"InlineWorkers": "ImmediateExecutor", "PatientWorkers": "ManualExecutor"}


def __getattr__(name: str) -> Any:
    return moved.renamed(__name__, name, _RENAMED, globals())
