"""The administrators' pages of the queue: messages that wait, and where they go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlencode

from postoffice.model.address import NotAnAddress, normal_domain
from postoffice.queue.manager import QueueManager
from postoffice.queue.queue_db import Row
from postoffice.queue.selection import STATES, Selection, state_of
from postoffice.web.page_group import PageGroup
from postoffice.web.routes import ADMINISTRATOR, Route
from postoffice.web.values import NotServed, Response, redirect
from postoffice.web.visit import Visit

#: Rows of one page.
PAGE = 50
_NAMES = ("to", "sender", "login", "state")


class QueuePages(PageGroup):
    """The queue and the destinations, changed by the same functions as by ``postoffice queue``."""

    def routes(self) -> Sequence[Route]:
        queue, destinations = "/admin/queue", "/admin/destinations"
        return (
            Route("GET", queue, ADMINISTRATOR, self.queue),
            Route("GET", f"{queue}/message", ADMINISTRATOR, self.message),
            Route("POST", f"{queue}/retry", ADMINISTRATOR, self.retry),
            Route("POST", f"{queue}/hold", ADMINISTRATOR, self.hold),
            Route("POST", f"{queue}/release", ADMINISTRATOR, self.release),
            Route("POST", f"{queue}/remove", ADMINISTRATOR, self.remove, confirm=queue),
            Route("POST", f"{queue}/bounce", ADMINISTRATOR, self.bounce, confirm=queue),
            Route("GET", destinations, ADMINISTRATOR, self.destinations),
            Route("POST", f"{destinations}/pause", ADMINISTRATOR, self.pause),
            Route("POST", f"{destinations}/resume", ADMINISTRATOR, self.resume),
        )

    def _manager(self) -> QueueManager:
        """Return the queue manager.  Raises NotServed if the daemon sends nothing."""
        manager = self._context.office.manager()
        if manager is None:
            raise NotServed(409, "This daemon sends nothing: its configuration has no outbound.")
        return manager

    async def queue(self, visit: Visit) -> Response:
        """List the messages that wait, page by page."""
        manager = self._context.office.manager()
        wanted = {name: visit.request.asked(name).strip()[:320] for name in _NAMES}
        if wanted["state"] not in STATES:
            wanted["state"] = ""
        selection = Selection(
            to=wanted["to"],
            sender=wanted["sender"],
            login=wanted["login"],
            state=wanted["state"],
        )
        name, _, lane = visit.request.asked("after").partition(" ")
        rows: list[Row] = []
        count = 0
        if manager is not None:
            rows = await manager.admin.page(selection, (name, lane), PAGE + 1)
            count = await manager.admin.count(selection)
        following = ""
        if len(rows) > PAGE:
            last = rows[PAGE - 1]
            given = {key: value for key, value in wanted.items() if value}
            following = urlencode({**given, "after": f"{last.name} {last.lane}"})
        return self._pages.page(
            visit, "admin/queue.html", rows=[(row, _state(row)) for row in rows[:PAGE]],
            wanted=wanted, states=STATES, count=count, following=following,
            after=name, sends=manager is not None,
        )  # fmt: skip

    async def message(self, visit: Visit) -> Response:
        """Show one message: its recipients, and the last attempt of each."""
        id_ = visit.request.asked("id")
        rows = await self._manager().admin.select(Selection(ids=(id_,))) if id_ else []
        if not rows:
            raise NotServed(404, "No such message waits. What became of it is in the log.")
        return self._pages.page(
            visit, "admin/message.html", first=rows[0], rows=[(row, _state(row)) for row in rows]
        )

    # -- changes -----------------------------------------------------------------------------

    async def retry(self, visit: Visit) -> Response:
        """Try a message again at once."""
        return await self._change(visit, "tried again", self._manager().admin.retry)

    async def hold(self, visit: Visit) -> Response:
        """Hold a message until it is released."""
        why = f"by {visit.owner.address}"

        async def hold(selection: Selection) -> list[Row]:
            return await self._manager().admin.hold(selection, why)

        return await self._change(visit, "held", hold)

    async def release(self, visit: Visit) -> Response:
        """Send a message that was held."""
        return await self._change(visit, "released", self._manager().admin.release)

    async def remove(self, visit: Visit) -> Response:
        """Remove a message; nobody is told."""
        return await self._change(visit, "removed", self._manager().admin.remove)

    async def bounce(self, visit: Visit) -> Response:
        """Return a message to its sender."""
        return await self._change(visit, "bounced", self._manager().bounce)

    async def _change(
        self, visit: Visit, what: str, change: Callable[[Selection], Awaitable[list[Row]]]
    ) -> Response:
        id_ = visit.filled("id")
        if not id_:
            raise NotServed(400, "The form names no message.")
        rows = await change(Selection(ids=(id_,)))
        if rows:
            self._context.note_change(visit, f"message {id_} {what}", rows[0].login)
            visit.own_session.say(visit.text("The message was changed."))
        else:
            visit.own_session.say(
                visit.text("Nothing was changed: the message is being sent now, or is gone."),
                "failed",
            )
        return redirect("/admin/queue")

    # -- destinations ------------------------------------------------------------------------

    async def destinations(self, visit: Visit) -> Response:
        """List where mail goes, how much waits, and which destinations do not answer."""
        manager = self._context.office.manager()
        found = [] if manager is None else await manager.destinations()
        paused = [] if manager is None else manager.pauses.names
        return self._pages.page(
            visit, "admin/destinations.html", destinations=found, paused=paused,
            sends=manager is not None,
        )  # fmt: skip

    async def pause(self, visit: Visit) -> Response:
        """Send nothing to a domain for now."""
        text = "Sending to %(domain)s is paused."
        return await self._switch(visit, self._manager().pause, "paused", text)

    async def resume(self, visit: Visit) -> Response:
        """Send to a domain again."""
        text = "Mail is sent to %(domain)s again."
        return await self._switch(visit, self._manager().resume, "resumed", text)

    async def _switch(
        self, visit: Visit, switch: Callable[[str], Awaitable[object]], done: str, text: str
    ) -> Response:
        domain = _domain(visit)
        await switch(domain)
        self._context.note_change(visit, f"sending to {domain} {done}")
        visit.own_session.say(visit.text(text, domain=domain))
        return redirect("/admin/destinations")


def _domain(visit: Visit) -> str:
    try:
        return normal_domain(visit.filled("domain"))
    except NotAnAddress as error:
        raise NotServed(400, "That is not a domain.") from error


def _state(row: Row) -> str:
    return state_of(row.next, row.held)
