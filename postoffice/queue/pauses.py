"""The domains that an administrator has paused: no mail is sent to them."""

from __future__ import annotations

from postoffice.queue.pending_rows import PendingRows
from postoffice.queue.queue_db import QueueDB

#: Stands for all domains.
ALL = "*"


class Pauses:
    """Which domains are paused; ``queue.db`` keeps them."""

    def __init__(self, db: QueueDB, rows: PendingRows) -> None:
        self._db = db
        self._rows = rows
        self._since: dict[str, float] = {}

    def __contains__(self, domain: str) -> bool:
        return domain in self._since or ALL in self._since

    @property
    def names(self) -> list[str]:
        """The domains that are paused; ALL for all."""
        return sorted(self._since)

    async def load(self) -> None:
        """Read which domains are paused."""
        self._since = await self._rows.run(self._db.paused)

    async def pause(self, domain: str, now: float) -> None:
        """Send nothing to a domain, or to any, until ``resume``."""
        await self._rows.run(self._db.pause, domain, now)
        await self.load()

    async def resume(self, domain: str, now: float) -> bool:
        """Send to a domain again; False if it was not paused."""
        resumed = await self._rows.run(self._db.resume, domain)
        await self.load()
        await self._rows.run(self._db.unpark, domain, now)
        return resumed
