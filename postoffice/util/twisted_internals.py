"""What interpreter, C library and reactor are told when the process is ours alone."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

#: Seconds after which a thread that computes gives way: the reactor's thread has to come back
#: soon when it waits for the interpreter (the default is ten times as long).
SWITCH_INTERVAL = 0.0005
#: Octets from which memory goes back to the system when it is freed: a password's hash takes
#: 19 MiB for a moment, which would else stay with each thread that ever verified one.
MMAP_THRESHOLD = 1 << 20
_M_MMAP_THRESHOLD = -3
#: Objects that are made before the youngest are searched for rings of garbage, and how often
#: older ones are searched: what a message needs is freed without, and each search costs time.
GARBAGE = (50_000, 20, 50)


def tune() -> None:
    """Set all; the threshold of memory only where there is such a thing (glibc)."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    collect_garbage_seldom()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)


def collect_garbage_seldom() -> None:
    """Leave alone what is there at a start, for it stays; search the rest for garbage seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def steady(reactor: Any, seconds: Callable[[], float] = time.monotonic) -> None:
    """
    Let the reactor's timers go by a clock that nobody sets.

    Twisted's reactor takes the time of day: where that is put back, no timer
    rings until it has caught up; where it is put on, all ring at once.  What
    is scheduled already stays as far away as it is.
    """
    shift = seconds() - reactor.seconds()
    for call in reactor.getDelayedCalls():
        call.time += shift
        call.seconds = seconds
    reactor.seconds = seconds
