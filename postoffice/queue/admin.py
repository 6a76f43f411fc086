"""What an administrator does with messages in the queue: list, hold, release, retry, remove."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.interfaces import IMailQueue
from postoffice.model import log_events
from postoffice.model.log_event import paths, tell
from postoffice.model.queued_message import QueuedMessage
from postoffice.queue.pending_rows import PendingRows
from postoffice.queue.queue_db import QueueDB, Row, by_name
from postoffice.queue.selection import Selection

log = Logger("postoffice")

#: Rows that one question of the command removes or returns at most; and messages that are removed
#: at the same time, in one commit.
PORTION, TOGETHER = 1000, 64


class Memory(Protocol):
    """What a running daemon has in memory of the queue."""

    def note(self) -> None:
        """Write the rows of all items that have none."""

    async def take_back(self, names: Iterable[str]) -> set[str]:
        """
        Take messages out of memory, so that only ``queue.db`` has them.

        Returns the names of those that are being sent at this moment, and stay.
        """

    def probe_now(self) -> None:
        """Try destinations that did not answer at the next look, not when their probe is due."""

    def left(self, name: str, message: QueuedMessage) -> None:
        """A message has left the queue."""


class NoMemory:
    """The memory where no daemon runs."""

    def note(self) -> None:
        """There is nothing."""

    async def take_back(self, names: Iterable[str]) -> set[str]:
        """Nothing is being sent."""
        return set()

    def probe_now(self) -> None:
        """The next start tries them."""

    def left(self, name: str, message: QueuedMessage) -> None:
        """The next start counts."""


class QueueAdmin:
    """
    Changes messages that wait in ``queue``; each method returns the rows that it has changed.

    A message that is being sent at this moment is left as it is.
    """

    def __init__(
        self, queue: IMailQueue, db: QueueDB, rows: PendingRows, memory: Memory | None = None
    ) -> None:
        self._queue = queue
        self._db = db
        self._rows = rows
        self._memory = memory or NoMemory()

    async def select(self, selection: Selection, most: int | None = None) -> list[Row]:
        """The rows that fit, at most so many, the oldest messages first."""
        self._memory.note()
        return await self._rows.run(self._db.select, *selection.sql(), most)

    async def portion(self, selection: Selection) -> tuple[Selection, str]:
        """
        Return the first portion of a selection, and the name of its last message.

        The next portion begins ``after`` that; the name is "" if this is the last portion.
        """
        rows = await self.select(selection, PORTION + 1)
        if len(rows) <= PORTION:
            return selection, ""
        names = sorted({row.name for row in rows})
        last = names[-2] if len(names) > 1 else names[-1]
        return replace(selection, until=last), last

    async def page(
        self, selection: Selection, after: tuple[str, str] = ("", ""), most: int = 50
    ) -> list[Row]:
        """Return at most so many of the rows that fit, after this name and lane."""
        self._memory.note()
        which, values = selection.sql()
        which = f"({which}) AND (name, lane) > (?, ?)"
        return await self._rows.run(self._db.select, which, [*values, *after], most)

    async def count(self, selection: Selection) -> int:
        """Return how many messages fit."""
        return await self._rows.run(self._db.count, *selection.sql())

    async def states(self) -> dict[str, int]:
        """Return how many messages are in each state that any is in."""
        self._memory.note()
        return await self._rows.run(self._db.states)

    async def retry(self, selection: Selection) -> list[Row]:
        """Try messages again at once, but for those that are held."""
        changed = await self._change(selection, lambda row: None if row.held else _at_once(row))
        self._memory.probe_now()
        return changed

    async def hold(self, selection: Selection, why: str) -> list[Row]:
        """Do not send messages until they are released."""
        return await self._change(selection, lambda row: row._replace(held=row.held or why))

    async def release(self, selection: Selection) -> list[Row]:
        """Send messages that were held."""
        return await self._change(
            selection, lambda row: _at_once(row)._replace(held="") if row.held else None
        )

    async def _change(self, selection: Selection, change: Callable[[Row], Row | None]) -> list[Row]:
        rows = await self.take(selection, lambda row: change(row) not in (None, row))
        changed = [new for row in rows if (new := change(row)) is not None]
        self._rows.put(rows)  # if the change cannot be written
        await self._rows.run(self._write, changed)
        return changed

    def _write(self, rows: Sequence[Row]) -> None:
        self._db.write(rows, durable=True)

    async def remove(self, selection: Selection) -> list[Row]:
        """Remove messages; nobody is told."""
        rows = await self.take(selection)
        left = by_name(rows)
        try:
            messages = await self._queue.read(list(left))
            found = dict(zip(list(left), messages, strict=True))
            for start in range(0, len(found), TOGETHER):
                await self._remove_together(list(found)[start : start + TOGETHER], found, left)
        except BaseException:
            self._rows.put(row for its in left.values() for row in its)
            raise
        return rows

    async def _remove_together(
        self,
        names: Sequence[str],
        found: Mapping[str, QueuedMessage | None],
        left: dict[str, list[Row]],
    ) -> None:
        """Remove messages at the same time; delete those that were removed from ``left``."""
        removing = [
            Deferred.fromCoroutine(self._remove(name, left[name], found[name])) for name in names
        ]
        failure: Failure | None = None
        outcomes = await DeferredList(removing, consumeErrors=True)
        for name, (well, outcome) in zip(names, outcomes, strict=True):
            if well:
                del left[name]
            else:
                failure = outcome
        if failure is not None:
            failure.raiseException()

    async def _remove(self, name: str, its: list[Row], message: QueuedMessage | None) -> None:
        """Remove rows of one message."""
        if message is not None:
            done = {index for row in its for index in row.indexes(message)}
            whole = not message.with_marks(done, ()).left
            await self._queue.finish(name, done, whole=whole)
            if whole:
                self._memory.left(name, message)
            for row in its:
                for to in paths(row.recipients.split()):
                    tell(log, log_events.RECIPIENTS_REMOVED, id=row.id, to=to)
        self._rows.forget((row.name, row.lane) for row in its)

    async def totals(self) -> tuple[float | None, int]:
        """Return when the oldest message came (Unix time; None: none waits); how many are held."""
        return await self._rows.run(self._db.totals)

    async def take(
        self, selection: Selection, wanted: Callable[[Row], bool] = lambda _: True
    ) -> list[Row]:
        """Claim the rows that fit and are not being sent, so that nothing else changes them."""
        rows = await self.select(selection)
        busy = await self._memory.take_back({row.name for row in rows})
        idle = {(row.name, row.lane) for row in rows if row.name not in busy}
        in_any_state = replace(selection, state="")  # rows that were taken back have another one
        return await self._rows.run(
            self._db.take,
            *in_any_state.sql(),
            lambda row: (row.name, row.lane) in idle and wanted(row),
        )


def _at_once(row: Row) -> Row:
    return row._replace(next=0.0)
