"""
The web page of the real daemon in a real Chromium: every view loaded, used and photographed.

The pictures of the manual are made with POSTOFFICE_PICTURES=docs in the environment.
"""

from __future__ import annotations

import os
import smtplib
from email.message import EmailMessage
from pathlib import Path

import pytest

from postoffice.web import site
from postoffice.web.web_db import WebDB
from tests.web.chromium import DESK, PHONE, PROGRAM, Tab

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no chromium here")

PASSWORD = "correct horse battery"
CONFIGURATION = """\
hostname: mail.example.net
postmaster: postmaster@example.net
state: state
store: {kind: maildir, undelete: 7days}
listeners:
  smtp: ["tcp:0:interface=127.0.0.1"]
  submission: ["tcp:0:interface=127.0.0.1"]
  lmtp: []
  pop3: ["tcp:0:interface=127.0.0.1"]
web: {listen: "tcp:0:interface=127.0.0.1"}
limits: {tarpit: 0.01}
"""
LETTERS = (
    ("Jürgen Müller <juergen@example.org>", "Grüße aus Wien: das Wochenende am See"),
    (
        "Shop <news@shop.example>",
        "<script>document.title='stolen'</script> half price \u202egnp.exe",
    ),
    ("Clara <clara@example.com>", "Re: minutes of Tuesday's meeting, and the plans for the spring"),
    ("root@host.example", "Cron <root@host> /usr/bin/backup"),
    ("Bank <bank@bank.example>", ""),
)
#: The pictures that the manual shows.
SHOWN = {"web-home-desk-light.png", "web-mail-desk-light.png", "web-devices-phone-dark.png"}


@pytest.fixture(scope="module")
def office(opened, tmp_path_factory):
    for office in opened(tmp_path_factory.mktemp("web"), CONFIGURATION):
        office.account("postmaster@example.net", PASSWORD)
        office.web_db = WebDB(str(office.folder / "state"), lambda: 0.0)
        office.web_db.open()
        yield office
        office.web_db.close()


@pytest.fixture
def tab(browser):
    tabs = []

    def tab(**look) -> Tab:
        tabs.append(Tab(browser, **look))
        return tabs[-1]

    yield tab
    for one in tabs:
        one.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Where the pictures go."""
    wanted = os.environ.get("POSTOFFICE_PICTURES")
    return Path(__file__).parents[2] / wanted if wanted else tmp_path_factory.mktemp("pictures")


def owner(office, name: str) -> str:
    """An account with mail in its maildrop."""
    address = office.account(f"{name}@example.net", PASSWORD).address
    with smtplib.SMTP("127.0.0.1", office.smtp) as client:
        for number, (author, subject) in enumerate(LETTERS):
            letter = EmailMessage()
            letter["From"], letter["Subject"] = author, subject
            letter["Date"] = f"Mon, 11 Jan 2027 1{number}:15:00 +0000"
            letter.set_content("How are you?\n")
            client.send_message(letter, "sender@example.org", [address])
    return address


def log_in(tab: Tab, office, address: str) -> str:
    """Log in by the form; return the address of the page."""
    page = f"http://localhost:{office.ports['web']}"
    tab.go(f"{page}/login")
    tab.fill("#address", address)
    tab.fill("#password", PASSWORD)
    tab.click(".primary")
    assert address in tab.text()
    return page


@pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without"])
def test_an_owner_uses_every_page(office, tab, script):
    address = owner(office, "with" if script else "without")
    page = tab(script=script)
    where = log_in(page, office, address)

    page.click('a[href="/mail"]')
    assert "Grüße aus Wien" in page.text()
    page.click(".letters li:first-child input", loads=False)
    page.click(".letters li:nth-child(2) label", loads=False)
    page.click(".danger")
    assert "Deleted: 2." in page.text()
    assert "4 messages" not in page.text()
    page.click('a[href="/mail/deleted"]')
    assert "2 messages" in page.text()
    page.click(".rows button")
    assert "Brought back: 2." in page.text()
    assert "5 messages" in page.text()

    page.click('a[href="/devices"]')
    page.fill("#name", "my phone")
    page.click(".primary")
    assert "my phone" in page.text()
    assert page.there(".once")
    page.click(".rows .danger")
    assert "The device was removed" in page.text()

    page.click('a[href="/password"]')
    page.fill("#new_password", "staple of batteries")
    page.fill("#again", "staple of batteries")
    page.click(".primary")
    assert "You have a new password." in page.text()

    page.click('button[value="de"]')
    assert "Passwort ändern" in page.text()
    for path, _ in site.OWNER_MENU:
        page.click(f'.menu a[href="{path}"]')
        assert page.there("main h1")
        assert not page.there('main p[class="lead"] code')
    page.click(".whose button")
    assert "Anmelden" in page.text()
    page.go(f"{where}/mail")
    assert page.there("#password")
    assert not page.complaints()


def test_what_strangers_wrote_does_nothing(office, tab):
    page = tab()
    where = log_in(page, office, owner(office, "hostile"))
    page.go(f"{where}/mail")
    assert "<script>document.title='stolen'</script> half price ⟨U+202E⟩gnp.exe" in page.text()
    title = page.ask("Runtime.evaluate", expression="document.title")["result"]["value"]
    assert title == "Mail · Postoffice"
    assert not page.complaints()


def test_no_page_is_wider_than_its_screen(office, tab, pictures):
    address = owner(office, "anna")
    page = tab()
    where = log_in(page, office, address)
    page.go(f"{where}/devices")
    for name in ("Phone", "Thunderbird at home"):
        page.fill("#name", name)
        page.click(".primary")
    stranger = tab()
    views = [(stranger, "/login"), *((page, path) for path, _ in site.OWNER_MENU)]
    views.append((page, "/mail/deleted"))
    for one, path in views:
        name = f"web-{path.strip('/').replace('/', '-') or 'home'}"
        for size in (DESK, PHONE):
            one.look(size=size)
            one.go(f"{where}{path}")
            assert one.width_of_page() <= size[0], (path, size)
            for dark in (False, True):
                kind = f"{'phone' if size == PHONE else 'desk'}-{'dark' if dark else 'light'}"
                file = pictures / f"{name}-{kind}.png"
                if file.name in SHOWN:
                    one.look(dark=dark, size=size)
                    one.photograph(file)
                    assert file.stat().st_size > 5000, file
    assert not page.complaints()
    assert not stranger.complaints()


def test_the_menu_of_a_phone_opens_and_closes(office, tab):
    page = tab(size=PHONE)
    log_in(page, office, owner(office, "phone"))
    shown = "document.querySelector('.menu').matches(':popover-open')"
    assert not page.ask("Runtime.evaluate", expression=shown)["result"]["value"]
    page.click(".opener", loads=False)
    assert page.ask("Runtime.evaluate", expression=shown)["result"]["value"]
    page.click('.menu a[href="/mail"]')
    assert "Grüße aus Wien" in page.text()


def test_the_keyboard_and_a_screen_reader_find_their_way(office, tab):
    page = tab()
    where = log_in(page, office, owner(office, "keys"))
    for path, _ in site.OWNER_MENU:
        page.go(f"{where}{path}")
        page.press("Tab", 9)
        focus = "document.activeElement.className"
        assert page.ask("Runtime.evaluate", expression=focus)["result"]["value"] == "skip"
        nodes = page.ask("Accessibility.getFullAXTree")["nodes"]
        for node in nodes:
            role = node.get("role", {}).get("value")
            if role in ("textbox", "checkbox", "combobox", "button", "link", "image"):
                assert node["name"]["value"].strip(), (path, node)
        roles = [node["role"]["value"] for node in nodes if "role" in node]
        assert {"main", "navigation", "banner", "contentinfo"} <= set(roles), (path, set(roles))
        headings = [node for node in nodes if node.get("role", {}).get("value") == "heading"]
        levels = [
            one["value"]["value"]
            for node in headings
            for one in node.get("properties", ())
            if one["name"] == "level"
        ]
        assert levels.count(1) == 1, (path, levels)
