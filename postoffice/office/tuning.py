"""What the interpreter and the C library are told when the process is ours alone."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

#: Seconds after which a thread that computes gives way: the reactor's thread has to come back
#: soon when it waits for the interpreter (the default is ten times as long).
SWITCH_INTERVAL = 0.0005
#: Octets from which memory goes back to the system when it is freed: a password's hash takes
#: 19 MiB for a moment, which would else stay with each thread that ever verified one.
MMAP_THRESHOLD = 1 << 20
_M_MMAP_THRESHOLD = -3


def tune() -> None:
    """Set both; the second only where there is such a thing (glibc)."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
