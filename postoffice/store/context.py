"""What all sessions of a store share."""

from __future__ import annotations

from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from postoffice.interfaces import Executor
from postoffice.store.journal.journal import Journal
from postoffice.store.listing_cache import ListingCache, MeasuredSizes
from postoffice.store.pace import Pace
from postoffice.store.removal_commits import RemovalCommits
from postoffice.store.set_aside import Report


@dataclass(frozen=True)
class StoreContext:
    """
    What all sessions of a store share.

    ``undelete``: seconds that the vault keeps a message.  ``most``: the most octets
    in the vault of one maildrop (``vault.trim``).  ``removals`` are under way.
    """

    executor: Executor
    sizes: MeasuredSizes
    listings: ListingCache
    clock: IReactorTime
    pace: Pace
    report: Report
    journal: Journal | None = None
    commits: RemovalCommits | None = None
    undelete: float = 0.0
    most: int | None = None
    removals: set[Deferred[None]] = field(default_factory=set)
