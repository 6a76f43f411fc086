"""The start page of the owner of an account."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.interfaces import IMaildropIntake
from postoffice.web import summaries
from postoffice.web.page_group import PageGroup
from postoffice.web.routes import OWNER, Route
from postoffice.web.values import Response, redirect
from postoffice.web.visit import Visit

#: Seconds in which logins are shown, and how many.
LOGINS, SHOWN = 60 * 86400.0, 12
#: The share of a quota from which its owner is warned.
NEARLY = 0.8


class OwnerPages(PageGroup):
    """The start page: room, last mail, last logins; everything is the visit's account's own."""

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/", OWNER, self.home),
            Route("POST", "/sessions/end", OWNER, self.end_sessions),
        )

    async def home(self, visit: Visit) -> Response:
        """Show the room that is used, the last message, and the last logins."""
        context, account = self._context, visit.owner
        messages, octets = await context.store.count(account.maildrop)
        quota = context.quota_of(account)
        since = context.state.now() - LOGINS
        used = context.login_history.used
        written = dict(await context.executor.run(used, since, account.address))
        newest = written | dict(context.unwritten_logins(account.address))
        logins = sorted(newest.items(), key=lambda one: -one[1])
        return self._pages.page(
            visit,
            "home.html",
            messages=messages,
            octets=octets,
            quota=quota,
            share=quota.share(octets, messages),
            nearly=NEARLY,
            last=await self._last_message(visit),
            logins=logins[:SHOWN],
            others=len(context.state.sessions.of(account.address)) - 1,
        )

    async def _last_message(self, visit: Visit) -> summaries.Summary | None:
        store = self._context.store
        if not IMaildropIntake.providedBy(store):
            return None
        reader = store.reader(visit.owner.maildrop)
        found = await self._state.executor.run(summaries.newest, reader, 0, 1)
        return next(iter(found.summaries), None)

    async def end_sessions(self, visit: Visit) -> Response:
        """Log out all other browsers."""
        ended = self._state.sessions.end_all(visit.owner.address, but=visit.own_session)
        self._context.note_change(visit, f"{ended} other sessions ended")
        visit.own_session.say(visit.text("All other browsers are logged out."))
        return redirect("/")
