"""Listings and measured sizes of Maildirs, kept in memory from login to login."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from postoffice.model.listing import Entries, Entry
from postoffice.store.names import Measured
from postoffice.store.oddities import OddFile, with_twins
from postoffice.util.cache import Cache


class MeasuredSizes:
    """
    Sizes of messages that had to be measured, kept while the file stays the same.

    A measured size takes precedence over the one in the file's name, which may be wrong.
    """

    LIMIT = 100_000

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[int, int, Measured]] = {}

    def get(self, status: os.stat_result) -> Measured | None:
        """The sizes of a file with this status, or None."""
        known = self._known.get((status.st_dev, status.st_ino))
        if known is None or known[:2] != (status.st_size, status.st_mtime_ns):
            return None
        return known[2]

    def set(self, status: os.stat_result, measured: Measured) -> None:
        """Keep the sizes of a file."""
        if len(self._known) >= self.LIMIT:
            self._known.clear()
        self._known[status.st_dev, status.st_ino] = (status.st_size, status.st_mtime_ns, measured)


@dataclass(frozen=True)
class Snapshot:
    """A maildrop as it was listed: its messages, oldest first, and the state of its folders."""

    entries: Entries
    stamp: tuple[int, ...] | None  # None: too recent to detect a later change
    twins: tuple[Entry, ...] = ()  # further files of messages that are listed
    odd: tuple[OddFile, ...] = ()  # files that are not listed

    @property
    def files(self) -> int:
        """How many files the maildrop has."""
        return len(self.entries) + len(self.twins) + len(self.odd)

    def whole(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """These entries with the other files of the same messages: all must be removed."""
        return with_twins(entries, self.twins)


class ListingCache:
    """The last snapshot of each maildrop; the least recently used ones are dropped."""

    #: Octets of memory of all snapshots; a message takes some hundred.
    LIMIT = 64 << 20
    #: For how many maildrops the last change is kept.
    CHANGES = 20_000

    def __init__(self) -> None:
        self._snapshots: Cache[str, Snapshot] = Cache(self.LIMIT, weigh=_weight)
        self._moment = 0
        self._changes: OrderedDict[str, int] = OrderedDict()  # when each was last changed by us
        self._forgotten = 0  # the moment of the last change of any other

    def get(self, folder: str) -> Snapshot | None:
        """The last snapshot of a maildrop, or None."""
        return self._snapshots.get(folder)

    @property
    def moment(self) -> int:
        """A counter of changes, for the argument ``since`` of ``remember``."""
        return self._moment

    def changed(self, folder: str) -> None:
        """
        We added or removed mail: the next login lists the folders again, whatever their mtimes.

        What is known of single messages is kept.
        """
        self._moment += 1
        self._changes[folder] = self._moment
        self._changes.move_to_end(folder)
        if len(self._changes) > self.CHANGES:
            _, self._forgotten = self._changes.popitem(last=False)
        known = self._snapshots.get(folder)
        if known is not None and known.stamp is not None:
            self._snapshots.change(folder, replace(known, stamp=None))

    def remember(self, folder: str, snapshot: Snapshot, since: int) -> None:
        """Keep a snapshot; without its stamp if we changed the maildrop after ``since``."""
        if self._changes.get(folder, self._forgotten) > since:
            snapshot = replace(snapshot, stamp=None)
        self._snapshots.set(folder, snapshot)

    def forget(self, folder: str) -> None:
        """Drop the snapshot of a maildrop."""
        self._snapshots.pop(folder)


def _weight(snapshot: Snapshot) -> int:
    return snapshot.entries.weight
