"""What is remembered of Maildirs from one login to the next, in memory and within bounds."""

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
    Sizes of messages that had to be measured, remembered while the file stays the same.

    They go before what a file's name says: it may have been caught lying.
    """

    LIMIT = 100_000

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[int, int, Measured]] = {}

    def get(self, status: os.stat_result) -> Measured | None:
        """The sizes of a file that looks like this, if they are known."""
        known = self._known.get((status.st_dev, status.st_ino))
        if known is None or known[:2] != (status.st_size, status.st_mtime_ns):
            return None
        return known[2]

    def set(self, status: os.stat_result, measured: Measured) -> None:
        """Remember."""
        if len(self._known) >= self.LIMIT:
            self._known.clear()
        self._known[status.st_dev, status.st_ino] = (status.st_size, status.st_mtime_ns, measured)


@dataclass(frozen=True)
class Snapshot:
    """What lay in a maildrop, oldest first, and how its folders looked then."""

    entries: Entries
    stamp: tuple[int, ...] | None  # None: too fresh to tell a later change
    twins: tuple[Entry, ...] = ()  # further files of messages that are listed
    odd: tuple[OddFile, ...] = ()  # what is not listed

    @property
    def files(self) -> int:
        """How many files there are."""
        return len(self.entries) + len(self.twins) + len(self.odd)

    def whole(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """These messages, with all their files, to be removed."""
        return with_twins(entries, self.twins)


class ListingCache:
    """The last snapshots of maildrops, for the next login; the least used ones go."""

    #: Octets of memory that they take, all together; a message is some hundred.
    LIMIT = 64 << 20
    #: Maildrops whose last change is known.
    CHANGES = 20_000

    def __init__(self) -> None:
        self._snapshots: Cache[str, Snapshot] = Cache(self.LIMIT, weigh=_weight)
        self._moment = 0
        self._changes: OrderedDict[str, int] = OrderedDict()  # when each was last changed by us
        self._forgotten = 0  # the moment of the last change of any other

    def get(self, folder: str) -> Snapshot | None:
        """The last one of a maildrop, if it is still here."""
        return self._snapshots.get(folder)

    @property
    def moment(self) -> int:
        """A point in time, for ``remember``."""
        return self._moment

    def changed(self, folder: str) -> None:
        """
        Mail of ours came or went: whatever the folders' times say, they are listed again.

        What is known of single messages stays.
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
        """Keep one; its stamp only where nothing of ours came or went ``since`` it was begun."""
        if self._changes.get(folder, self._forgotten) > since:
            snapshot = replace(snapshot, stamp=None)
        self._snapshots.set(folder, snapshot)

    def forget(self, folder: str) -> None:
        """Keep none."""
        self._snapshots.pop(folder)


def _weight(snapshot: Snapshot) -> int:
    return snapshot.entries.weight
