"""Logging in and out: by password, second factor, or one-time link; and the choice of language."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.cred.error import UnauthorizedLogin
from twisted.logger import Logger

from postoffice.accounts.credentials import PlainLogin
from postoffice.model import log_events
from postoffice.model.address import Account
from postoffice.model.envelope import SessionInfo
from postoffice.model.errors import AccountDisabled, TooManyTries
from postoffice.model.log_event import Event, tell
from postoffice.web import languages, second_factor
from postoffice.web.application import CODE_PAGE, LOGIN_PAGE, session_cookie
from postoffice.web.page_group import PageGroup
from postoffice.web.routes import ANYONE, OWNER, PENDING, Route
from postoffice.web.values import NotServed, Response, redirect
from postoffice.web.visit import Visit
from postoffice.web.web_db import LOGIN, Administrator

log = Logger("postoffice")

#: The page where the second factor is set up, and the start page.
FACTOR_PAGE, HOME = "/second-factor", "/"
#: The mechanisms of logins, in the log and in the login history.
PASSWORD, LINK = "PASSWORD", "LINK"
#: Wrong codes in one session, after which it ends.
WRONG_CODES = 5
_YEAR = 365 * 86400


class LoginPages(PageGroup):
    """The pages of a login, of the second factor, and of one-time links."""

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", LOGIN_PAGE, ANYONE, self.form),
            Route("POST", LOGIN_PAGE, ANYONE, self.log_in),
            Route("GET", CODE_PAGE, PENDING, self.code_form),
            Route("POST", CODE_PAGE, PENDING, self.give_code),
            Route("GET", "/link", ANYONE, self.link_form),
            Route("POST", "/link", ANYONE, self.use_link),
            Route("POST", "/logout", ANYONE, self.log_out),
            Route("POST", "/language", ANYONE, self.choose_language),
            Route("GET", FACTOR_PAGE, OWNER, self.factor_form),
            Route("POST", FACTOR_PAGE, OWNER, self.set_factor, confirm=FACTOR_PAGE),
            Route("POST", f"{FACTOR_PAGE}/remove", OWNER, self.remove_factor, confirm=FACTOR_PAGE),
        )

    # -- password ----------------------------------------------------------------------------

    async def form(self, visit: Visit) -> Response:
        """Show the form of the login."""
        if visit.session is not None and not visit.session.pending:
            return redirect(HOME)
        return self._pages.page(visit, "login.html", address="", why="")

    async def log_in(self, visit: Visit) -> Response:
        """Check address and password; the failure does not say which of them was wrong."""
        address = visit.filled("address")
        password = visit.request.filled("password").encode("utf-8", "surrogateescape")
        login = PlainLogin(
            address.encode("utf-8", "surrogateescape"), password, visit.request.client, "web"
        )
        try:
            account = await self._context.check(login)
        except UnauthorizedLogin:
            self._tell(log_events.LOGIN_REFUSED, visit, user=address)
            text = "The address or the password is wrong. App passwords do not work here."
            return self._again(visit, address, visit.text(text))
        except AccountDisabled:
            self._tell(log_events.LOGIN_DISABLED, visit, user=address)
            return self._again(visit, address, visit.text("This account is disabled."))
        except TooManyTries:
            text = "There were too many wrong passwords. Try again in a few minutes."
            return self._again(visit, address, visit.text(text), 429)
        return await self._begin(visit, account, PASSWORD)

    def _again(self, visit: Visit, address: str, why: str, status: int = 403) -> Response:
        return self._pages.page(visit, "login.html", status, address=address, why=why)

    async def _begin(self, visit: Visit, account: Account, how: str) -> Response:
        """Begin a session; it waits for the second factor, if the account has one."""
        found = await self._administrator(account.address)
        if visit.session is not None:
            self._state.sessions.end(visit.session)
        pending = found is not None and bool(found.totp)
        token, session = self._state.sessions.begin(
            account,
            pending=pending,
            administrator=found is not None,
            recovered=how == LINK,
        )
        cookie = session_cookie(visit.request, token)
        if pending:
            return redirect(CODE_PAGE, (cookie,))
        visit.session, visit.account = session, account
        self._note(visit, account, how)
        return redirect(self._start(visit, found), (cookie,))

    def _start(self, visit: Visit, found: Administrator | None) -> str:
        """Return the first page: an administrator may have to set up the second factor."""
        away = not visit.request.at_the_machine
        missing = found is not None and not found.totp and away
        return FACTOR_PAGE if missing else HOME

    async def _administrator(self, account: str) -> Administrator | None:
        return await self._state.executor.run(self._state.web_db.administrator, account)

    def _note(self, visit: Visit, account: Account, how: str) -> None:
        """Write a login to the log and to the history."""
        client, session = visit.request.client, visit.own_session
        tls = "TLS" if client.encrypted else ""
        self._tell(log_events.LOGIN, visit, account=account.address, mechanism=how)
        info = SessionInfo(session.id, "web", client, mechanism=how, tls=tls)
        self._context.note_login(account, info)

    def _tell(self, event: Event, visit: Visit, **fields: object) -> None:
        client = visit.request.client
        tls = "TLS" if client.encrypted else ""
        id_ = visit.session.id if visit.session is not None else ""
        tell(log, event, id=id_, service="web", client=client.address or "local", tls=tls, **fields)

    # -- second factor -----------------------------------------------------------------------

    async def code_form(self, visit: Visit) -> Response:
        """Ask for the code."""
        return self._pages.page(visit, "code.html", why="")

    async def give_code(self, visit: Visit) -> Response:
        """Check the code; each code works once."""
        session, account = visit.own_session, visit.owner
        found = await self._administrator(account.address)
        if found is None or not found.totp:
            self._state.sessions.end(session)
            return redirect(LOGIN_PAGE)
        if not await self._code_is_right(found, visit.filled("code")):
            session.wrong_codes += 1
            self._tell(log_events.LOGIN_REFUSED, visit, user=account.address, mechanism="TOTP")
            if session.wrong_codes >= WRONG_CODES:
                self._state.sessions.end(session)
                return redirect(LOGIN_PAGE)
            why = visit.text("That code is wrong, or was used before. Wait for the next one.")
            return self._pages.page(visit, "code.html", 403, why=why)
        self._state.sessions.end(session)
        how = LINK if session.recovered else PASSWORD
        token, begun = self._state.sessions.begin(
            account, administrator=True, recovered=session.recovered
        )
        begun.second_factor = True
        visit.session = begun
        self._note(visit, account, f"{how}+TOTP")
        return redirect(HOME, (session_cookie(visit.request, token),))

    async def _code_is_right(self, found: Administrator, code: str) -> bool:
        if not self._state.codes.spend(found.account):
            return False
        step = second_factor.matching_step(found.totp, code, self._state.now())
        return step is not None and await self._state.executor.run(
            self._state.web_db.use_code, found.account, step
        )

    async def factor_form(self, visit: Visit) -> Response:
        """Show how the second factor is set up, to an administrator."""
        found = await self._own_administration(visit)
        if found.totp:
            return self._pages.page(visit, "factor.html", state="set", secret="", picture="")
        if not self._may_set_up(visit):
            return self._pages.page(visit, "factor.html", state="locked", secret="", picture="")
        session = visit.own_session
        session.proposed_secret = session.proposed_secret or second_factor.new_secret()
        address = second_factor.address_for_apps(
            session.proposed_secret, visit.owner.address, self._context.hostname
        )
        return self._pages.page(
            visit,
            "factor.html",
            state="new",
            secret=" ".join(_groups(session.proposed_secret)),
            picture=second_factor.picture(address),
        )

    async def set_factor(self, visit: Visit) -> Response:
        """Set the second factor, when its first code is right."""
        found = await self._own_administration(visit)
        session, secret = visit.own_session, visit.own_session.proposed_secret
        if found.totp or not secret or not self._may_set_up(visit):
            return redirect(FACTOR_PAGE)
        step = second_factor.matching_step(secret, visit.filled("code"), self._state.now())
        if step is None or not self._state.codes.spend(found.account):
            session.say(
                visit.text("That code is wrong. Is the clock of your phone right?"), "failed"
            )
            return redirect(FACTOR_PAGE)
        run, web_db = self._state.executor.run, self._state.web_db
        await run(web_db.set_totp, found.account, secret)
        await run(web_db.use_code, found.account, step)
        session.proposed_secret, session.second_factor, session.administrator = "", True, True
        self._state.sessions.end_all(found.account, but=session)
        self._context.note_change(visit, "second factor set")
        session.say(visit.text("From now on each login asks for a code, too."))
        return redirect(HOME)

    async def remove_factor(self, visit: Visit) -> Response:
        """Remove the second factor, to set up another one."""
        found = await self._own_administration(visit)
        if not found.totp or not visit.own_session.second_factor:
            return redirect(FACTOR_PAGE)
        await self._state.executor.run(self._state.web_db.set_totp, found.account, "")
        visit.own_session.second_factor = False
        visit.own_session.recovered = True  # so that another one can be set up at once
        self._state.sessions.end_all(found.account, but=visit.own_session)
        self._context.note_change(visit, "second factor removed")
        return redirect(FACTOR_PAGE)

    async def _own_administration(self, visit: Visit) -> Administrator:
        found = await self._administrator(visit.owner.address)
        if found is None:
            raise NotServed(403, "Only administrators may see this page.")
        return found

    def _may_set_up(self, visit: Visit) -> bool:
        """Return whether the browser is at this machine, or a one-time link was used."""
        return visit.request.at_the_machine or visit.own_session.recovered

    # -- one-time links ----------------------------------------------------------------------

    async def link_form(self, visit: Visit) -> Response:
        """Show whose link it is; only the button uses it, so that no preview does."""
        token = visit.request.asked("token")
        found = await self._state.executor.run(self._state.web_db.look_at_link, LOGIN, token)
        if found is None:
            raise NotServed(404, "This link is unknown, was used before, or is too old.")
        return self._pages.page(visit, "link.html", account=found.account, token=token)

    async def use_link(self, visit: Visit) -> Response:
        """Log in with a one-time link."""
        token = visit.request.filled("token")
        found = await self._state.executor.run(self._state.web_db.use_link, LOGIN, token)
        account = None if found is None else await self._context.directory.find(found.account)
        if account is None or not account.logs_in:
            self._tell(log_events.LOGIN_REFUSED, visit, mechanism=LINK)
            raise NotServed(404, "This link is unknown, was used before, or is too old.")
        return await self._begin(visit, account, LINK)

    # -- the rest ----------------------------------------------------------------------------

    async def log_out(self, visit: Visit) -> Response:
        """End the session of this browser."""
        if visit.session is not None:
            self._state.sessions.end(visit.session)
        return redirect(LOGIN_PAGE, (session_cookie(visit.request, ""),))

    async def choose_language(self, visit: Visit) -> Response:
        """Remember the language in a cookie, and go back to the page."""
        chosen, back = visit.filled("language"), visit.filled("back")
        if not back.startswith("/") or back.startswith(("//", "/\\")) or not back.isprintable():
            back = HOME
        if chosen not in languages.LANGUAGES:
            return redirect(back)
        secure = "; Secure" if visit.request.client.encrypted else ""
        cookie = (
            f"{languages.COOKIE}={chosen}; Path=/; Max-Age={_YEAR}; HttpOnly; SameSite=Lax{secure}"
        )
        return redirect(back, (cookie,))


def _groups(text: str) -> list[str]:
    return [text[start : start + 4] for start in range(0, len(text), 4)]
