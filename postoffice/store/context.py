"""What all sessions of a store share."""

from __future__ import annotations

from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from postoffice.interfaces import Executor
from postoffice.store.files import Report
from postoffice.store.journal.journal import Journal
from postoffice.store.listing_cache import ListingCache, MeasuredSizes
from postoffice.store.pace import Pace
from postoffice.store.removal_commits import RemovalCommits


@dataclass(frozen=True)
class StoreContext:
    """
    What all sessions of a store share.

    ``undelete``: seconds that the vault keeps a message.  ``vault_limit``: octets that
    may be in the vault of one maildrop (``vault.trim``).  ``removals`` are under way.
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
    vault_limit: int | None = None
    removals: set[Deferred[None]] = field(default_factory=set)
