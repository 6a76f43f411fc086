"""The administrators' pages: the overview, sessions, the log, and the settings."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from postoffice.doctor.findings import ERROR, WARNING
from postoffice.doctor.queue_checks import check_destinations
from postoffice.logs.files import LogUnreadable
from postoffice.logs.sentences import sentence
from postoffice.logs.story import Story, find
from postoffice.logs.whereabouts import whereabouts
from postoffice.queue.selection import STATES, Selection
from postoffice.web.activity import NAMES
from postoffice.web.admin_accounts import AccountPages
from postoffice.web.admin_addresses import AddressPages
from postoffice.web.admin_aliases import AliasPages
from postoffice.web.admin_queue import QueuePages
from postoffice.web.administration import Administration
from postoffice.web.context import WebContext
from postoffice.web.page_group import PageGroup
from postoffice.web.pages import Pages
from postoffice.web.routes import ADMINISTRATOR, Route
from postoffice.web.settings_view import settings_view
from postoffice.web.values import Response, redirect
from postoffice.web.visit import Visit

#: Sessions in the list, and stories of the log, at most.
SESSIONS, STORIES = 200, 10
#: For how many days back the log can be searched; the first is the default.
DAYS = (1, 7, 30)
_DAY = 86400.0


@dataclass(frozen=True)
class ToldStory:
    """A story of the log: its sentences with their times, and where the message is now."""

    story: Story
    lines: Sequence[tuple[float, str]]
    where: Sequence[str]


class AdminPages(PageGroup):
    """All pages of the administrators."""

    def __init__(self, context: WebContext, pages: Pages) -> None:
        super().__init__(context, pages)
        self._parts = (
            AccountPages(context, pages),
            AliasPages(context, pages),
            AddressPages(context, pages),
            QueuePages(context, pages),
        )

    def routes(self) -> Sequence[Route]:
        """Return the routes of all administrators' pages."""
        return (
            Route("GET", "/admin/overview", ADMINISTRATOR, self.overview),
            Route("GET", "/admin/sessions", ADMINISTRATOR, self.sessions),
            Route("POST", "/admin/sessions/end", ADMINISTRATOR, self.end_sessions),
            Route("GET", "/admin/log", ADMINISTRATOR, self.log),
            Route("GET", "/admin/settings", ADMINISTRATOR, self.settings),
            *(route for part in self._parts for route in part.routes()),
        )

    async def overview(self, visit: Visit) -> Response:
        """Show what the daemon does, and what needs attention."""
        office = self._context.office
        findings = [*await office.findings()]
        manager = office.manager()
        if manager is not None:
            findings += check_destinations(await manager.destinations())
        disk = await self._state.executor.run(_disk, office.settings.state)
        services = Counter(str(one["service"]) for one in office.sessions())
        return self._pages.page(
            visit,
            "admin/overview.html",
            alarms=[one for one in findings if one.level in (ERROR, WARNING)],
            charts=[office.activity.chart(name) for name in NAMES],
            since=office.activity.since,
            sessions=sorted(services.items()),
            queue=await self._queue(office),
            disk=disk,
        )

    async def _queue(self, office: Administration) -> dict[str, int] | None:
        """Return how many messages wait in each state; None if the daemon sends nothing."""
        manager = office.manager()
        if manager is None:
            return None
        counts = await manager.admin.states()
        total = await manager.admin.count(Selection())
        return {**dict.fromkeys(STATES, 0), **counts, "all": total}

    # -- sessions ----------------------------------------------------------------------------

    async def sessions(self, visit: Visit) -> Response:
        """List the sessions that are open now."""
        wanted = visit.request.asked("account").strip().lower()
        every = self._context.office.sessions()
        found = [one for one in every if not wanted or wanted in str(one["account"])]
        found.sort(key=lambda one: float(one["since"]))
        return self._pages.page(
            visit, "admin/sessions.html", sessions=found[:SESSIONS], count=len(found), wanted=wanted
        )

    async def end_sessions(self, visit: Visit) -> Response:
        """End the sessions of an account."""
        name = visit.filled("account")
        ended = self._context.office.end_sessions(name) if name else 0
        ended += self._state.sessions.end_all(name, but=visit.own_session)
        self._context.note_change(visit, f"sessions ended: {ended}", name)
        visit.own_session.say(visit.text("The sessions of %(name)s were ended.", name=name))
        return redirect("/admin/sessions")

    # -- the log -----------------------------------------------------------------------------

    async def log(self, visit: Visit) -> Response:
        """Tell the story of a message or session, as ``postoffice trace`` does."""
        wanted = visit.request.asked("what").strip()
        days = visit.request.asked("days")
        back = int(days) if days in map(str, DAYS) else DAYS[0]
        told: list[ToldStory] = []
        more, why = False, ""
        source = self._context.office.log()
        if wanted and source is not None:
            since = self._context.office.now() - back * _DAY
            try:
                found = await self._state.executor.run(find, source, wanted, since, 0.0, STORIES)
            except LogUnreadable as error:
                why = str(error)
            else:
                told, more = [_told(one) for one in found.stories], found.more
        return self._pages.page(
            visit, "admin/log.html", wanted=wanted, back=back, days=DAYS, told=told, more=more,
            why=why, source=source.name if source is not None else "",
        )  # fmt: skip

    async def settings(self, visit: Visit) -> Response:
        """Show the configuration, and where each value comes from; it cannot be changed here."""
        settings = self._context.office.settings
        return self._pages.page(
            visit,
            "admin/settings.html",
            sections=settings_view(settings),
            file=settings.source.file,
        )


def _told(story: Story) -> ToldStory:
    lines = [(line.time, sentence(line)) for line in story.lines]
    return ToldStory(story, lines, [one.text for one in whereabouts(story)])


def _disk(path: str) -> tuple[int, int]:
    """Return the used and the total octets of a folder's disk.  It blocks."""
    found = os.statvfs(path)
    whole = found.f_blocks * found.f_frsize
    return whole - found.f_bavail * found.f_frsize, whole
