"""Who may ask for what: over all routes, read off the table."""

from __future__ import annotations

import re
from dataclasses import replace

import pyotp
import pytest

from postoffice.model.envelope import Client
from postoffice.web import site
from postoffice.web.pages import Pages
from postoffice.web.protection import HEADERS, STRICT_TRANSPORT
from postoffice.web.routes import ADMINISTRATOR, ANYONE, OWNER, PENDING, WHO, Route, Routes
from postoffice.web.values import Response
from tests.web.whole_site import ADMIN, ANNA, Browser, Site

SECRET = pyotp.random_base32()


def everybody(folder) -> dict[str, Browser]:
    """A browser of each kind, all by HTTPS from elsewhere, on one site."""
    whole = Site(folder)
    nobody, owner = whole.browser(), whole.logged_in(ANNA)
    whole.web_db.set_totp(ADMIN, SECRET)
    half, boss = whole.logged_in(ADMIN), whole.logged_in(ADMIN)
    boss.post("/login/code", code=pyotp.TOTP(SECRET).at(int(whole.now())))
    boss.follow()
    assert boss.response.status == 200
    return {ANYONE: nobody, PENDING: half, OWNER: owner, ADMINISTRATOR: boss}


@pytest.fixture(scope="module")
def reaching(tmp_path_factory):
    """Everybody, on a site whose handlers say only that they were reached."""

    async def reached(visit):
        return Response(299, b"reached")

    browsers = everybody(tmp_path_factory.mktemp("site"))
    whole = browsers[ANYONE].site
    routes = whole.application.routes.all
    whole.application.routes = Routes(replace(one, handler=reached) for one in routes)
    yield browsers
    whole.close()


class _Any:
    """Stands for a context that is only handed on."""

    def __getattr__(self, name: str):
        return self


#: The routes, which are the same in every site.
ROUTES = site.all_routes(_Any(), Pages("mail.example.net"))


def reached(browser: Browser, route: Route, **changes) -> int:
    """Ask for a route, as its own forms do; return the status, 299 if it was reached."""
    form = {"csrf": changes.pop("token", browser.csrf)} if route.changes else {}
    path = route.path.replace("{", "").replace("}", "")
    browser.site.state.requests.forget("192.0.2.7")
    browser.site.state.changes.forget("192.0.2.7")
    return browser.ask(route.method, path, form, **changes).status


def changing() -> list[Route]:
    return [route for route in ROUTES if route.changes and not route.public]


def test_a_route_is_reached_only_by_those_it_is_for(reaching):
    for route in ROUTES:
        for who in WHO:
            status = reached(reaching[who], route)
            may = route.who in (ANYONE, who) or (route.who, who) == (OWNER, ADMINISTRATOR)
            assert (status == 299) if may else status in (303, 403), (route, who, status)


def test_no_other_site_can_make_a_browser_change_anything(reaching):
    forged = [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "https://mail.example.net"},
        {"origin": "https://elsewhere.example"},
        {"origin": "http://mail.example.net"},
        {"origin": "https://mail.example.net:8443"},
        {"origin": "null"},
        {},
    ]
    for route in changing():
        for who in WHO:
            for one in forged:
                headers = {"host": "mail.example.net", **one}
                status = reached(reaching[who], route, headers=headers)
                assert status == 403, (route, who, one)


def test_a_form_without_its_token_changes_nothing(reaching):
    """The first form of a browser has no session, so no token: its origin must do."""
    for route in changing():
        if route.who != ANYONE:
            browser, other = reaching[route.who], reaching[ANYONE]
            right = browser.csrf
            for token in ("", "x", other.csrf, right[:-1], right + "é"):
                assert reached(browser, route, token=token) == 403, (route, token)
                browser.csrf = right


def test_forms_of_older_browsers_say_their_origin(reaching):
    headers = {"host": "mail.example.net", "origin": "https://mail.example.net"}
    for route in changing():
        if route.who == OWNER:
            assert reached(reaching[OWNER], route, headers=headers) == 299, route


def test_only_public_routes_are_served_in_clear_or_under_other_names(reaching):
    browser = reaching[ADMINISTRATOR]
    for route in ROUTES:
        cookies = {} if route.who == ANYONE else browser.cookies
        clear = reached(browser, route, client=Client("192.0.2.7"), cookies=cookies)
        headers = {**browser.headers, "host": "evil.example"}
        misled = reached(browser, route, headers=headers)
        wanted = (299, 299) if route.public else (403, 421)
        assert (clear, misled) == wanted, route


def test_what_is_public_changes_nothing_and_asks_for_nobody():
    """Autodiscover asks with POST, and is only read."""
    for route in ROUTES:
        reads = route.method == "GET" or route.path.lower() == "/autodiscover/autodiscover.xml"
        assert not route.public or (reads and route.who == ANYONE)


def test_each_path_and_method_is_there_once():
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_all_answers_protect_and_no_page_has_a_script_or_a_style_of_its_own(tmp_path):
    browsers = everybody(tmp_path)
    for who, browser in browsers.items():
        for route in [*ROUTES, Route("GET", "/nothing-here", ANYONE, ROUTES[0].handler)]:
            if route.changes:
                continue
            reached(browser, route)
            headers = browser.response.headers
            for header, value in HEADERS.items():
                assert headers[header] == value or (route.public and header == "Cache-Control")
            assert headers["Strict-Transport-Security"] == STRICT_TRANSPORT
            assert "'unsafe" not in headers["Content-Security-Policy"]
            assert not re.search(r"<[^>]*\s(style|on\w+)=", browser.text), (who, route)
            scripts = re.findall(r"<script[^>]*>", browser.text)
            assert all('src="/static/' in one for one in scripts), (who, route)
    browser.site.close()
