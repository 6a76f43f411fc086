"""Short work of the disk on the reactor's thread, as long as the disk is quick."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from postoffice.store import vault
from postoffice.store.files import is_on

#: Seconds that such work may take; what is not done by then is done on another thread.
LIMIT = 0.005
#: Seconds after which it is tried again where it took longer: at first, and at most.
PAUSE = 1.0
PAUSE_MAXIMUM = 60.0
#: How many maildrops are remembered that are on the store's own file system.
NEAR = 100_000
#: Octets of a folder that can be listed in that time.
SMALL_FOLDER = 16 << 10


class TakesLong(Exception):
    """This is nothing for the reactor's thread."""


class Pace:
    """
    Whether the disk is quick enough to be waited for on the reactor's thread.

    A trip to another thread costs several times what the work itself does: at
    each system call the thread gives the interpreter away, and has to get it
    back from the reactor.  But a slow disk must not hold all clients up: where
    work took longer than ``LIMIT``, other threads do it for a while.  And a
    maildrop is only looked at here once it is known to be ``near``: on the
    store's own file system, and not on one that may hang while that works, or
    to which its vault would have to be copied.
    """

    def __init__(self, seconds: Callable[[], float], device: int) -> None:
        self._seconds = seconds
        self._device = device
        self._near: set[str] = set()
        self._pause = PAUSE
        self._not_before = 0.0

    @property
    def quick(self) -> bool:
        """Whether short work may be done here and now."""
        return self._seconds() >= self._not_before

    def is_near(self, folder: str) -> bool:
        """Whether a maildrop is known to be near."""
        return folder in self._near

    def get_to_know(self, folder: str) -> None:
        """Look whether a maildrop is near; not on the reactor's thread."""
        kept = vault.path_of(folder)
        if all(is_on(one, self._device) for one in (folder, os.path.dirname(kept), kept)):
            if len(self._near) >= NEAR:
                self._near.clear()
            self._near.add(folder)
        else:
            self._near.discard(folder)

    @contextmanager
    def short(self) -> Iterator[Limit]:
        """Work that is done here; how long it takes decides where the next is done."""
        began = self._seconds()
        try:
            yield Limit(self._seconds, began + LIMIT)
        finally:
            now = self._seconds()
            if now - began > LIMIT:
                self._not_before = now + self._pause
                self._pause = min(2 * self._pause, PAUSE_MAXIMUM)
            else:
                self._pause = max(self._pause / 2, PAUSE)


class Limit:
    """Until when work on the reactor's thread has to be done."""

    def __init__(self, seconds: Callable[[], float], until: float) -> None:
        self._seconds = seconds
        self._until = until

    @property
    def passed(self) -> bool:
        """Whether it has taken too long."""
        return self._seconds() > self._until

    def look(self) -> None:
        """Raises TakesLong where it has taken too long."""
        if self.passed:
            raise TakesLong

    def look_at(self, *folders: str) -> None:
        """Raises TakesLong where one of them may have too many names."""
        for folder in folders:
            with suppress(OSError):  # who lists it finds out
                if os.stat(folder).st_size > SMALL_FOLDER:
                    raise TakesLong
