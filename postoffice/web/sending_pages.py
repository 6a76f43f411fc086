"""What an owner sends to other domains: what waits, what is held, and how much may be sent."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.queue.queue_db import Row
from postoffice.queue.selection import Selection, state_of
from postoffice.web.page_group import PageGroup
from postoffice.web.routes import OWNER, Route
from postoffice.web.values import Response
from postoffice.web.visit import Visit

#: Messages that are shown at most.
SHOWN = 50


class SendingPages(PageGroup):
    """The page of what the visit's account has sent."""

    def routes(self) -> Sequence[Route]:
        return (Route("GET", "/sending", OWNER, self.shown),)

    async def shown(self, visit: Visit) -> Response:
        """Show what waits in the queue, and what counts."""
        context, account = self._context, visit.owner.address
        sending = context.sending if context.way_out else None
        rows = await self._waiting(account)
        return self._pages.page(
            visit,
            "sending.html",
            way_out=context.way_out,
            state=await sending.state(account) if sending is not None else None,
            rows=[(row, state_of(row.next, row.held)) for row in rows[:SHOWN]],
            more=len(rows) > SHOWN,
        )

    async def _waiting(self, account: str) -> Sequence[Row]:
        manager = self._context.manager()
        if manager is None:
            return ()
        return await manager.admin.page(Selection(login=account), most=SHOWN + 1)
