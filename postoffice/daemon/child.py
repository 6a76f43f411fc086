"""
A process that does what blocks, for ``ProcessExecutor``: until nobody asks any more.

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
import time
from collections.abc import Callable
from contextlib import closing, suppress
from threading import Event, Lock, Thread, current_thread
from typing import Any, BinaryIO, NamedTuple

from postoffice.model.errors import TemporaryFailure
from postoffice.util.twisted_internals import collect_garbage_seldom

#: The Python that it is, behind ``-c``; behind that, the path that its parent imports from.
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from postoffice.daemon.child import main; main()"
#: Before each pickle: how many octets it has.
SIZE = struct.Struct("<Q")
#: The number of the first result, which says that all is ready.
READY = 0
#: Seconds that a call may take before another thread reads those behind it.
PATIENCE = 0.02


class Begin(NamedTuple):
    """``make(*args)``, which has a ``close()``, is there for up to ``threads`` threads."""

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
        _Child(sys.stdin.buffer, results).work()


class _Child:
    """
    One thread reads a call, does it and tells its result; no other is in its way.

    Threads that share the work take the interpreter from one another at every
    system call, which cost a third of all that was done.  But no call holds up
    those behind it for long: where one takes more than ``PATIENCE``, the next
    thread reads on, and the one that does it goes when it has done so.
    """

    def __init__(self, calls: BinaryIO, results: Any) -> None:
        self._calls = calls
        self._results = results
        self._telling = Lock()
        self._parent = os.getppid()
        self._changing = Lock()  # who reads:
        self._reader: Thread | None = None
        self._doing = False  # a call, and its number:
        self._number = 0
        self._stirring = Event()  # somebody should look how long that takes
        self._ended = False  # nobody asks any more

    def work(self) -> None:
        begin = self._next()
        if begin is None:  # the parent was killed before it could say what to do
            return
        name, make, args, threads = begin
        _call_ourselves(name)
        try:
            made = make(*args)
        except Exception as error:
            self._tell(Result(READY, None, error))
            return
        collect_garbage_seldom()
        with closing(made):
            self._tell(Result(READY, None))
            self._do_all(made, threads)

    def _do_all(self, made: Any, threads: int) -> None:
        """Until nobody asks any more, and all that was asked is done."""
        hands: list[Thread] = []
        self._next_reader(made, hands)
        while not self._ended:
            self._stirring.clear()
            if not self._doing and not self._ended:
                self._stirring.wait()
            number = self._number
            time.sleep(PATIENCE)
            hands = [hand for hand in hands if hand.is_alive()]
            with self._changing:
                if self._doing and self._number == number and len(hands) < threads:
                    with suppress(RuntimeError):  # no thread is to be had now: we ask again
                        self._next_reader(made, hands)
        for hand in hands:
            hand.join()

    def _next_reader(self, made: Any, hands: list[Thread]) -> None:
        """Another thread takes over.  Raises RuntimeError where there is none."""
        reader, before, doing = Thread(target=self._serve, args=(made,)), self._reader, self._doing
        self._reader, self._doing = reader, False
        try:
            reader.start()
        except RuntimeError:
            self._reader, self._doing = before, doing
            raise
        hands.append(reader)

    def _serve(self, made: Any) -> None:
        """As ``_read``; where it fails all ends, for nobody would read what comes."""
        try:
            self._read(made)
        except BaseException:
            self._ended = True
            self._stirring.set()
            raise

    def _read(self, made: Any) -> None:
        """Do one call after the other, until another thread has taken over."""
        me = current_thread()
        while (call := self._next()) is not None:
            self._number += 1
            self._doing = True
            if not self._stirring.is_set():
                self._stirring.set()
            if os.getppid() == self._parent:  # or who asked has died, and nobody waits for it
                self._tell(_outcome(made, Call(*call)))
            with self._changing:
                if self._reader is not me:
                    return
                self._doing = False
        self._ended = True
        self._stirring.set()

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
