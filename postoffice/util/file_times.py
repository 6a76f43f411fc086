"""Whether a file's time of change is so old that any later change gives another time."""

from __future__ import annotations

import time

#: Nanoseconds: kernels move the clock of their file systems every few milliseconds.
SETTLED = 20_000_000
#: The same where times may be whole seconds (ext4 with small inodes, NFS), or even ones (FAT).
SETTLED_COARSE = 2_000_000_000
COARSE = 1_000_000_000


def is_settled(*changed: int) -> bool:
    """Whether a change from now on gives a time other than each of these (``st_mtime_ns``)."""
    now = time.time_ns()
    return all(now - one >= (SETTLED if one % COARSE else SETTLED_COARSE) for one in changed)
