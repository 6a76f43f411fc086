"""Child processes: what runs functions that need much CPU."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from mmap import mmap
from typing import Protocol, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Closeable(Protocol):
    """What a child process makes."""

    def close(self) -> None:
        """Release what it holds; nothing runs any more."""


Made = TypeVar("Made", bound=Closeable, covariant=True)


class ChildProcess(Protocol[Made]):
    """
    Runs functions in a process of its own, for work that needs much CPU.

    The child process makes one object when it starts, and passes that object as the first
    argument to each function. If the child dies, calls in progress fail with a
    TemporaryFailure, although the child may have done them; the child may be started
    again.

    ``memory`` is shared with the child: octets that both can read and write at any time,
    without a copy through a pipe.  Which part belongs to which call is up to the caller.
    """

    memory: mmap
    #: How often the child was started.
    starts: int

    @property
    def ready(self) -> bool:
        """Whether the child process is running; call ``run()`` only if so."""

    def run(self, function: Callable[[Made, *Args], T], *args: *Args) -> Awaitable[T]:
        """Call ``function(made, *args)`` in the child; only while it is ready."""

    def start(self) -> None:
        """Start the child process, unless it is starting or running, or died a moment ago."""

    async def stop(self) -> None:
        """Finish the calls in progress, close the object in the child, and end the child."""


class MakeChildProcess(Protocol):
    """Makes a ChildProcess; the process starts when its ``start()`` is called."""

    def __call__(
        self, name: str, make: Callable[[*Args, mmap], Made], *args: *Args, memory: int
    ) -> ChildProcess[Made]:
        """
        The child calls ``make(*args, memory)`` to make an object that has ``close()``.

        All can be pickled.  ``memory``: how many octets of memory both share; the child
        gets them as an ``mmap``.
        """
