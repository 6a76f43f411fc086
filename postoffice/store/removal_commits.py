"""Removals of several sessions in one commit of the journal: one append and one sync for all."""

from __future__ import annotations

from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from postoffice.interfaces import Executor
from postoffice.store.expunge import SharedTicket
from postoffice.store.journal.journal import Journal
from postoffice.store.journal.records import RemoveRecord

#: The most removals in one commit: each has ``expunge.AT_ONCE`` names at most, and all fit into
#: a segment.
TOGETHER = 64


class _Waiting(NamedTuple):
    removal: RemoveRecord
    committed: Deferred[SharedTicket]


class RemovalCommits:
    """Commits removals; those that arrive during a commit go into the next one together."""

    def __init__(self, executor: Executor, journal: Journal) -> None:
        self._executor = executor
        self._journal = journal
        self._waiting: list[_Waiting] = []
        self._committing = False

    async def commit(self, removal: RemoveRecord) -> SharedTicket:
        """
        Commit a removal.  Raises TemporaryFailure, OSError; then nothing is removed.

        The caller is never cancelled: it has to apply what is committed.
        """
        committed: Deferred[SharedTicket] = Deferred()
        self._waiting.append(_Waiting(removal, committed))
        if not self._committing:
            Deferred.fromCoroutine(self._commit_all())
        return await committed

    async def _commit_all(self) -> None:
        self._committing = True
        while self._waiting:
            group, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
            records = [one.removal for one in group]
            try:
                ticket = await self._executor.run(self._journal.append, records.copy)
            except BaseException:
                failure = Failure()  # type: ignore[no-untyped-call]
                for one in group:
                    one.committed.errback(failure)
            else:
                assert ticket is not None
                shared = SharedTicket(self._journal, ticket, len(group))
                for one in group:
                    one.committed.callback(shared)
        self._committing = False
