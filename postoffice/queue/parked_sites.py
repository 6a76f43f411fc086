"""Sites of which no host answers: their mail waits in ``queue.db``, and one message probes."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from postoffice.model.errors import TemporaryFailure
from postoffice.queue.destinations import Site, domain_of
from postoffice.queue.outcomes import Outcomes
from postoffice.queue.pauses import Pauses
from postoffice.queue.pending_rows import PendingRows
from postoffice.queue.queue_db import QueueDB, Row

log = Logger("postoffice")


class ParkedSites:
    """Parks mail for a site, and releases it when a host answers."""

    def __init__(
        self,
        db: QueueDB,
        rows: PendingRows,
        outcomes: Outcomes,
        pauses: Pauses,
        now: Callable[[], float],
    ) -> None:
        self._db = db
        self._rows = rows
        self._outcomes = outcomes
        self._pauses = pauses
        self._now = now
        self._lanes: set[str] = set()  # whose due rows are to be parked

    def park(self, site: Site) -> None:
        """No host of a site answers: move all its items to ``queue.db`` until one does."""
        site.parked.update(site.lanes)
        self._lanes.update(site.lanes)
        for lane in site.lanes.values():
            for item in lane.clear():
                self._outcomes.park(item, site.reply)
        site.lanes.clear()

    async def unpark(self, site: Site) -> None:
        """A site answers again: release its mail."""
        lanes, site.parked = list(site.parked), set()
        self._lanes.difference_update(lanes)
        try:
            await self._rows.run(self._db.release, lanes, self._now())
        except TemporaryFailure as error:  # the next look tries it again
            site.parked.update(lanes)
            log.error(
                "releasing mail for {to} failed, retrying: {error}", to=site.name, error=error
            )

    async def look(self) -> None:
        """Park due rows of sites that do not answer, without reading their messages."""
        lanes, self._lanes = list(self._lanes), set()
        if lanes:
            await self._rows.run(self._db.park, lanes, self._now())

    async def probes(self, site: Site) -> list[Row]:
        """Claim a message to probe a site with, if a probe is due; release one that answers."""
        if site.parked and not site.failures:
            await self.unpark(site)
        due = site.failures and not site.connections and self._now() >= site.probe
        if not due or site.lanes:
            return []
        lanes = [key for key in site.parked if domain_of(key) not in self._pauses]
        rows = await self._rows.run(self._db.claim_parked, lanes)
        if not rows:
            site.parked &= self._lanes
        return rows
