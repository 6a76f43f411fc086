"""
The child process of a ``ProcessExecutor``: runs blocking functions until its parent stops.

Frames arrive on standard input, each a size and a pickle: first a Begin, then Calls.
Results go to standard output.  Both are pipes to the parent.  Descriptor 3 is memory that
both share.  The child does not import Twisted, so that it stays small and starts fast.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from io import FileIO
from mmap import mmap
from threading import Event, Lock, Thread, current_thread
from typing import BinaryIO, NamedTuple

from postoffice.interfaces import Closeable
from postoffice.model.errors import TemporaryFailure
from postoffice.util.process_tuning import collect_garbage_seldom

#: The program of the child, for ``python -c``; its arguments are the parent's ``sys.path``.
PROGRAM = """import sys; sys.path[:] = sys.argv[1:]
from postoffice.daemon.child_process import main; main()"""
#: The descriptor of the memory that parent and child share.
MEMORY = 3
#: Precedes each pickle: the number of its octets.
SIZE = struct.Struct("<Q")
#: The number of the first result, which reports that the child is ready.
READY = 0
#: Seconds that a call may take before another thread reads the next calls.
PATIENCE = 0.02


class Begin(NamedTuple):
    """
    Make the child's object with ``make(*args, memory)``, and use up to ``threads`` threads.

    The object has a ``close()``.  ``memory`` is how many octets are shared.
    """

    name: str  # of the process, as ps and top show it
    make: Callable[..., Closeable]
    args: tuple[object, ...]
    threads: int
    memory: int


class Call(NamedTuple):
    """Call ``function(made, *args)``; the result has the same number."""

    number: int
    function: Callable[..., object]
    args: tuple[object, ...]


class Result(NamedTuple):
    """The result of a call: the value that it returned, or the error that it raised."""

    number: int
    value: object
    error: BaseException | None = None


def frame(what: Begin | Call | Result) -> bytes:
    """Encode a message for the other side."""
    octets = pickle.dumps(tuple(what), pickle.HIGHEST_PROTOCOL)
    return SIZE.pack(len(octets)) + octets


def main() -> None:
    """Work until the parent closes its end of the pipe, or dies."""
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent handles them, and ends this process
    with os.fdopen(os.dup(1), "wb", buffering=0) as results:
        os.dup2(2, 1)  # output of print() must not mix with results
        _Child(sys.stdin.buffer, results).work()


class _Child:
    """
    One thread at a time reads a call, runs it and sends its result.

    Threads that share the work take the interpreter from one another at every system
    call; this cost a third of the throughput.  But no call delays the next ones for long:
    if one takes more than ``PATIENCE``, a new thread reads on, and the old thread ends
    after its call.
    """

    def __init__(self, calls: BinaryIO, results: FileIO) -> None:
        self._calls = calls
        self._results = results
        self._sending = Lock()
        self._parent = os.getppid()
        self._changing = Lock()  # guards:
        self._reader: Thread | None = None
        self._doing = False  # whether the reader runs a call, and the number of that call:
        self._number = 0
        self._call_began = Event()  # set when a call begins: the main thread watches its duration
        self._ended = False  # no more calls come

    def work(self) -> None:
        octets = self._next()
        if octets is None:  # the parent was killed before it could say what to do
            return
        begin = Begin(*pickle.loads(octets))  # noqa: S301 - our own parent's
        _set_process_name(begin.name)
        try:
            made = begin.make(*begin.args, mmap(MEMORY, begin.memory))
        except Exception as error:
            self._send(Result(READY, None, error))
            return
        collect_garbage_seldom()
        with closing(made):
            self._send(Result(READY, None))
            self._do_all(made, begin.threads)

    def _do_all(self, made: Closeable, most: int) -> None:
        """Watch the calls until no more come and all have ended."""
        readers: list[Thread] = []
        self._next_reader(made, readers)
        while not self._ended:
            self._call_began.clear()
            if not self._doing and not self._ended:
                self._call_began.wait()
            number = self._number
            time.sleep(PATIENCE)
            readers = [one for one in readers if one.is_alive()]
            with self._changing:
                if self._doing and self._number == number and len(readers) < most:
                    with suppress(RuntimeError):  # the system has no thread now: try again later
                        self._next_reader(made, readers)
        for one in readers:
            one.join()

    def _next_reader(self, made: Closeable, readers: list[Thread]) -> None:
        """Let a new thread read the next calls.  Raises RuntimeError if none can be started."""
        reader, before, doing = Thread(target=self._serve, args=(made,)), self._reader, self._doing
        self._reader, self._doing = reader, False
        try:
            reader.start()
        except RuntimeError:
            self._reader, self._doing = before, doing
            raise
        readers.append(reader)

    def _serve(self, made: Closeable) -> None:
        """Run ``_read``; if it fails, end the child, as no thread would read further calls."""
        try:
            self._read(made)
        except BaseException:
            self._ended = True
            self._call_began.set()
            raise

    def _read(self, made: Closeable) -> None:
        """Run one call after the other, until another thread has become the reader."""
        me = current_thread()
        while (octets := self._next()) is not None:
            call = Call(*pickle.loads(octets))  # noqa: S301 - our own parent's
            self._number += 1
            self._doing = True
            if not self._call_began.is_set():
                self._call_began.set()
            if os.getppid() == self._parent:  # else the parent has died, and nobody waits
                self._send(_outcome(made, call))
            with self._changing:
                if self._reader is not me:
                    return
                self._doing = False
        self._ended = True
        self._call_began.set()

    def _next(self) -> bytes | None:
        """Return the next message; None at the end, also if the parent died while sending."""
        head = self._calls.read(SIZE.size)
        if len(head) < SIZE.size:
            return None
        (size,) = SIZE.unpack(head)
        octets = self._calls.read(size)
        return octets if len(octets) == size else None

    def _send(self, result: Result) -> None:
        octets = memoryview(_octets(result))
        with self._sending, suppress(BrokenPipeError):
            while octets:
                octets = octets[self._results.write(octets) :]


def _set_process_name(name: str) -> None:
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(name)


def _outcome(made: Closeable, call: Call) -> Result:
    try:
        return Result(call.number, call.function(made, *call.args))
    except BaseException as error:
        return Result(call.number, None, error)


def _octets(result: Result) -> bytes:
    try:
        return frame(result)
    except Exception as error:  # not everything can be pickled
        why = TemporaryFailure(f"{result.error or result.value!r}: {error}")
        return frame(Result(result.number, None, why))
