"""What an owner sees of sent mail: what waits, what is held, how much may be sent."""

from __future__ import annotations

import pytest

from postoffice.outbound.sending_rate import Rates, SendingRate, SendingRules
from postoffice.queue.sending_db import CountRequest
from postoffice.testing import finish
from tests.queue.conftest import office as queue_office  # noqa: F401
from tests.queue.scripted import LATER, message
from tests.web.whole_site import ANNA, BERT, NOW

LIMIT = Rates((SendingRate(100, 3600.0),))


@pytest.fixture
def queue(queue_office, site):  # noqa: F811
    """A queue with a message of each of two accounts, which wait."""
    for login in (ANNA, BERT):
        to = f"friend-of-{login.partition('@')[0]}@x.example"
        queue_office.relay.answers[to] = LATER
        queue_office.queue.commit(login, message(to, id=login, login=login))
    site.manager = queue_office.manager
    return queue_office


def test_an_owner_sees_the_own_waiting_mail_only(site, queue):
    browser = site.logged_in()
    browser.get("/sending")
    assert "friend-of-anna@x.example" in browser.text
    assert "friend-of-bert" not in browser.text


def test_how_much_was_sent_and_may_be_sent(site):
    site.sending.rules = SendingRules(LIMIT)
    database = site.sending._database
    database.take([CountRequest(ANNA, "", 30, LIMIT, NOW), CountRequest(BERT, "", 7, LIMIT, NOW)])
    database.tried([(ANNA, 20, 3)], NOW)
    browser = site.logged_in()
    browser.get("/sending")
    assert "30 of at most 100" in browser.text
    assert "23" in browser.text
    assert "3 refused" in browser.text
    assert "Nothing waits" in browser.text
    assert "is held" not in browser.text


def test_an_owner_whose_mail_is_held_is_told(site):
    site.sending._database.tried([(ANNA, 30, 30)], NOW)
    browser = site.logged_in()
    browser.get("/sending")
    assert "Your mail to other domains is held" in browser.text
    other = site.logged_in(BERT)
    other.get("/sending")
    assert "is held" not in other.text
    assert finish(site.sending.state(ANNA)).held


def test_where_nothing_is_sent_the_page_says_so(site):
    site.context.way_out = False
    browser = site.logged_in()
    browser.get("/sending")
    assert "cannot be sent to other domains" in browser.text
