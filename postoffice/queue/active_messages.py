"""The messages that the queue manager has in memory, and their items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from postoffice.interfaces import IMailQueue
from postoffice.model.queued_message import QueuedMessage
from postoffice.queue.destinations import ActiveMessage, Item
from postoffice.queue.pending_rows import PendingRows
from postoffice.queue.queue_db import Row, by_name

#: One lane may have this part of all items; and a few of each lane come in although memory is full.
LANE_SHARE, FEW = 10, 5


class ActiveMessages:
    """
    The messages that are in memory, by their names, and their items.

    There should be at most ``most`` items.
    """

    def __init__(self, queue: IMailQueue, rows: PendingRows, most: int) -> None:
        self.most = most
        self._queue = queue
        self._rows = rows
        self._messages: dict[str, ActiveMessage] = {}
        self._items: dict[tuple[str, str], Item] = {}

    @property
    def most_of_lane(self) -> int:
        """How many items one lane may have here, so that no domain takes all the room."""
        return max(self.most // LANE_SHARE, 1)

    def has_room(self, largest: int) -> bool:
        """Whether there is room for a message, if the largest of its lanes has so many items."""
        if len(self) < self.most:
            return largest < self.most_of_lane
        return largest < FEW and len(self) < 2 * self.most

    def __len__(self) -> int:
        """How many items there are."""
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items.values())

    def __contains__(self, name: str) -> bool:
        """Whether a message is in memory."""
        return name in self._messages

    def __getitem__(self, name: str) -> ActiveMessage:
        return self._messages[name]

    def load(self, name: str, message: QueuedMessage) -> ActiveMessage:
        """Take a message into memory."""
        active = self._messages[name] = ActiveMessage(name, message)
        return active

    def add(self, item: Item) -> None:
        """Take an item into memory."""
        item.active.uses += 1
        item.active.items.add(item)
        self._items[item.key] = item

    def remove(self, item: Item) -> None:
        """Forget an item that is finished, or waits in ``queue.db`` again."""
        if self._items.pop(item.key, None) is not None:
            item.active.uses -= 1
            item.active.items.discard(item)
            self.unload_unused(item.active)

    def unload_unused(self, active: ActiveMessage) -> None:
        """Forget a message that has no items in memory any more."""
        if not (active.uses or active.saving) and self._messages.get(active.name) is active:
            del self._messages[active.name]

    def of(self, names: Iterable[str]) -> list[Item]:
        """The items of these messages."""
        wanted = set(names)
        return [item for item in self if item.active.name in wanted]

    async def read_claimed(self, rows: Sequence[Row]) -> dict[str, list[Row]]:
        """Read the messages of claimed rows; if that fails, the rows are no longer claimed."""
        try:
            return await self.read(rows)
        except BaseException:
            self._rows.put(rows)
            raise

    async def read(self, rows: Iterable[Row]) -> dict[str, list[Row]]:
        """Read the messages of rows into memory; return the rows of each message by its name."""
        found = by_name(rows)
        known = [self[name] for name in found if name in self]
        unknown = [name for name in found if name not in self]
        for active in known:
            active.uses += 1  # so that it stays in memory meanwhile
        try:
            messages = await self._queue.read(unknown)
        except BaseException:
            for active in known:
                active.uses -= 1
                self.unload_unused(active)
            raise
        for active in known:
            active.uses -= 1
        for name, message in zip(unknown, messages, strict=True):
            if name in self:
                continue
            if message is None or not message.left:
                self._rows.forget((row.name, row.lane) for row in found.pop(name))
            else:
                self.load(name, message)
        return found
