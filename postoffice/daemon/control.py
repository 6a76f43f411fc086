"""
The control socket: the ``postoffice`` command asks the daemon that runs.

A question is one line, a JSON object with ``command``; answers are lines of
JSON objects, the last one with ``done`` or ``error``.  Only root and the user
of the daemon are answered.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.policies import TimeoutMixin

#: Its name in the state folder.
NAME = "control"
#: Octets of a question, seconds for it all, questions at the same time, lines in one turn.
QUESTION_MAXIMUM = 4096
PATIENCE = 30.0
CLIENTS = 10
SLICE = 100

#: What a command does with its question: gives its answer, a line each.
Answers = Callable[[Mapping[str, Any]], Iterator[Mapping[str, Any]]]
_PEER = struct.Struct("3i")  # process, user, group (SO_PEERCRED)

log = Logger("postoffice")


def place(state: str) -> str:
    """Where the socket of a state folder is."""
    return os.path.join(state, NAME)


class _Asked(LineOnlyReceiver, TimeoutMixin):
    """One question, and its answer."""

    delimiter = b"\n"
    MAX_LENGTH = QUESTION_MAXIMUM
    factory: Control

    def connectionMade(self) -> None:
        self._answer: Iterator[Mapping[str, Any]] | None = None
        transport: Any = self.transport
        peer = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _, user, _ = _PEER.unpack(peer)
        self.factory.asking += 1
        self.setTimeout(PATIENCE)  # type: ignore[no-untyped-call]
        if user not in (0, os.geteuid()) or self.factory.asking > CLIENTS:
            self._answer = iter(())  # whatever it says
            transport.abortConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.asking -= 1
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self._answer = iter(())

    def timeoutConnection(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def lineReceived(self, line: bytes) -> None:
        if self._answer is None:
            self._answer = self.factory.answer(line)
            self._go_on()

    def _go_on(self) -> None:
        """A slice of the answer in each turn of the reactor."""
        transport: Any = self.transport
        assert self._answer is not None
        lines = [json.dumps(one).encode() + b"\n" for one in islice(self._answer, SLICE)]
        transport.write(b"".join(lines))
        if len(lines) == SLICE:
            self.factory.reactor.callLater(0, self._go_on)
        else:
            transport.loseConnection()


class Control(Factory):
    """Listens on the socket, and has the ``commands`` answer."""

    noisy = False
    protocol = _Asked  # type: ignore[assignment]

    def __init__(self, state: str, reactor: Any, commands: Mapping[str, Answers]) -> None:
        self.reactor = reactor
        self.asking = 0
        self._path = place(state)
        self._commands = commands
        self._port: Any = None

    def start(self) -> None:
        """Listen.  Where that fails nothing else is wrong."""
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
        """Listen no more."""
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()

    def _remove_what_is_dead(self) -> None:
        """The socket of a daemon that was killed is in the way."""
        with suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as other:
            other.setblocking(False)
            try:
                other.connect(self._path)
            except ConnectionRefusedError:
                os.unlink(self._path)

    def answer(self, line: bytes) -> Iterator[Mapping[str, Any]]:
        """The answer to a question, line by line."""
        try:
            question = json.loads(line)
            command = self._commands[question["command"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            yield {"error": "this daemon does not know that command"}
            return
        number = 0
        for one in command(question):
            number += 1
            yield one
        yield {"done": number}
