"""What the queue manager has in memory: messages, and their items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from postoffice.interfaces import IMailQueue
from postoffice.model.queued_message import QueuedMessage
from postoffice.queue.destinations import Held, Item
from postoffice.queue.queue_db import Row, by_name
from postoffice.queue.rows import Rows

#: Which part of all items one lane may have; and how many of a lane come in although there are
#: as many as there should be.
LANE_SHARE, FEW = 10, 5


class Active:
    """
    Messages of which something is in memory, by their names, and all items.

    ``most`` are the items that should be here at most.
    """

    def __init__(self, queue: IMailQueue, rows: Rows, most: int) -> None:
        self.most = most
        self._queue = queue
        self._rows = rows
        self._held: dict[str, Held] = {}
        self._items: dict[tuple[str, str], Item] = {}

    @property
    def most_of_lane(self) -> int:
        """How many items one lane may have here, so that no domain takes all the room."""
        return max(self.most // LANE_SHARE, 1)

    def has_room(self, largest: int) -> bool:
        """Whether a message comes in whose largest lane has so many items here."""
        if len(self) < self.most:
            return largest < self.most_of_lane
        return largest < FEW and len(self) < 2 * self.most

    def __len__(self) -> int:
        """How many items there are."""
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items.values())

    def __contains__(self, name: str) -> bool:
        """Whether something of a message is in memory."""
        return name in self._held

    def __getitem__(self, name: str) -> Held:
        return self._held[name]

    def hold(self, name: str, message: QueuedMessage) -> Held:
        """Take a message into memory."""
        held = self._held[name] = Held(name, message)
        return held

    def add(self, item: Item) -> None:
        """Take an item into memory."""
        item.held.uses += 1
        item.held.items.add(item)
        self._items[item.key] = item

    def done_with(self, item: Item) -> None:
        """An item is finished, or waits in ``queue.db`` again."""
        if self._items.pop(item.key, None) is not None:
            item.held.uses -= 1
            item.held.items.discard(item)
            self.let_go(item.held)

    def let_go(self, held: Held) -> None:
        """Forget a message of which nothing is in memory any more."""
        if not (held.uses or held.saving) and self._held.get(held.name) is held:
            del self._held[held.name]

    def of(self, names: Iterable[str]) -> list[Item]:
        """The items of these messages."""
        wanted = set(names)
        return [item for item in self if item.held.name in wanted]

    async def read_claimed(self, rows: Sequence[Row]) -> dict[str, list[Row]]:
        """Read what rows are about that were claimed; if that fails, they are free again."""
        try:
            return await self.read(rows)
        except BaseException:
            self._rows.put(rows)
            raise

    async def read(self, rows: Iterable[Row]) -> dict[str, list[Row]]:
        """Have the messages that rows are about in memory; return the rows of each by its name."""
        found = by_name(rows)
        known = [self[name] for name in found if name in self]
        unknown = [name for name in found if name not in self]
        for held in known:
            held.uses += 1  # it stays meanwhile
        try:
            messages = await self._queue.read(unknown)
        except BaseException:
            for held in known:
                held.uses -= 1
                self.let_go(held)
            raise
        for held in known:
            held.uses -= 1
        for name, message in zip(unknown, messages, strict=True):
            if name in self:
                continue
            if message is None or not message.left:
                self._rows.forget((row.name, row.lane) for row in found.pop(name))
            else:
                self.hold(name, message)
        return found
