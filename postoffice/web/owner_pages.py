"""The pages of the owner of an account.  Each asks only for what belongs to the account."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.web.context import WebContext
from postoffice.web.pages import Pages
from postoffice.web.routes import OWNER, Route
from postoffice.web.values import Response, redirect
from postoffice.web.visit import Visit

#: Days whose logins are shown.
_LOGINS = 60 * 86400.0


class OwnerPages:
    """The start page of an owner."""

    def __init__(self, context: WebContext, pages: Pages) -> None:
        self._context = context
        self._pages = pages

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return (
            Route("GET", "/", OWNER, self.home),
            Route("POST", "/sessions/end", OWNER, self.end_sessions),
        )

    async def home(self, visit: Visit) -> Response:
        """Show the last logins, and the sessions of browsers."""
        state, account = self._context.state, visit.owner.address
        since = state.now() - _LOGINS
        logins = await state.executor.run(self._context.login_history.used, since, account)
        others = len(state.sessions.of(account)) - 1
        return self._pages.page(visit, "home.html", logins=logins[:20], others=others)

    async def end_sessions(self, visit: Visit) -> Response:
        """Log out all other browsers."""
        ended = self._context.state.sessions.end_all(visit.owner.address, but=visit.own_session)
        self._context.note_change(visit, f"{ended} other sessions ended")
        visit.own_session.say(visit.text("All other browsers are logged out."))
        return redirect("/")
