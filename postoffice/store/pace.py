"""
Pace: decides whether short disk work runs on the reactor's thread.

It measures how long such work takes; the work itself is the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from postoffice.store import vault
from postoffice.store.files import is_on

#: Seconds that such work may take on average; if it takes longer, it is done on other threads.
LIMIT = 0.005
#: The weight of the last piece of work in the average is 1/WEIGHT.  So one that took 40 ms is too
#: much; one of 10 ms is not: on a busy machine another process may just have had its turn.
WEIGHT = 8
#: Seconds before the next try after work took longer: at first, and at most.
PAUSE = 1.0
PAUSE_MAXIMUM = 60.0
#: How many maildrops are remembered as near.
NEAR = 100_000
#: Octets of a folder that can be listed in that time.
SMALL_FOLDER = 16 << 10


class TakesLong(Exception):
    """The work takes too long for the reactor's thread."""


class Pace:
    """
    Decides whether the disk is quick enough to wait for it on the reactor's thread.

    Work on another thread costs several times as much: that thread gives up the
    interpreter at each system call, and has to get it back from the reactor's.
    But a slow disk must not hold up all clients: if work takes longer than ``LIMIT``
    on average, other threads do it for a while.  And only a maildrop that is ``near``,
    that is with its vault on the store's own file system, is read on the
    reactor's thread: another file system may hang while the store's works.
    """

    def __init__(self, seconds: Callable[[], float], device: int) -> None:
        self._seconds = seconds
        self._device = device
        self._near: set[str] = set()
        self._average = 0.0  # seconds
        self._pause = PAUSE
        self._not_before = 0.0

    @property
    def quick(self) -> bool:
        """Whether short work may run on the reactor's thread now."""
        return self._seconds() >= self._not_before

    def may_stay(self, folder: str) -> bool:
        """Whether short work on this maildrop may be done on the reactor's thread now."""
        return self.quick and self.is_near(folder)

    def is_near(self, folder: str) -> bool:
        """Whether a maildrop is known to be on the store's file system."""
        return folder in self._near

    def get_to_know(self, folder: str) -> None:
        """Find out whether a maildrop is near; not on the reactor's thread."""
        kept = vault.path_of(folder)
        if all(is_on(one, self._device) for one in (folder, os.path.dirname(kept), kept)):
            if len(self._near) >= NEAR:
                self._near.clear()
            self._near.add(folder)
        else:
            self._near.discard(folder)

    def short(self) -> Limit:
        """Run work on the reactor's thread (``with``), and measure it for ``quick``."""
        return Limit(self, self._seconds)

    def took(self, seconds: float, now: float) -> None:
        """Work on the reactor's thread has just ended."""
        self._average += (seconds - self._average) / WEIGHT
        if self._average > LIMIT:
            self._average = LIMIT  # after the pause, one slow piece of work is enough
            self._not_before = now + self._pause
            self._pause = min(2 * self._pause, PAUSE_MAXIMUM)
        else:
            self._pause = max(self._pause / 2, PAUSE)


class Limit:
    """The time limit of work on the reactor's thread; the work runs in its ``with``."""

    def __init__(self, pace: Pace, seconds: Callable[[], float]) -> None:
        self._pace = pace
        self._seconds = seconds
        self._began = seconds()
        self._until = self._began + LIMIT

    def __enter__(self) -> Limit:
        return self

    def __exit__(self, *why: object) -> None:
        now = self._seconds()
        self._pace.took(now - self._began, now)

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self._seconds() > self._until

    def look(self) -> None:
        """Raises TakesLong if the time is over."""
        if self.passed:
            raise TakesLong

    def look_at(self, folders: Iterable[os.stat_result]) -> None:
        """Raises TakesLong if a folder may be too large to list in time."""
        if any(status.st_size > SMALL_FOLDER for status in folders):
            raise TakesLong
