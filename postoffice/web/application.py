"""The application: from a request to its answer, by the table of routes; no sockets."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from postoffice.accounts.credentials import PlainLogin
from postoffice.model import log_events
from postoffice.model.errors import AccountDisabled, PostOfficeError, TemporaryFailure, TooManyTries
from postoffice.model.log_event import tell, tell_failure
from postoffice.util.networks import network_of
from postoffice.web import languages, protection
from postoffice.web.context import WebContext
from postoffice.web.pages import Pages, static_answer
from postoffice.web.routes import ADMINISTRATOR, ANYONE, PENDING, Route, Routes
from postoffice.web.values import NotServed, Response, WebRequest, redirect
from postoffice.web.visit import Visit

log = Logger("postoffice")

#: The cookie of a session: over HTTPS no other host, and no page of HTTP, can set it.
SECURE_COOKIE, PLAIN_COOKIE = "__Host-postoffice", "postoffice"
#: The pages of a login: the password, and the code of the second factor.
LOGIN_PAGE, CODE_PAGE = "/login", "/login/code"


class Application:
    """Answers requests.  Only here is decided, by the routes, who may ask for a page."""

    def __init__(self, context: WebContext, pages: Pages, routes: Routes) -> None:
        self._context = context
        self._pages = pages
        self.routes = routes

    async def answer(self, request: WebRequest) -> Response:
        """Return the answer to a request, whatever happens."""
        language = languages.chosen(
            request.cookies.get(languages.COOKIE, ""), request.headers.get("accept-language", "")
        )
        visit = Visit(request, language)
        try:
            response = await self._answer(visit)
        except CancelledError:
            raise
        except NotServed as why:
            response = self._failed(visit, why.status, visit.text(why.text))
        except TemporaryFailure as failure:
            response = self._not_now(visit, failure)
        except Exception:
            response = self._fault(visit)
        return replace(response, headers={**protection.headers_for(request), **response.headers})

    async def _answer(self, visit: Visit) -> Response:
        request = visit.request
        self._limit(request)
        if request.path.startswith("/static/"):
            found = static_answer(self._pages, request.path.removeprefix("/static/"))
            if found is not None and request.method in ("GET", "HEAD"):
                return found
        route, parts, methods = self.routes.find(request.method, request.path)
        if route is None or not route.public:
            self._guard(request)
        if route is None:
            return self._no_route(visit, methods)
        visit.parts = parts
        if not route.public:
            await self._recognize(visit)
        if (elsewhere := self._elsewhere(route, visit)) is not None:
            return elsewhere
        if route.changes and route.who != ANYONE:
            self._check_token(visit)
        if route.confirm and not await self._confirmed(visit):
            return redirect(route.confirm)
        if visit.session is None:
            return await route.handler(visit)
        handling = partial(route.handler, visit)
        return await self._context.state.turns.take(visit.session.account, handling)

    # -- who may -----------------------------------------------------------------------------

    def _limit(self, request: WebRequest) -> None:
        """Raise NotServed if this client asks too often."""
        who = network_of(request.client.address) if request.client.address else ""
        state = self._context.state
        enough = state.requests.spend(who)
        if request.method not in ("GET", "HEAD"):
            enough = state.changes.spend(who) and enough
        if not enough:
            raise NotServed(429, "Too many requests came from your network. Wait a minute.")

    def _guard(self, request: WebRequest) -> None:
        """Raise NotServed for a foreign host name, a connection in clear, or a foreign form."""
        if not protection.is_our_host(request, self._context.hosts):
            raise NotServed(421, "This page is not served under that host name (web.hosts).")
        if not protection.is_private(request):
            raise NotServed(
                403,
                "This page is served only by HTTPS, because passwords would be sent in clear. If "
                "there is a web server in front of it: web.proxies must name it, and it must set "
                "X-Forwarded-For and X-Forwarded-Proto.",
            )
        if not protection.is_from_us(request):
            raise NotServed(403, "This form did not come from this page, so nothing was changed.")

    async def _recognize(self, visit: Visit) -> None:
        """Find the session, and read its account as it is now."""
        cookie = SECURE_COOKIE if visit.request.client.encrypted else PLAIN_COOKIE
        sessions = self._context.state.sessions
        session = sessions.find(visit.request.cookies.get(cookie, ""))
        if session is None:
            return
        account = await self._context.directory.find(session.account)
        if not sessions.still_holds(session, account):
            sessions.end(session)
            return
        visit.session, visit.account = session, account
        visit.confirmed = sessions.is_confirmed(session)
        if session.administrator and not session.pending:
            visit.administrator = await self._may_administer(visit)

    async def _may_administer(self, visit: Visit) -> bool:
        """Whether the account is still an administrator, with a second factor if it needs one."""
        state = self._context.state
        found = await state.executor.run(state.web_db.administrator, visit.own_session.account)
        if found is None:
            return False
        if found.totp:
            return visit.own_session.second_factor
        return visit.request.at_the_machine

    def _elsewhere(self, route: Route, visit: Visit) -> Response | None:
        """Return a redirection if the visit may not ask for this route; None if it may."""
        if route.who == ANYONE:
            return None
        pending = visit.session is not None and visit.session.pending
        if visit.session is None:
            return self._to_login(visit, LOGIN_PAGE)
        if pending != (route.who == PENDING):
            return self._to_login(visit, CODE_PAGE if pending else "/")
        if route.who == ADMINISTRATOR and not visit.administrator:
            raise NotServed(403, "Only administrators may see this page.")
        return None

    def _to_login(self, visit: Visit, path: str) -> Response:
        if visit.request.headers.get("hx-request"):  # a redirection would end in a part of the page
            return Response(401, headers={"HX-Redirect": path})
        return redirect(path)

    def _check_token(self, visit: Visit) -> None:
        if not visit.own_session.has_token(visit.request.filled("csrf")):
            raise NotServed(403, "This form is too old, so nothing was changed. Load it again.")

    async def _confirmed(self, visit: Visit) -> bool:
        """Whether the password was given a short while ago, or with this form."""
        sessions, session = self._context.state.sessions, visit.own_session
        if sessions.is_confirmed(session):
            return True
        password = visit.request.filled("current_password").encode("utf-8", "surrogateescape")
        login = PlainLogin(session.account.encode(), password, visit.request.client, "web")
        try:
            found = await self._context.check(login)
        except UnauthorizedLogin:
            session.say(visit.text("That is not your password, so nothing was changed."), "failed")
            return False
        except (TooManyTries, AccountDisabled):
            session.say(visit.text("There were too many wrong passwords. Try later."), "failed")
            return False
        if found.address != session.account:
            return False
        sessions.confirm(session)
        return True

    # -- failures ----------------------------------------------------------------------------

    def _no_route(self, visit: Visit, methods: list[str]) -> Response:
        if methods:
            response = self._failed(visit, 405, visit.text("That cannot be done with this page."))
            return replace(response, headers={"Allow": ", ".join(methods)})
        return self._failed(visit, 404, visit.text("There is no such page."))

    def _failed(self, visit: Visit, status: int, text: str) -> Response:
        return self._pages.page(visit, "failed.html", status, text=text)

    def _not_now(self, visit: Visit, failure: PostOfficeError) -> Response:
        """Answer that something we need fails, and may work later."""
        id_ = self._report(visit, str(failure))
        text = visit.text("This does not work at the moment. Try again later. (%(id)s)", id=id_)
        return self._failed(visit, 503, text)

    def _fault(self, visit: Visit) -> Response:
        id_ = secrets.token_hex(4)
        why = f"{visit.request.method} {visit.request.path} failed"
        client = visit.request.client.address or "local"
        tell_failure(log, log_events.FAULT, id=id_, service="web", client=client, why=why)
        text = visit.text("This is a fault of the program. Its log has more, under %(id)s.", id=id_)
        return self._failed(visit, 500, text)

    def _report(self, visit: Visit, why: str) -> str:
        id_ = secrets.token_hex(4)
        account = visit.session.account if visit.session is not None else ""
        where: Mapping[str, object] = {"client": visit.request.client.address or "local"}
        tell(log, log_events.FAILED, id=id_, service="web", **where, account=account, why=why)
        return id_


def session_cookie(request: WebRequest, token: str) -> str:
    """Return the Set-Cookie value of a session; an empty token removes the cookie."""
    secure = request.client.encrypted
    name = SECURE_COOKIE if secure else PLAIN_COOKIE
    ends = "; Max-Age=0" if not token else ""
    return f"{name}={token}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}{ends}"
