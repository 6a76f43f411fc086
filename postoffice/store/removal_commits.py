"""Removals of several sessions in one commit of the journal: one append and one sync for all."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from postoffice.interfaces import Executor
from postoffice.store.expunge import SharedTicket
from postoffice.store.journal.journal import Journal
from postoffice.store.journal.records import RemoveRecord
from postoffice.util.batched_calls import BatchedCalls

#: The most removals in one commit: each has ``expunge.AT_ONCE`` names at most, and all fit into
#: a segment.
TOGETHER = 64


class RemovalCommits:
    """Commits removals; those that arrive during a commit go into the next one together."""

    def __init__(self, executor: Executor, journal: Journal) -> None:
        self._journal = journal
        self._commits = BatchedCalls(executor, self.commit_all, TOGETHER)

    def commit(self, removal: RemoveRecord) -> Deferred[SharedTicket]:
        """
        Commit a removal.  Raises TemporaryFailure, OSError; then nothing is removed.

        The caller is never cancelled: it has to apply what is committed.
        """
        return self._commits.add(removal)

    def commit_all(self, removals: Sequence[RemoveRecord]) -> list[SharedTicket]:
        """Commit ``TOGETHER`` removals at most, all or nothing.  Blocks."""
        ticket = self._journal.append(lambda: list(removals))
        assert ticket is not None
        return [SharedTicket(self._journal, ticket, len(removals))] * len(removals)
