"""Tunes a process of our own: interpreter, memory and reactor."""

from __future__ import annotations

import atexit
import ctypes
import gc
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

#: Seconds after which a computing thread must release the interpreter lock, so that the reactor's
#: thread gets it soon (the default is ten times as long).
SWITCH_INTERVAL = 0.0005
#: Octets of an allocation from which on freed memory returns to the system.  A password's hash
#: needs 19 MiB for a moment, which otherwise every thread that ever made one would keep.
MMAP_THRESHOLD = 1 << 20
_M_MMAP_THRESHOLD = -3
#: The thresholds of the cyclic garbage collector.  It runs seldom: a message's objects are freed
#: by their reference counts, and each collection costs time.
GARBAGE = (50_000, 20, 50)


def tune() -> None:
    """Tune the interpreter and, with glibc, the memory."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    collect_garbage_seldom()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)


def collect_garbage_seldom() -> None:
    """
    Exclude all objects that exist now from collection, and collect seldom.

    They stay, and so does the little garbage among them (half a MiB): a collection that finds it
    would take a twentieth of the CPU of a start.
    """
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def tune_command() -> None:
    """
    Let a process that ends soon collect garbage seldom, and not at its end, when all goes anyway.

    The interpreter's three collections at its end are a seventh of the CPU of a command.
    """
    collect_garbage_seldom()
    atexit.register(gc.freeze)


def steady(reactor: Any, seconds: Callable[[], float] = time.monotonic) -> None:
    """
    Make the reactor's timers use a monotonic clock.

    Twisted's reactor uses the wall clock: if that is set back, no timer fires until
    the clock has caught up; if it is set forward, all timers fire at once.  Timers
    that are scheduled already keep their remaining time.
    """
    shift = seconds() - reactor.seconds()
    for call in reactor.getDelayedCalls():
        call.time += shift
        call.seconds = seconds
    reactor.seconds = seconds


def poll_without_context(reactor: object) -> None:
    """
    Make an epoll reactor read from its connections without a log context for each event.

    Twisted copies a dictionary and makes five calls for each event, so that old-style
    log messages name the connection; ours name it themselves.  This is a twentieth of
    the cost of a message.  Any other reactor stays as it is.
    """
    with suppress(ImportError, AttributeError):
        from twisted.internet.epollreactor import EPollReactor
        from twisted.python.log import err

        # unpromised: if a later Twisted has other names, its own loop stays in use
        if type(reactor) is EPollReactor:
            do = reactor._doReadOrWrite
            poll = _poller(reactor._poller, reactor._selectables, do, err)
            reactor.doIteration = poll  # type: ignore[method-assign]


def _poller(
    poller: select.epoll,
    selectables: dict[int, object],
    do: Callable[[object, int, int], None],
    report: Callable[[], None],
) -> Callable[[float | None], None]:
    """Return what ``EPollReactor.doPoll`` is, without the context."""

    def poll(timeout: float | None) -> None:
        for fd, event in poller.poll(-1 if timeout is None else timeout, len(selectables)):
            selectable = selectables.get(fd)
            if selectable is not None:  # an event before this one may have closed it
                try:
                    do(selectable, fd, event)
                except Exception:
                    report()

    return poll
