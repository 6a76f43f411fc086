"""
A process that does what blocks, for ``ProcessWorkers``: until nobody asks any more.

Frames come in on its standard input, each a size and a pickle: first what is
made here, then what is to be called with it; results go out on its standard
output.  Both ends are its parent's, and nobody else's.  It knows nothing of
Twisted, so that it is small, and soon there.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, BinaryIO, NamedTuple

from postoffice.errors import TemporaryFailure

#: The Python that it is, behind ``-c``; behind that, the path that its parent imports from.
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from postoffice.office.apart import main; main()"
#: Before each pickle: how many octets it has.
SIZE = struct.Struct("<Q")
#: The number of the first result, which says that all is ready.
READY = 0


class Begin(NamedTuple):
    """``make(*args)``, which has a ``close()``, is there for ``threads`` threads."""

    name: str  # of the process, for who looks at what runs
    make: Callable[..., Any]
    args: tuple[Any, ...]
    threads: int


class Call(NamedTuple):
    """``function(made, *args)`` is called; its result has the same number."""

    number: int
    function: Callable[..., Any]
    args: tuple[Any, ...]


class Result(NamedTuple):
    """What came of a call: what it returned, or what it raised."""

    number: int
    value: Any
    error: BaseException | None = None


def frame(what: Begin | Call | Result) -> bytes:
    """As octets for the other side."""
    octets = pickle.dumps(tuple(what), pickle.HIGHEST_PROTOCOL)
    return SIZE.pack(len(octets)) + octets


def main() -> None:
    """Work until the parent has closed its end, or is no more."""
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are the parent's, who has things to end
    with os.fdopen(os.dup(1), "wb", buffering=0) as results:
        os.dup2(2, 1)  # what somebody prints is no result
        _Apart(sys.stdin.buffer, results).work()


class _Apart:
    def __init__(self, calls: BinaryIO, results: Any) -> None:
        self._calls = calls
        self._results = results
        self._telling = Lock()
        self._parent = os.getppid()
        self._waiting: SimpleQueue[Call | None] = SimpleQueue()

    def work(self) -> None:
        name, make, args, threads = self._next()
        _call_ourselves(name)
        try:
            made = make(*args)
        except Exception as error:
            self._tell(Result(READY, None, error))
            return
        with closing(made):
            self._tell(Result(READY, None))
            hands = [Thread(target=self._do_all, args=(made,)) for _ in range(threads)]
            for hand in hands:
                hand.start()
            while (call := self._next()) is not None:
                self._waiting.put(Call(*call))
            for _ in hands:
                self._waiting.put(None)
            for hand in hands:
                hand.join()

    def _next(self) -> Any:
        """What comes next; None at the end, also where the parent has died in the middle of it."""
        head = self._calls.read(SIZE.size)
        if len(head) < SIZE.size:
            return None
        (size,) = SIZE.unpack(head)
        octets = self._calls.read(size)
        if len(octets) < size:
            return None
        return pickle.loads(octets)  # noqa: S301 - our own parent's

    def _do_all(self, made: Any) -> None:
        while (call := self._waiting.get()) is not None:
            if os.getppid() == self._parent:  # or who asked has died, and nobody waits for it
                self._tell(_outcome(made, call))

    def _tell(self, result: Result) -> None:
        octets = memoryview(_octets(result))
        with self._telling, suppress(BrokenPipeError):
            while octets:
                octets = octets[self._results.write(octets) :]


def _call_ourselves(name: str) -> None:
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(name)


def _outcome(made: Any, call: Call) -> Result:
    try:
        return Result(call.number, call.function(made, *call.args))
    except BaseException as error:
        return Result(call.number, None, error)


def _octets(result: Result) -> bytes:
    try:
        return frame(result)
    except Exception as error:  # not everything goes through a pipe
        why = TemporaryFailure(f"{result.error or result.value!r}: {error}")
        return frame(Result(result.number, None, why))
