"""Runs blocking functions in a child process, so that their CPU time delays nothing else."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from mmap import mmap
from typing import Any, Generic, TypeVar, TypeVarTuple

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger

from postoffice.daemon.child_process import MEMORY, PROGRAM, READY, SIZE, Begin, Call, Result, frame
from postoffice.interfaces import Made, MakeChildProcess
from postoffice.model.errors import TemporaryFailure
from postoffice.util.reactor import IReactor

T = TypeVar("T")
Args = TypeVarTuple("Args")
#: The least seconds between two starts of a process that dies.
AGAIN = 10.0
#: The most threads in the child: one works, as long as no call takes long.
THREADS = 4


def maker(reactor: IReactor) -> MakeChildProcess | None:
    """Return a maker of child processes, or None if this system or reactor cannot make any."""
    if not (sys.executable and IReactorProcess.providedBy(reactor)):
        return None
    if not hasattr(os, "memfd_create"):  # Linux, FreeBSD 13
        return None

    def make_executor(
        name: str, make: Callable[[*Args, mmap], Made], *args: *Args, memory: int
    ) -> ProcessExecutor[Made]:
        return ProcessExecutor(reactor, Begin(name, make, args, THREADS, memory))

    return make_executor


class ProcessExecutor(Generic[Made]):
    """See ``interfaces.ChildProcess``."""

    log = Logger()

    def __init__(self, reactor: IReactor, begin: Begin) -> None:
        self._reactor = reactor
        self._begin = begin
        self._memory_fd = os.memfd_create(begin.name)
        os.ftruncate(self._memory_fd, begin.memory)
        self.memory = mmap(self._memory_fd, begin.memory)
        self._process: _Process | None = None
        self._not_before = 0.0
        self._stopped = False
        self.starts = 0

    @property
    def ready(self) -> bool:
        return self._process is not None and self._process.ready

    def start(self) -> None:
        now = self._reactor.seconds()
        if self._stopped or self._process is not None or now < self._not_before:
            return
        self._not_before = now + AGAIN
        process = _Process(self._begin, self._gone)
        command = [sys.executable, "-c", PROGRAM, *sys.path]
        try:
            descriptors: dict[int, int | str] = {0: "w", 1: "r", 2: 2, MEMORY: self._memory_fd}
            self._reactor.spawnProcess(
                process, command[0], command, os.environ, childFDs=descriptors
            )
        except OSError as error:  # no memory, or no more processes: the daemon works without it
            self.log.error(
                "starting the process for {name} failed: {error}",
                name=self._begin.name,
                error=error,
            )
        else:
            self._process = process
            self.starts += 1

    async def stop(self) -> None:
        self._stopped = True
        if self._process is not None:
            await self._process.leave()
        if not self.memory.closed:
            self.memory.close()
            os.close(self._memory_fd)

    def run(self, function: Callable[[Made, *Args], T], *args: *Args) -> Deferred[T]:
        """Call ``function(made, *args)`` in the child; only while it is ready."""
        if self._process is None:
            return fail(TemporaryFailure(f"there is no process for {self._begin.name}"))
        return self._process.call(function, args)

    def _gone(self, why: str) -> None:
        self._process = None
        if why or not self._stopped:
            self.log.error(
                "the process for {name} failed: {why}",
                name=self._begin.name,
                why=why or "it ended by itself",
            )


class _Process(ProcessProtocol):
    """One child process, from its start to its end."""

    transport: IProcessTransport

    def __init__(self, begin: Begin, gone: Callable[[str], None]) -> None:
        self.ready = self._leaving = False
        self._begin = begin
        self._gone = gone
        self._why = ""
        self._asked: dict[int, Deferred[Any]] = {}
        self._last = READY
        self._received = bytearray()
        self._end: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._send(self._begin)

    def call(self, function: Callable[..., T], args: tuple[object, ...]) -> Deferred[T]:
        self._last += 1
        result: Deferred[T] = Deferred()
        self._asked[self._last] = result
        self._send(Call(self._last, function, args))
        return result

    def leave(self) -> Deferred[None]:
        """Let the child finish its calls and end; the Deferred fires when it has ended."""
        self.ready, self._leaving = False, True
        self.transport.closeStdin()
        return self._end

    def _send(self, what: Begin | Call) -> None:
        self.transport.write(frame(what))

    def outReceived(self, data: bytes) -> None:
        self._received += data
        while (octets := self._next()) is not None:
            self._came(Result(*pickle.loads(octets)))  # noqa: S301 - our own child's

    def _next(self) -> bytes | None:
        if len(self._received) < SIZE.size:
            return None
        end = SIZE.size + SIZE.unpack_from(self._received)[0]
        if len(self._received) < end:
            return None
        octets = bytes(self._received[SIZE.size : end])
        del self._received[:end]
        return octets

    def _came(self, result: Result) -> None:
        if result.number == READY:
            self.ready = result.error is None and not self._leaving
            self._why = str(result.error or "")
            return
        asked = self._asked.pop(result.number)
        if asked.called:  # the caller has cancelled it
            return
        if result.error is None:
            asked.callback(result.value)
        else:
            asked.errback(result.error)

    def outConnectionLost(self) -> None:
        """The child has ended; this is called even if the reactor does not reap processes."""
        self.ready = False
        self.transport.loseConnection()
        self._gone(self._why)
        asked, self._asked = self._asked, {}
        for result in asked.values():
            if not result.called:
                name = self._begin.name
                result.errback(TemporaryFailure(f"the process for {name} ended during a call"))
        self._end.callback(None)
