"""The base class of groups of pages."""

from __future__ import annotations

from collections.abc import Sequence

from postoffice.web.context import WebContext
from postoffice.web.pages import Pages
from postoffice.web.routes import Route


class PageGroup:
    """Pages that belong together: their routes, and what their handlers work with."""

    def __init__(self, context: WebContext, pages: Pages) -> None:
        self._context = context
        self._state = context.state
        self._pages = pages

    def routes(self) -> Sequence[Route]:
        """Return the routes to the handlers of the group."""
        raise NotImplementedError
