"""Forwards: each waits until its target has agreed."""

from __future__ import annotations

import re
from email import message_from_bytes, policy

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from postoffice.testing import finish
from postoffice.web.context import LETTERS
from postoffice.web.forward_pages import LASTS
from postoffice.web.sessions import CONFIRMED
from postoffice.web.values import WebRequest
from postoffice.web.web_db import FORWARD, LOGIN
from tests.web.whole_site import ADMIN, ANNA, BERT, HERE, PASSWORD

CARL = "carl@example.org"


def proposed(site, browser, target: str = CARL) -> str:
    """The path of the link in the letter to a new target."""
    browser.get("/forward")
    browser.post("/forward", target=target)
    browser.follow()
    assert "A message is on its way." in browser.text, browser.text
    to, octets = site.letters[-1]
    assert to == target
    letter = message_from_bytes(octets, policy=policy.default)
    assert letter["To"] == target
    assert letter["Auto-Submitted"] == "auto-generated"
    text = letter.get_content()
    assert browser.account in text
    return re.search(r"https://mail.example.net(/forward/confirm\?token=\S{43})\s", text)[1]


def targets(site, account: str = ANNA) -> list[str]:
    return [str(one) for one in finish(site.directory.find(account)).forward]


def test_mail_goes_to_a_target_that_has_agreed(site):
    browser = site.logged_in()
    path = proposed(site, browser)
    assert targets(site) == []
    browser.get("/forward")
    assert "has not agreed yet" in browser.text
    carl = site.browser()
    for _ in range(2):  # looking at it changes nothing
        carl.get(path)
        assert f"<strong>{ANNA}</strong> is to go to <strong>{CARL}</strong>" in carl.text
    with capturedLogs() as events:
        carl.post("/forward/confirm", token=path.partition("token=")[2])
    assert "is forwarded from now on" in carl.text
    assert targets(site) == [CARL]
    (line,) = [one["line"] for one in events if one.get("event") == "web-change"]
    assert f"account={ANNA} by={CARL}" in line
    assert carl.post("/forward/confirm", token=path.partition("token=")[2]).status == 404
    browser.get("/forward")
    assert "has not agreed yet" not in browser.text
    browser.post("/forward/remove", target=CARL)
    assert targets(site) == []


def test_a_link_is_for_a_week(site):
    path = proposed(site, site.logged_in())
    site.clock.advance(LASTS)
    assert site.browser().get(path).status == 404
    token = path.partition("token=")[2]
    assert site.browser().post("/forward/confirm", token=token).status == 404
    assert site.browser().post("/link", token=token).status == 404, "it logs nobody in"


def test_what_is_forwarded_may_stay_here_too(site):
    browser = site.logged_in()
    path = proposed(site, browser)
    site.browser().post("/forward/confirm", token=path.partition("token=")[2])
    browser.get("/forward")
    browser.post("/forward/copy", copy="no")
    assert not finish(site.directory.find(ANNA)).keep_copy
    browser.post("/forward/copy", copy="yes")
    assert finish(site.directory.find(ANNA)).keep_copy
    browser.post("/forward/copy", copy="no")
    browser.post("/forward/remove", target=CARL)
    assert finish(site.directory.find(ANNA)).keep_copy, "or nobody would get the mail"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("no address", "That is no mail address."),
        ("", "That is no mail address."),
        (ANNA, "Mail goes there already."),
        ("nobody@example.org", "cannot be delivered"),
    ],
)
def test_what_cannot_be_a_target_is_told(site, target, why):
    browser = site.logged_in()
    browser.get("/forward")
    browser.post("/forward", target=target)
    browser.follow()
    assert why in browser.text
    assert "has not agreed yet" not in browser.text


def test_nobody_gets_letters_without_end(site):
    browser = site.logged_in()
    for number in range(LETTERS):
        proposed(site, browser, f"carl{number}@example.org")
    browser.post("/forward", target=CARL)
    browser.follow()
    assert "too many messages in a day" in browser.text
    assert len(site.letters) == LETTERS


def test_a_circle_is_refused_when_it_is_confirmed(site):
    browser, other = site.logged_in(), site.logged_in(BERT)
    path = proposed(site, browser, BERT)
    site.browser().post("/forward/confirm", token=path.partition("token=")[2])
    finish(site.directory.set_forward(ANNA, finish(site.directory.find(ANNA)).forward, False))
    back = proposed(site, other, ANNA)
    target = site.browser()
    assert target.post("/forward/confirm", token=back.partition("token=")[2]).status == 403
    assert "cannot have these targets" in target.text
    assert targets(site, BERT) == []


def test_the_password_is_asked_for_again(site):
    browser = site.logged_in()
    site.clock.advance(CONFIRMED)
    browser.get("/forward")
    browser.post("/forward", target=CARL)
    assert not site.letters
    browser.post("/forward", target=CARL, current_password=PASSWORD)
    assert len(site.letters) == 1


def agrees(site, path: str) -> int:
    token = path.partition("token=")[2]
    return site.browser().post("/forward/confirm", token=token).status


def test_a_target_that_was_removed_cannot_agree_again(site):
    browser = site.logged_in()
    first, second = proposed(site, browser), proposed(site, browser)
    assert agrees(site, first) == 200
    browser.get("/forward")
    browser.post("/forward/remove", target=CARL)
    assert agrees(site, second) == 404
    assert targets(site) == []


def test_what_waits_for_an_answer_can_be_withdrawn(site):
    browser, other = site.logged_in(), site.logged_in(BERT)
    path, others = proposed(site, browser), proposed(site, other)
    browser.get("/forward")
    browser.post("/forward/remove", target=CARL)
    browser.follow()
    assert "No mail will go there." in browser.text
    assert "has not agreed yet" not in browser.text
    assert agrees(site, path) == 404
    assert agrees(site, others) == 200


@pytest.mark.parametrize("who", ["owner", "administrator"])
def test_a_new_password_withdraws_what_waits(site, who):
    """Somebody who knew the old password may have proposed it."""
    browser = site.logged_in()
    path = proposed(site, browser)
    login = site.web_db.make_link(LOGIN, ANNA)
    if who == "owner":
        browser.get("/password")
        new = "another horse battery"
        browser.post("/password", current_password=PASSWORD, new_password=new, again=new)
    else:
        boss = site.logged_in(ADMIN, HERE)
        boss.get(f"/admin/accounts/one?name={ANNA}")
        boss.post("/admin/accounts/one/password", name=ANNA, current_password=PASSWORD)
    assert agrees(site, path) == 404
    assert site.browser().post("/link", token=login).status == 404


def test_the_targets_of_one_account_are_bounded(site, monkeypatch):
    monkeypatch.setattr("postoffice.web.forward_pages.TARGETS", 1)
    browser = site.logged_in()
    paths = [proposed(site, browser, f"carl{number}@example.org") for number in range(2)]
    assert [agrees(site, path) for path in paths] == [200, 403]


def test_targets_that_agree_at_the_same_time_all_get_the_mail(site, monkeypatch):
    browser, target = site.logged_in(), site.browser()
    carls = [f"carl{number}@example.org" for number in range(3)]
    tokens = [proposed(site, browser, one).partition("token=")[2] for one in carls]
    saving, save = Deferred(), site.directory.set_forward

    async def slowly(*what):
        await saving
        return await save(*what)

    monkeypatch.setattr(site.directory, "set_forward", slowly)
    answers = [
        Deferred.fromCoroutine(
            site.application.answer(
                WebRequest("POST", "/forward/confirm", target.client, {}, {"token": [token]},
                           target.headers)
            )
        )
        for token in tokens
    ]  # fmt: skip
    saving.callback(None)
    assert [one.result.status for one in answers] == [200, 200, 200]
    assert targets(site) == carls


def test_links_of_forwards_push_out_no_others(site, monkeypatch):
    monkeypatch.setattr("postoffice.web.web_db.LINKS", 2)
    login = site.web_db.make_link(LOGIN, ANNA)
    for number in range(4):
        site.web_db.make_link(FORWARD, ANNA, f"carl{number}@example.org", LASTS)
    assert site.web_db.look_at_link(LOGIN, login)
    assert len(site.web_db.links_of(FORWARD, ANNA)) == 2
