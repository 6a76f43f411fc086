"""Admission: at RCPT, whether a message would fit into a maildrop's quota and on the disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from postoffice.interfaces import Executor
from postoffice.model.address import Quota
from postoffice.model.errors import NoSpace
from postoffice.store.files import failures, open_folder
from postoffice.store.pace import Pace
from postoffice.store.quota import maildirsize
from postoffice.store.quota.usage_file import Usage
from postoffice.util.cache import Cache

#: Seconds for which a maildrop's usage is remembered; for how many maildrops.
LIFETIME = 5.0
REMEMBERED = 10_000


class FreeSpace:
    """
    Refuses mail while fewer than ``least`` octets are free on the disk of ``path``.

    Fetching and deleting mail needs some space of its own, which this leaves.  The
    disk is asked at most once in ``SECOND`` seconds.
    """

    SECOND = 1.0

    def __init__(
        self, path: str, least: int, executor: Executor, seconds: Callable[[], float]
    ) -> None:
        self._path = path
        self._least = least
        self._executor = executor
        self._seconds = seconds
        self._until = 0.0
        self._free = sys.maxsize

    async def check(self) -> None:
        """Raises NoSpace."""
        if not self._least:
            return
        if self._seconds() >= self._until:
            self._free = await self._executor.run(free, self._path)
            self._until = self._seconds() + self.SECOND
        if self._free < self._least:
            raise NoSpace(
                f"{self._path}: {self._free} octets are free, fewer than store.free_space: refused"
            )


def free(path: str) -> int:
    """Octets that are free for users other than root; sys.maxsize if the disk does not say."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return sys.maxsize
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else sys.maxsize


class Admission:
    """
    Answers at RCPT whether a message would fit, from a usage that may be seconds old.

    The commit decides exactly.  ``seconds`` is a clock.  ``pace`` says whether a maildirsize
    is read on the reactor's thread.
    """

    def __init__(self, executor: Executor, seconds: Callable[[], float], pace: Pace) -> None:
        self._executor = executor
        self._pace = pace
        self._known: Cache[str, Usage] = Cache(REMEMBERED, seconds)

    def came(self, folder: str, size: int) -> None:
        """A message of this size was committed to a maildrop."""
        held = self._known.get(folder)
        if held is not None:
            self._known.change(folder, Usage(held.octets + size, held.messages + 1))

    async def admits(self, folder: str, limit: Quota, size: int) -> bool:
        """
        Whether a message of this size fits; with ``over: make-room``, into an empty maildrop.

        Raises TemporaryFailure.
        """
        if limit.over == "make-room":
            return limit.holds(size, 1)
        held = self._known.get(folder)
        if held is not None and _fits(limit, held, size):
            return True
        held = self._read_quickly(folder, limit)
        if held is None or not _fits(limit, held, size):
            held = await self._executor.run(self._usage, folder, limit, size)
        self._known.set(folder, held, LIFETIME)
        return _fits(limit, held, size)

    def _read_quickly(self, folder: str, limit: Quota) -> Usage | None:
        """The usage in the maildirsize; None if it is not valid, or reading may take long."""
        if not self._pace.may_stay(folder):
            return None
        with self._pace.short():
            return maildirsize.usage_of(folder, limit)

    def _usage(self, folder: str, limit: Quota, size: int) -> Usage:
        held = usage(folder, limit, size)
        if held.messages and not self._pace.is_near(folder):
            self._pace.get_to_know(folder)
        return held


def usage(folder: str, limit: Quota, size: int) -> Usage:
    """The usage of a maildrop; recounted if ``size`` does not fit.  Raises TemporaryFailure."""
    with failures(folder):
        try:
            with open_folder(folder) as fd:
                return maildirsize.has_room(fd, limit, Usage(size, 1))[1]
        except FileNotFoundError:  # never used, or another process is creating it
            return Usage(0, 0)


def _fits(limit: Quota, held: Usage, size: int) -> bool:
    return limit.holds(held.octets + size, held.messages + 1)
