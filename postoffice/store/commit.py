"""
The commit of a batch of messages: made durable together, then linked into ``new``.

A message is linked only when it is durable: its file was synced, or the
journal has it (``durability``).  The queue before it is ``batcher``; a commit
that a crash cut off is recovered by ``journal.redo``.
"""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.store import drafts, queue_files
from postoffice.store.batch import Batch, check_place
from postoffice.store.drafts import Draft, QueueRemoval
from postoffice.store.durability import Durability, Journaled, SyncedFiles
from postoffice.store.files import failure
from postoffice.store.journal.journal import Journal
from postoffice.store.open_folders import FolderPool
from postoffice.store.quota.enforcement import QuotaEnforcement
from postoffice.store.quota.reservations import Reservations


def commit_batch(
    wanted: Sequence[Draft],
    journal: Journal | None = None,
    enforcement: QuotaEnforcement | None = None,
    pool: FolderPool | None = None,
    removals: Sequence[QueueRemoval] = (),
) -> list[Exception | None]:
    """
    Put messages into all their maildrops; return, for each message, None or its error.

    The messages are durable when it returns.  The journal is synced once for the
    batch; without a journal, each file and folder is.  A message with an error
    is in none of its maildrops.  A draft that is ``apart`` has no error if only
    some maildrops failed: its ``missed`` names those.

    No maildrop is created here.  If a maildrop's path leads to another folder
    than when the delivery began, the maildrop was discarded, and the delivery
    fails: its sender tries again.  Links are made in the opened folders,
    wherever they are now; after the sync the path is checked again, and the
    link in a folder that was moved away is removed.  So a message is in its
    maildrop before that is discarded, or the delivery fails.
    ``pool`` keeps folders open from batch to batch.

    With a journal, ``removals`` are committed with the messages, whatever becomes of these:
    ``committed`` says so.
    """
    with (pool or FolderPool(keep=0)).borrowed() as folders:
        batch = Batch(wanted, folders, removals)
        durability = SyncedFiles(batch) if journal is None else Journaled(batch, journal)
        with Commit(batch, Reservations(batch, enforcement), durability) as commit:
            commit.run()
        return batch.outcomes()


class Commit:
    """The steps of one commit; at its exit, what failed is undone."""

    def __init__(self, batch: Batch, reservations: Reservations, durability: Durability) -> None:
        self._batch = batch
        self._reservations = reservations
        self._durability = durability

    def run(self) -> None:
        """Commit the batch."""
        self._batch.each(drafts.finish)
        self._reservations.reserve()
        self._durability.make_durable()
        for turn in self._batch.turns():
            self._settle(turn)
        self._batch.each(self._durability.remove, self._batch.removing())
        self._batch.remove_others(queue_files.carry_out)

    def __enter__(self) -> Commit:
        return self

    def __exit__(self, *why: object) -> None:
        try:
            self._durability.end(failed=why[0] is not None)
        finally:
            self._reservations.end()
            for draft in self._batch.drafts:
                drafts.drop(draft)
            for ref in self._batch.suspect:
                self._batch.folders.forget(ref)

    def _link(self, draft: Draft) -> None:
        """Link a draft's file into ``new`` of each of its maildrops."""
        drafts.check(draft)  # dropped: nobody waits for it, and its sender tries again
        for ref in draft.refs:
            if ref in draft.missed:
                continue
            try:
                self._durability.link(draft, ref)
            except OSError as error:
                if not draft.apart:
                    raise
                draft.missed[ref] = failure(ref.path, error)
            else:
                self._batch.linked.append((draft, ref))

    def _settle(self, drafts: Sequence[Draft]) -> None:
        """Link drafts, sync the names, and check that no maildrop was moved away meanwhile."""
        before = len(self._batch.linked)
        self._batch.each(self._link, drafts)
        linked = self._batch.linked[before:]
        refs = {ref for _, ref in linked}
        gone = self._durability.sync_names(refs) | self._batch.check(refs, check_place)
        if gone:
            for draft, ref in linked:
                if ref in gone:
                    self._batch.miss(draft, ref, gone[ref])
