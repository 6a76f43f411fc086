"""Takes due messages into memory, and finds those that have expired or are delayed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from postoffice.queue.active_messages import ActiveMessages
from postoffice.queue.destinations import ActiveMessage
from postoffice.queue.outcomes import Outcomes
from postoffice.queue.pending_rows import PendingRows
from postoffice.queue.queue_db import QueueDB, Row

#: Messages that are read from the store at a time.
PAGE = 500
#: Seconds until rows whose way has changed are tried again, if other rows of the message are in
#: memory or held.
MOVE = 10.0

LanesOf = Callable[[ActiveMessage, Iterable[int]], Mapping[str, object]]
Add = Callable[[ActiveMessage, Iterable[int], Iterable[Row]], None]


class Due:
    """
    Takes claimed rows into memory.

    ``lanes_of`` parts recipients by the names of their lanes; ``add`` makes them wait there.
    """

    def __init__(
        self,
        db: QueueDB,
        rows: PendingRows,
        in_memory: ActiveMessages,
        outcomes: Outcomes,
        now: Callable[[], float],
        lanes_of: LanesOf,
        add: Add,
    ) -> None:
        self._db = db
        self._rows = rows
        self._in_memory = in_memory
        self._outcomes = outcomes
        self._now = now
        self._lanes_of = lanes_of
        self._add = add

    async def bring(self, rows: Sequence[Row]) -> None:
        """Take rows into memory again."""
        moved: dict[str, list[Row]] = {}
        for name, its in (await self._in_memory.read_claimed(rows)).items():
            active = self._in_memory[name]
            if self._lanes_of(active, _left_of(active, its)).keys() <= {row.lane for row in its}:
                self._add(active, _left_of(active, its), its)
            else:
                moved[name] = its
                self._in_memory.unload_unused(active)
        if moved:
            await self._move(moved)

    async def _move(self, moved: Mapping[str, list[Row]]) -> None:
        """
        Take messages into memory whose recipients have another way now.

        All rows of a message come together, as several may now be one row.  If some are in memory,
        the others wait.
        """
        soon = self._now() + MOVE
        self._rows.put(row._replace(next=soon) for its in moved.values() for row in its)
        idle = [name for name in moved if name not in self._in_memory]
        rows, kept = await self._rows.run(self._db.take_whole, idle)
        for name, its in (await self._in_memory.read_claimed(rows)).items():
            active = self._in_memory[name]
            left = _left_of(active, its)
            if any((name, lane) in kept for lane in self._lanes_of(active, left)):
                self._rows.put(row._replace(next=soon) for row in its)
                self._in_memory.unload_unused(active)
            else:
                self._add(active, left, its)

    async def look_at_ages(self) -> bool:
        """Give up messages that have expired, and tell senders of delayed ones."""
        old = await self._rows.run(self._db.expired, self._now(), PAGE)
        await self.each(old, self._outcomes.expired)
        self._outcomes.note_late(self._in_memory)
        late = await self._rows.run(self._db.delayed, self._now(), PAGE)
        self._each(await self._in_memory.read(late), self._outcomes.delayed)
        await self._rows.run(self._db.told, late)
        return len(old) == PAGE or len(late) == PAGE

    async def each(
        self, rows: Sequence[Row], step: Callable[[ActiveMessage, Iterable[Row]], None]
    ) -> None:
        """Call ``step`` with each message of these claimed rows, and its rows."""
        self._each(await self._in_memory.read_claimed(rows), step)

    def _each(
        self, by_name: dict[str, list[Row]], step: Callable[[ActiveMessage, Iterable[Row]], None]
    ) -> None:
        """Call ``step`` with each message, and its rows."""
        for name, its in by_name.items():
            active = self._in_memory[name]
            step(active, its)
            self._in_memory.unload_unused(active)


def _left_of(active: ActiveMessage, rows: Iterable[Row]) -> list[int]:
    """The recipients in rows that are not finished."""
    return sorted({index for row in rows for index in row.indexes(active.message)})
