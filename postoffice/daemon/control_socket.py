"""
The control socket: through it the ``postoffice`` command asks the running daemon.

A request is one line, a JSON object with ``command``.  The answer is lines of JSON
objects, the last one with ``done`` or ``error``.  The daemon answers only root and its
own user.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.policies import TimeoutMixin

from postoffice.util.reactor import IReactor

#: The name of the socket in the state folder.
NAME = "control"
#: The most octets of a request, seconds for a connection, connections at the same time, and lines
#: of the answer in one turn of the reactor.
QUESTION_MAXIMUM = 4096
PATIENCE = 30.0
CLIENTS = 10
SLICE = 100

#: The lines of an answer.
Lines = Iterator[Mapping[str, object]]
#: The function of a command: it takes the request, and returns the lines of the answer.
Answers = Callable[[Mapping[str, object]], Lines | Coroutine[Deferred[object], object, Lines]]
_PEER = struct.Struct("3i")  # process, user, group (SO_PEERCRED)

log = Logger("postoffice")


def place(state: str) -> str:
    """Return the path of the control socket."""
    return os.path.join(state, NAME)


class _Asked(LineOnlyReceiver, TimeoutMixin):
    """One connection: one request and its answer."""

    delimiter = b"\n"
    MAX_LENGTH = QUESTION_MAXIMUM
    factory: Control
    transport: Any

    def connectionMade(self) -> None:
        self._answer: Lines | None = None
        self._asked = False
        peer = self.transport.getHandle().getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size
        )
        _, user, _ = _PEER.unpack(peer)
        self.factory.asking += 1
        self.setTimeout(PATIENCE)  # type: ignore[no-untyped-call]
        if user not in (0, os.geteuid()) or self.factory.asking > CLIENTS:
            self._asked = True  # ignore its request
            self.transport.abortConnection()

    def connectionLost(self, reason: object = None) -> None:
        self.factory.asking -= 1
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self._answer = iter(())

    def timeoutConnection(self) -> None:
        self.transport.abortConnection()

    def lineReceived(self, line: bytes) -> None:
        if self._asked:
            return
        self._asked = True
        lines = self.factory.answer(line)
        if isinstance(lines, Coroutine):
            self.setTimeout(None)  # type: ignore[no-untyped-call]
            Deferred.fromCoroutine(lines).addCallback(self._send)
        else:
            self._send(lines)

    def _send(self, lines: Lines) -> None:
        if self._answer is None:  # the client is still there
            self._answer = _numbered(lines)
            self._go_on()

    def _go_on(self) -> None:
        """Send a slice of the answer in each turn of the reactor."""
        assert self._answer is not None
        lines = [json.dumps(one).encode() + b"\n" for one in islice(self._answer, SLICE)]
        self.transport.write(b"".join(lines))
        if len(lines) == SLICE:
            self.factory.reactor.callLater(0, self._go_on)
        else:
            self.transport.loseConnection()


class Control(Factory):
    """Listens on the control socket and dispatches to ``commands``."""

    noisy = False
    protocol = _Asked  # type: ignore[assignment]

    def __init__(self, state: str, reactor: IReactor, commands: Mapping[str, Answers]) -> None:
        self.reactor = reactor
        self.asking = 0
        self._path = place(state)
        self._commands = commands
        self._port: IListeningPort | None = None

    def start(self) -> None:
        """Listen.  If this fails, log it and go on without the socket."""
        try:
            self._remove_what_is_dead()
            before = os.umask(0o177)
            try:
                self._port = self.reactor.listenUNIX(self._path, self, mode=0o600)
            finally:
                os.umask(before)
        except (OSError, CannotListenError) as error:
            log.warn("the control socket failed to open: {why}", why=error)

    async def stop(self) -> None:
        """Stop listening."""
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)

    def _remove_what_is_dead(self) -> None:
        """Remove the socket that a killed daemon left behind."""
        with suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as other:
            other.setblocking(False)
            try:
                other.connect(self._path)
            except ConnectionRefusedError:
                os.unlink(self._path)

    def answer(self, line: bytes) -> Lines | Coroutine[Deferred[object], object, Lines]:
        """Return the lines of the answer to a request."""
        try:
            question = json.loads(line)
            command = self._commands[question["command"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            return iter([{"error": "this daemon does not know that command"}])
        return command(question)


def _numbered(lines: Lines) -> Lines:
    """The lines, and at the end how many they are; nothing comes after an error."""
    number = 0
    for one in lines:
        number += 1
        yield one
        if "error" in one:
            return
    yield {"done": number}
