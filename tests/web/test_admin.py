"""What administrators see and change; who may is tested over all routes."""

from __future__ import annotations

import os
import re

import pyotp
import pytest
from twisted.internet.defer import Deferred, fail
from twisted.logger import formatEvent, globalLogPublisher

from postoffice.accounts.passwords import verify
from postoffice.doctor.findings import Finding
from postoffice.interfaces import MaildropUsage
from postoffice.logs.files import LogFiles
from postoffice.model.address import Address, Quota
from postoffice.model.alias import DISCARD, REFUSE, Alias
from postoffice.model.app_password import AppPassword
from postoffice.model.config_values import SIZE
from postoffice.model.errors import TemporaryFailure
from postoffice.queue.selection import Selection
from postoffice.testing import finish
from postoffice.web.activity import COLUMNS, STEP, Activity
from postoffice.web.admin_accounts import written_size
from postoffice.web.administration import USAGE_PATIENCE
from tests.queue.conftest import office as queue_office  # noqa: F401
from tests.queue.scripted import LATER, message
from tests.web.whole_site import ADMIN, ANNA, BERT, NOW, PASSWORD

SECRET = pyotp.random_base32()
ONE = "/admin/accounts/one"


@pytest.fixture
def boss(site):
    """The administrator's browser."""
    site.web_db.set_totp(ADMIN, SECRET)
    browser = site.logged_in(ADMIN)
    browser.post("/login/code", code=pyotp.TOTP(SECRET).at(int(site.now())))
    assert browser.follow().status == 200
    return browser


@pytest.fixture
def lines(logged):
    """The audit lines so far."""
    return lambda: [line for line in logged() if line.startswith("web-change")]


@pytest.fixture
def logged():
    seen = []
    globalLogPublisher.addObserver(seen.append)
    yield lambda: [formatEvent(event) for event in seen]
    globalLogPublisher.removeObserver(seen.append)


def account(site, name=ANNA):
    return finish(site.directory.find(name))


# -- accounts ----------------------------------------------------------------------------


def test_accounts_are_found_and_listed_page_by_page(site, boss):
    for number in range(120):
        finish(site.directory.add(f"user{number:03}@example.net", None))
    seen = []
    place = "/admin/accounts?q=user"
    while place:
        assert boss.get(place).status == 200
        seen += re.findall(r">(user\d+@example\.net)</a>", boss.text)
        found = re.search(r'href="(/admin/accounts[^"]*after=[^"]*)" rel="next"', boss.text)
        place = found and found[1].replace("&amp;", "&")
    assert seen == [f"user{number:03}@example.net" for number in range(120)]
    assert "no such account" in boss.get("/admin/accounts?q=nobody").body.decode()


def test_one_account_is_shown_with_its_use_and_its_devices(site, boss):
    finish(site.directory.add_app_password(ANNA, AppPassword("a <b>phone</b>", "x", "y")))
    site.sessions.append({"service": "pop3", "account": ANNA, "client": "192.0.2.9",
                          "tls": "", "since": NOW, "doing": "idle", "id": "1"})  # fmt: skip
    assert boss.get(f"{ONE}?name={ANNA}").status == 200
    assert "a &lt;b&gt;phone&lt;/b&gt;" in boss.text
    assert "1 session is open now" in boss.text
    assert boss.get(f"{ONE}?name=nobody@example.net").status == 404


def test_a_state_is_set_with_its_reason_and_sessions_end(site, boss, lines):
    anna = site.logged_in(ANNA)
    boss.get(f"{ONE}?name={ANNA}")
    boss.post(f"{ONE}/state", name=ANNA, state="disabled", why="left us")
    found = account(site)
    note = found.state_note
    assert (found.state, note.by, note.why) == ("disabled", ADMIN, "left us")
    assert site.ended == [ANNA]
    assert anna.get("/").status == 303
    boss.follow()
    assert "left us" in boss.text
    [line] = lines()
    assert f"account={ANNA} by={ADMIN}" in line
    assert "enabled -> disabled" in line
    assert boss.post(f"{ONE}/state", name=ANNA, state="dead").status == 400


def test_the_postmaster_stays_enabled(site, boss, lines):
    boss.get(f"{ONE}?name={ADMIN}")
    boss.post(f"{ONE}/state", name=ADMIN, state="disabled", why="")
    assert "postmaster" in boss.follow().body.decode()
    assert account(site, ADMIN).enabled
    assert lines() == []


def test_a_new_password_is_shown_once_and_is_in_no_log(site, boss, logged):
    boss.get(f"{ONE}?name={ANNA}")
    boss.post(f"{ONE}/password", name=ANNA)
    password = re.search(r'<code class="once">([^<]+)</code>', boss.text)[1]
    assert verify(account(site).secret, password.encode())
    assert not any(password in line for line in logged())
    boss.get(f"{ONE}?name={ANNA}")
    assert password not in boss.text


def test_a_one_time_link_logs_the_owner_in(site, boss):
    boss.get(f"{ONE}?name={ANNA}")
    boss.post(f"{ONE}/link", name=ANNA)
    place = re.search(r"//[^/]+(/link\?token=[^<]+)</code>", boss.text)[1]
    anna = site.browser()
    anna.get(place)
    anna.post("/link", token=place.partition("=")[2])
    assert anna.follow().status == 200
    assert ANNA in anna.text


def test_dangerous_acts_ask_for_the_password_again(site, boss, lines):
    site.clock.advance(3600 / 4)  # the login is some time ago, and the session still holds
    boss.get(f"{ONE}?name={ANNA}")
    assert "current_password" in boss.text
    before = account(site).secret
    boss.post(f"{ONE}/password", name=ANNA, current_password="wrong")
    assert boss.place == "/admin/accounts"
    assert account(site).secret == before
    boss.follow()
    boss.post(f"{ONE}/password", name=ANNA, current_password=PASSWORD)
    assert account(site).secret != before
    assert len(lines()) == 1


def test_an_account_is_added_and_its_owner_chooses_the_password(site, boss, lines):
    boss.get("/admin/accounts")
    boss.post("/admin/accounts/add", address="Carla@example.net")
    assert "was added" in boss.follow().body.decode()
    assert account(site, "carla@example.net").secret is None
    for taken in ("carla@example.net", "joe@far.example", "x"):
        boss.post("/admin/accounts/add", address=taken)
        assert 'class="message failed"' in boss.follow().body.decode()
    assert len(lines()) == 1


def test_a_quota_and_a_device_are_changed(site, boss, lines):
    finish(site.directory.add_app_password(ANNA, AppPassword("phone", "x", "y")))
    boss.get(f"{ONE}?name={ANNA}")
    boss.post(f"{ONE}/quota", name=ANNA, octets="2 GiB", messages="10")
    assert finish(site.directory.account_quota(ANNA)) == Quota(2 << 30, 10)
    boss.post(f"{ONE}/quota", name=ANNA, octets="much", messages="")
    assert "A quota is a size" in boss.follow().body.decode()
    boss.post(f"{ONE}/quota", name=ANNA, octets="", messages="")
    assert finish(site.directory.account_quota(ANNA)) == Quota()
    boss.post(f"{ONE}/device", name=ANNA, device="phone")
    boss.post(f"{ONE}/device", name=ANNA, device="phone")
    assert not finish(site.directory.app_passwords(ANNA))
    assert len(lines()) == 3


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (None, ""),
        (0, "0"),
        (1000, "1000"),
        (5 << 30, "5 GiB"),
        (3 << 20, "3 MiB"),
        (1 << 10, "1 KiB"),
    ],
)
def test_sizes_are_written_as_the_form_takes_them(octets, text):
    assert written_size(octets) == text
    assert octets is None or SIZE.read(text) == octets


def test_accounts_that_are_only_read_cannot_be_changed(site, boss):
    class Reading:
        """Knows the accounts, and writes nothing."""

        find = site.directory.find

    site.context.administration.directories = [Reading()]
    assert boss.get(f"{ONE}?name={ANNA}").status == 200
    assert "read-only" in boss.text
    assert boss.post(f"{ONE}/state", name=ANNA, state="disabled").status == 409


# -- the rest ------------------------------------------------------------------------------


def test_the_overview_shows_what_needs_attention_and_what_was_done(site, boss):
    office = site.context.administration
    office.activity({"event": "message-taken"})
    site.findings.append(Finding(kind="tls", level="error", what="it <expired>", mend="renew it"))
    assert boss.get("/admin/overview").status == 200
    assert "it &lt;expired&gt;" in boss.text
    assert "<rect " in boss.text
    site.findings.clear()
    site.clock.advance(61)
    assert "all is well" in boss.get("/admin/overview").body.decode()


def test_activity_is_counted_in_columns_of_half_an_hour():
    now = [NOW]
    activity = Activity(lambda: now[0])
    for event in ("message-taken", "message-taken", "sent", "nothing", None):
        activity({"event": event})
    now[0] += STEP
    activity({"event": "refused"})
    activity({"event": "policy-refused"})
    assert activity.chart("taken").counts[-2:] == (2, 0)
    assert activity.chart("refused").bars(40) == [(COLUMNS - 1, 40)]
    now[0] += STEP * COLUMNS * 3
    assert activity.chart("taken").total == 0


def test_domains_have_records_to_copy_and_a_check(site, boss):
    assert "example.net" in boss.get("/admin/domains").body.decode()
    assert boss.get("/admin/domains/one?name=example.net").status == 200
    assert "10 mail.example.net." in boss.text
    assert "p=none" in boss.text
    site.findings.append(Finding(kind="dns", level="warning", what="no SPF", mend="add it"))
    part = boss.get("/admin/domains/check?name=example.net").body.decode()
    assert "no SPF" in part
    assert "<html" not in part
    assert "no SPF" in boss.get("/admin/domains/one?name=example.net&check=1").body.decode()
    assert boss.get("/admin/domains/one?name=far.example").status == 404


def test_aliases_are_found_by_name_and_by_target(site, boss):
    targets = (Address.parse(ANNA),)
    for one in (
        Alias("info@example.net", targets),
        Alias("left@example.net", kind=REFUSE, words="She <left>"),
        Alias("null@example.net", kind=DISCARD),
    ):
        finish(site.directory.add_alias(one))
    assert boss.get("/admin/aliases").status == 200
    assert "She &lt;left&gt;" in boss.text
    boss.get("/admin/aliases?q=anna")
    assert "info@example.net" in boss.text
    assert "null@example.net" not in boss.text


def test_the_way_of_an_address_is_explained(site, boss):
    finish(site.directory.add_alias(Alias("info@example.net", (Address.parse(ANNA),))))
    assert f"{ANNA}" in boss.get("/admin/explain?address=info@example.net").body.decode()
    assert "not ours" in boss.get("/admin/explain?address=joe@far.example").body.decode()
    assert "yes: it holds 0 messages" in boss.get(f"/admin/explain?address={ANNA}").body.decode()
    boss.get("/admin/explain?address=no@example.net")
    assert "550 5.1.1" in boss.text
    assert boss.get("/admin/explain?address=x").status == 200


def test_maildrops_are_counted_and_ordered(site, boss):
    for order in ("largest", "oldest", "unowned", "nonsense"):
        assert boss.get(f"/admin/maildrops?by={order}").status == 200


def test_a_page_does_not_wait_long_for_maildrops_to_be_counted(site, boss, monkeypatch):
    counted = Deferred()
    monkeypatch.setattr(site.store, "holdings", lambda: counted)
    asking = Deferred.fromCoroutine(site.context.administration.usage())
    assert not asking.called
    site.clock.advance(USAGE_PATIENCE)
    assert asking.result is None
    assert "being counted" in boss.get("/admin/maildrops").body.decode()
    counted.callback([MaildropUsage("gone@example.net", 3, 3000)])
    assert "gone@example.net" in boss.get("/admin/maildrops?by=unowned").body.decode()


def test_counting_that_fails_is_logged(site, boss, monkeypatch, logged):
    monkeypatch.setattr(site.store, "holdings", lambda: fail(TemporaryFailure("the disk is gone")))
    assert boss.get("/admin/maildrops").status == 200
    assert any("the disk is gone" in line for line in logged())


def test_sessions_are_listed_and_ended(site, boss, lines):
    site.sessions += [
        {"service": "pop3", "account": name, "client": "192.0.2.9", "tls": "TLSv1.3 x",
         "since": NOW - 60, "doing": "idle", "id": name} for name in (ANNA, BERT, "")
    ]  # fmt: skip
    boss.get("/admin/sessions?account=anna")
    assert BERT not in boss.text
    assert "nobody yet" in boss.get("/admin/sessions").body.decode()
    boss.post("/admin/sessions/end", account=ANNA)
    assert site.ended == [ANNA]
    assert "sessions ended: 1" in lines()[0]


def test_the_log_tells_the_story_of_a_message(site, boss, tmp_path):
    assert "cannot read its log" in boss.get("/admin/log?what=x").body.decode()
    path = tmp_path / "twistd.log"
    path.write_text(
        "2027-01-15T07:00:00+0000 [postoffice#info] message-taken id=18ec.1 service=smtp "
        "client=192.0.2.1 sender=<joe@far.example> recipients=1 to=<anna@example.net> size=100\n"
    )
    os.utime(path, (NOW, NOW))
    site.log = LogFiles([str(path)])
    assert boss.get(f"/admin/log?what={ANNA}&days=30").status == 200
    assert "18ec.1" in boss.text
    assert "tells nothing" in boss.get("/admin/log?what=nobody@example.net").body.decode()


def test_settings_are_shown_with_their_origin_and_without_secrets(site, boss, tmp_path):
    assert boss.get("/admin/settings").status == 200
    assert "<code title=" in boss.text
    assert "line 1" in boss.text
    assert "limits.message_size" in boss.text
    assert "default" in boss.text


# -- the queue -------------------------------------------------------------------------------


@pytest.fixture
def queue(site, queue_office):  # noqa: F811
    """A queue over scripted servers, with three messages that wait."""
    for number in range(3):
        address = f"friend{number}@x.example"
        queue_office.relay.answers[address] = LATER
        queue_office.queue.commit(f"n{number}", message(address, id=f"n{number}"))
    site.manager = queue_office.manager
    return queue_office


def states(queue):
    admin = queue.manager.admin
    return {row.id: row.held for row in finish(admin.select(Selection()))}


def test_messages_that_wait_are_listed_and_changed(site, boss, queue, lines):
    assert boss.get("/admin/queue").status == 200
    assert "3 messages wait" in boss.text
    assert "friend1" not in boss.get("/admin/queue?to=friend0@x.example").body.decode()
    assert boss.get("/admin/queue/message?id=n1").status == 200
    boss.post("/admin/queue/hold", id="n1")
    assert ADMIN in states(queue)["n1"]
    boss.post("/admin/queue/release", id="n1")
    boss.get("/admin/queue")
    boss.post("/admin/queue/retry", id="n1")
    boss.post("/admin/queue/remove", id="n2")
    assert set(states(queue)) == {"n0", "n1"}
    boss.post("/admin/queue/remove", id="n2")
    assert "Nothing was changed" in boss.follow().body.decode()
    assert boss.get("/admin/queue/message?id=n2").status == 404
    said = [re.search(r'what="([^"]+)"', line)[1] for line in lines()]
    assert said[:2] == ["message n1 held", "message n1 released"]
    assert said[-1] == "message n2 removed"


def test_destinations_are_paused_and_resumed(site, boss, queue, lines):
    assert "x.example" in boss.get("/admin/destinations").body.decode()
    boss.post("/admin/destinations/pause", domain="X.example")
    assert queue.manager.pauses.names == ["x.example"]
    assert "x.example" in boss.follow().body.decode()
    boss.post("/admin/destinations/resume", domain="x.example")
    assert queue.manager.pauses.names == []
    assert boss.post("/admin/destinations/pause", domain="not a domain").status == 400
    assert len(lines()) == 2


def test_a_dead_destination_needs_attention(site, boss, queue):
    queue.relay.down.add("y.example")
    queue.queue.commit("n9", message("a@y.example"))
    assert "cannot be reached" in boss.get("/admin/overview").body.decode()


def test_where_nothing_is_sent_the_pages_say_so(site, boss):
    for place in ("/admin/queue", "/admin/destinations", "/admin/overview"):
        assert "Nothing is sent" in boss.get(place).body.decode()
    assert boss.post("/admin/queue/hold", id="n1").status == 409


def test_all_pages_are_there_in_german_too(site, boss):
    boss.cookies["language"] = "de"
    for path in ("overview", "accounts", "queue", "sessions", "settings", "maildrops", "domains"):
        assert boss.get(f"/admin/{path}").status == 200
        assert 'lang="de"' in boss.text


@pytest.mark.parametrize("quota", [("", "9" * 25), ("99999999 TiB", ""), ("", "-1")])
def test_a_quota_that_no_database_can_keep_is_refused(boss, quota):
    boss.get(f"/admin/accounts/one?name={ANNA}")
    octets, messages = quota
    boss.post("/admin/accounts/one/quota", name=ANNA, octets=octets, messages=messages)
    boss.follow()
    assert "A quota is a size" in boss.text
