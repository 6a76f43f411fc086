"""Logging in: passwords, second factors, one-time links, sessions and their ends."""

from __future__ import annotations

from dataclasses import replace

import pyotp
import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from postoffice.accounts.app_passwords import AppPasswordToken
from postoffice.accounts.passwords import hash_password
from postoffice.model.app_password import AppPassword
from postoffice.model.envelope import Client
from postoffice.testing import finish
from postoffice.web.sessions import ABSOLUTE, CONFIRMED, IDLE, MOST_OF_ONE
from postoffice.web.sessions import PENDING as TO_CODE
from postoffice.web.web_db import LOGIN
from tests.web.whole_site import ADMIN, ANNA, AWAY, BERT, HERE, PASSWORD, SECRET

OTHER = hash_password(b"another password")


def test_without_a_session_every_page_leads_to_the_login(site):
    browser = site.browser()
    assert browser.get("/").status == 303
    assert browser.place == "/login"
    assert browser.follow().status == 200


def test_a_login_leads_to_the_own_page(site):
    browser = site.browser()
    assert browser.post("/login", address=ANNA, password=PASSWORD).status == 303
    assert ANNA in browser.follow().body.decode()
    assert "Last logins" in browser.text
    assert "<td>this page</td><td>192.0.2.7</td>" in browser.text
    site.clock.advance(10)  # now it is written
    browser.get("/")
    assert browser.text.count("<td>this page</td>") == 1


def test_the_cookie_is_for_this_host_and_for_no_script(site):
    browser = site.browser()
    browser.post("/login", address=ANNA, password=PASSWORD)
    (cookie,) = browser.response.cookies
    assert cookie.startswith("__Host-postoffice=")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict; Secure")
    here = site.browser(HERE)
    here.post("/login", address=ANNA, password=PASSWORD)
    (plain,) = here.response.cookies
    assert plain.startswith("postoffice=")
    assert "Secure" not in plain


@pytest.mark.parametrize("address", [ANNA, "nobody@example.net", "no address", ""])
def test_a_wrong_login_does_not_say_what_was_wrong(site, address):
    browser = site.browser()
    browser.post("/login", address=address, password="wrong")
    assert browser.response.status == 403
    assert "The address or the password is wrong" in browser.text
    assert not browser.response.cookies


def test_too_many_wrong_passwords_are_told_of(site):
    browser = site.browser()
    browser.get("/login")
    statuses = []
    for number in range(20):
        form = {"address": [ANNA], "password": [f"wrong {number}"]}
        asked = replace(browser.asked, method="POST", path="/login", form=form)
        answering = Deferred.fromCoroutine(site.application.answer(asked))
        site.clock.pump([1] * 6)  # so long a login waits at most
        statuses.append(answering.result.status)
    assert statuses[0] == 403
    assert statuses[-1] == 429


def test_app_passwords_do_not_open_the_page(site):
    password = AppPasswordToken.generate()
    device = AppPassword("phone", password.id, password.digest)
    finish(site.directory.add_app_password(ANNA, device))
    browser = site.browser()
    assert browser.post("/login", address=ANNA, password=password.text).status == 403


def test_a_disabled_account_does_not_get_in(site):
    finish(site.directory.set_state(ANNA, "disabled"))
    browser = site.browser()
    browser.post("/login", address=ANNA, password=PASSWORD)
    assert "This account is disabled." in browser.text


def test_a_session_ends_when_its_account_is_disabled(site):
    browser = site.logged_in()
    finish(site.directory.set_state(ANNA, "disabled"))
    assert browser.get("/").status == 303


def test_a_session_ends_when_the_password_changes(site):
    browser = site.logged_in()
    finish(site.directory.set_secret(ANNA, OTHER))
    assert browser.get("/").status == 303


def test_a_better_hash_of_the_same_password_does_not_end_a_session(site):
    finish(site.directory.set_secret(ANNA, SECRET, None))  # as imported: SCRAM keys will come
    browser = site.logged_in()
    finish(site.directory.set_secret(ANNA, OTHER))
    assert browser.get("/").status == 200
    finish(site.directory.set_secret(ANNA, SECRET))
    assert browser.get("/").status == 303


def test_a_session_ends_after_half_an_hour_of_silence(site):
    browser = site.logged_in()
    site.clock.advance(IDLE - 1)
    assert browser.get("/").status == 200
    site.clock.advance(IDLE)
    assert browser.get("/").status == 303


def test_a_session_ends_after_half_a_day(site):
    browser = site.logged_in()
    for _ in range(int(ABSOLUTE // (IDLE - 1))):
        site.clock.advance(IDLE - 1)
        browser.get("/")
    site.clock.advance(IDLE - 1)
    assert browser.get("/").status == 303


def test_logging_out_ends_the_session_itself(site):
    browser = site.logged_in()
    cookies = dict(browser.cookies)
    browser.post("/logout")
    browser.cookies = cookies
    assert browser.get("/").status == 303


def test_the_sessions_of_one_account_are_bounded(site):
    first = site.logged_in()
    for _ in range(MOST_OF_ONE):
        site.clock.advance(1)
        site.logged_in()
    assert first.get("/").status == 303
    assert len(site.state.sessions) == MOST_OF_ONE


def test_all_other_browsers_can_be_logged_out(site):
    one, other, stranger = site.logged_in(), site.logged_in(), site.logged_in(BERT)
    one.get("/")
    assert "one more browser" in one.text
    one.post("/sessions/end")
    assert one.get("/").status == 200
    assert other.get("/").status == 303
    assert stranger.get("/").status == 200


def test_logins_and_changes_are_in_the_log(site):
    with capturedLogs() as events:
        browser = site.logged_in()
        browser.post("/sessions/end")
    lines = [event["line"] for event in events if "line" in event]
    assert any(line.startswith("login id=") and "service=web client=192.0.2.7 tls=TLS" in line
               and f"account={ANNA} mechanism=PASSWORD" in line for line in lines)  # fmt: skip
    assert any(line.startswith("web-change id=") and f"account={ANNA} by={ANNA}" in line
               for line in lines)  # fmt: skip
    assert not any(PASSWORD in line for line in lines)


# -- administrators ------------------------------------------------------------------------


def test_an_administrator_at_the_machine_needs_no_second_factor(site):
    visit = site.logged_in(ADMIN, HERE)
    assert site.state.sessions.of(ADMIN)[0].administrator
    assert visit.get("/second-factor").status == 200
    assert "data:image/svg+xml" in visit.text


def test_an_administrator_from_elsewhere_is_asked_to_set_it_up_by_a_link(site):
    browser = site.browser()
    browser.post("/login", address=ADMIN, password=PASSWORD)
    assert browser.place == "/second-factor"
    browser.follow()
    assert f"postoffice web link {ADMIN}" in browser.text
    assert "data:image" not in browser.text
    browser.get("/")
    assert 'href="/second-factor"' in browser.text
    assert 'href="/admin/' not in browser.text
    assert 'href="/second-factor"' not in site.logged_in().text


def set_up(site):
    """An administrator with a second factor, set up by a link."""
    browser = site.browser()
    browser.post("/link", token=site.web_db.make_link(LOGIN, ADMIN))
    assert browser.place == "/second-factor"
    browser.follow()
    (session,) = site.state.sessions.of(ADMIN)
    secret = session.proposed_secret
    browser.post("/second-factor", code=pyotp.TOTP(secret).at(int(site.now())))
    assert browser.place == "/"
    return browser, pyotp.TOTP(secret)


def test_a_link_lets_an_administrator_set_up_the_second_factor(site):
    _, totp = set_up(site)
    other = site.browser()
    other.post("/login", address=ADMIN, password=PASSWORD)
    assert other.place == "/login/code"
    other.follow()
    assert other.get("/").status == 303, "the password alone opens nothing"
    other.get("/login/code")
    other.post("/login/code", code=totp.at(int(site.now())))
    assert other.response.status == 403, "the code was used to set it up"
    site.clock.advance(30)
    other.post("/login/code", code=totp.at(int(site.now())))
    assert other.place == "/"
    assert other.follow().status == 200


def test_a_wrong_code_does_not_set_up_anything(site):
    browser = site.browser()
    browser.post("/link", token=site.web_db.make_link(LOGIN, ADMIN))
    browser.follow()
    browser.post("/second-factor", code="000000")
    assert not site.web_db.administrator(ADMIN).totp


def test_five_wrong_codes_end_the_login(site):
    set_up(site)
    site.clock.advance(60)
    browser = site.logged_in(ADMIN)
    for _ in range(4):
        assert browser.post("/login/code", code="000000").status == 403
    assert browser.post("/login/code", code="000000").status == 303
    assert browser.place == "/login"
    assert browser.get("/login/code").status == 303


def test_codes_of_an_account_cannot_be_tried_at_will(site):
    _, totp = set_up(site)
    site.clock.advance(60)
    for _ in range(2):
        browser = site.logged_in(ADMIN)
        for _ in range(5):
            browser.post("/login/code", code="000000")
    browser = site.logged_in(ADMIN)
    assert browser.post("/login/code", code=totp.at(int(site.now()))).status == 403


def test_the_code_must_come_soon(site):
    set_up(site)
    browser = site.logged_in(ADMIN)
    site.clock.advance(TO_CODE)
    assert browser.get("/login/code").status == 303
    assert browser.place == "/login"


def test_a_removed_administrator_loses_its_rights_at_once(site):
    from postoffice.web.visit import Visit

    visits: list[Visit] = []
    browser, _ = set_up(site)
    recognize = site.application._recognize

    async def noted(visit):
        await recognize(visit)
        visits.append(visit)

    site.application._recognize = noted
    browser.get("/")
    assert visits[-1].administrator
    site.web_db.remove_administrator(ADMIN)
    browser.get("/")
    assert not visits[-1].administrator


def test_the_second_factor_can_be_replaced_after_the_password(site):
    browser, _ = set_up(site)
    site.clock.advance(CONFIRMED)
    browser.get("/second-factor")
    browser.post("/second-factor/remove")
    assert site.web_db.administrator(ADMIN).totp, "the password was not given again"
    browser.follow()
    assert "not your password" in browser.text
    browser.post("/second-factor/remove", current_password=PASSWORD)
    assert not site.web_db.administrator(ADMIN).totp


# -- one-time links ------------------------------------------------------------------------


def test_a_link_logs_in_once_and_only_by_its_button(site):
    token = site.web_db.make_link(LOGIN, ANNA)
    browser = site.browser()
    for _ in range(2):  # a preview does not use it up
        assert browser.get(f"/link?token={token}").status == 200
    assert ANNA in browser.text
    browser.post("/link", token=token)
    assert browser.follow().status == 200
    again = site.browser()
    assert again.post("/link", token=token).status == 404
    assert again.get(f"/link?token={token}").status == 404


def test_a_link_is_for_an_hour(site):
    token = site.web_db.make_link(LOGIN, ANNA)
    site.clock.advance(3600)
    assert site.browser().post("/link", token=token).status == 404


def test_a_link_does_not_stand_in_the_database(site, tmp_path):
    token = site.web_db.make_link(LOGIN, ANNA)
    site.web_db.close()
    for file in tmp_path.glob("web.*"):
        assert token.encode() not in file.read_bytes()
    site.web_db.open()


def test_a_link_of_a_disabled_account_is_worth_nothing(site):
    token = site.web_db.make_link(LOGIN, ANNA)
    finish(site.directory.set_state(ANNA, "disabled"))
    assert site.browser().post("/link", token=token).status == 404


# -- the rest ------------------------------------------------------------------------------


def test_a_proxy_that_nobody_told_of_is_found_out(site):
    """Else everybody would be on the machine itself, where administrators need no code."""
    browser = site.browser(HERE)
    assert browser.get("/login", direct=False).status in (403, 421)


def test_the_language_is_that_of_the_browser_or_the_chosen_one(site):
    browser = site.browser()
    browser.headers["accept-language"] = "fr, de-AT;q=0.8, en;q=0.5"
    browser.get("/login")
    assert "Anmelden" in browser.text
    assert '<html lang="de">' in browser.text
    browser.post("/language", language="en", back="/login")
    assert browser.place == "/login"
    browser.follow()
    assert "Log in" in browser.text


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "/\\evil", "/\r\nX: y"])
def test_the_choice_of_a_language_leads_nowhere_else(site, back):
    browser = site.browser()
    browser.post("/language", language="de", back=back)
    assert browser.place == "/"


def test_one_client_cannot_ask_without_end(site):
    browser = site.browser()
    statuses = [browser.get("/login").status for _ in range(1210)]
    assert statuses[-1] == 429
    assert site.browser(replace(AWAY, address="192.0.2.8")).get("/login").status == 200
    assert site.browser(Client("2001:db8::1", encrypted=True)).get("/login").status == 200


def test_a_fault_is_logged_and_not_shown(site, failures):
    browser = site.logged_in()

    async def broken(account):
        raise ZeroDivisionError("the secret of the house")

    site.context.directory.find = broken
    with capturedLogs() as events:
        assert browser.get("/").status == 500
    (fault,) = [event for event in events if event.get("event") == "fault"]
    assert failures.pop().check(ZeroDivisionError)
    assert "secret of the house" not in browser.text
    assert fault["id"] in browser.text
