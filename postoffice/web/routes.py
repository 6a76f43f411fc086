"""The table of routes: every page and action, who may use it, and what answers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from postoffice.web.values import Response
from postoffice.web.visit import Visit

#: Who may: everybody; somebody who has given the password, but not yet the second factor; the
#: owner of an account; an administrator.
ANYONE, PENDING, OWNER, ADMINISTRATOR = WHO = ("anyone", "pending", "owner", "administrator")

Handler = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    """
    One page (GET) or one action (POST).

    ``path`` may have parts in braces, which match a part of a path: ``/mail/{uidl}``; the
    handler finds them in ``visit.parts``.  ``confirm`` is set for a dangerous action: its form asks
    for the password again (``current_password``, see the macro ``confirm``); if that is wrong, the
    browser is sent to the page ``confirm``.  ``public`` routes are served under every host name,
    and over HTTP too: they have no secrets, and change nothing.
    """

    method: str
    path: str
    who: str
    handler: Handler
    confirm: str = ""
    public: bool = False

    @property
    def changes(self) -> bool:
        """Whether it may change something."""
        return self.method == "POST"


class Routes:
    """All routes, found by method and path; the path of a page is served to HEAD, too."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.all: Sequence[Route] = tuple(routes)
        self._plain: dict[str, list[Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], Route]] = []
        for route in self.all:
            assert route.method in ("GET", "POST")
            assert route.who in WHO
            if "{" in route.path:
                self._patterns.append((_pattern(route.path), route))
            else:
                self._plain.setdefault(route.path, []).append(route)

    def find(self, method: str, path: str) -> tuple[Route | None, Mapping[str, str], list[str]]:
        """Return the route, the parts of its path, and the methods that this path has."""
        method = "GET" if method == "HEAD" else method
        found: list[tuple[Route, Mapping[str, str]]] = [
            (route, {}) for route in self._plain.get(path, ())
        ] or [
            (route, match.groupdict())
            for pattern, route in self._patterns
            if (match := pattern.fullmatch(path))
        ]
        methods = [route.method for route, _ in found]
        for route, parts in found:
            if route.method == method:
                return route, parts, methods
        return None, {}, methods


def _pattern(path: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", path)
    return re.compile(
        "".join(
            f"(?P<{piece}>[^/]{{1,512}})" if number % 2 else re.escape(piece)
            for number, piece in enumerate(pieces)
        )
    )
