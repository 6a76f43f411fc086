"""
The administrators' pages of the real daemon, in a real Chromium: every view used and photographed.

The pictures of the manual are made with POSTOFFICE_PICTURES=docs in the environment.
"""

from __future__ import annotations

import os
import smtplib
from pathlib import Path

import pytest

from postoffice.model.address import Address
from postoffice.model.alias import Alias
from postoffice.testing import finish
from postoffice.web import site
from postoffice.web.web_db import WebDB
from tests.nameserver import NameServer
from tests.servers import free_port
from tests.trip.conftest import NEVER
from tests.web.chromium import DESK, PHONE, PROGRAM, Tab

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no chromium here")

PASSWORD = "correct horse battery"
BOSS, ANNA = "boss@example.net", "anna@example.net"
#: The pictures that the manual shows.
SHOWN = {"web-admin-overview-desk-light.png", "web-admin-queue-phone-dark.png"}
SUBPAGES = (
    f"/admin/accounts/one?name={ANNA}",
    "/admin/domains/one?name=example.net&check=1",
    "/admin/maildrops?by=oldest",
    "/admin/log?what=nobody@example.net",
    "/admin/explain?address=info@example.net",
    "/admin/aliases/one?name=sales@example.net",
)


@pytest.fixture(scope="module")
def names():
    server = NameServer()
    server.zone |= {("example.net", "MX"): ["10 mail.example.net."],
                    ("mail.example.net", "A"): ["11.22.33.44"]}  # fmt: skip
    yield server
    server.stop()


@pytest.fixture(scope="module")
def office(opened, tmp_path_factory, names):
    """An office with two accounts, mail in a maildrop, and mail that waits for a dead server."""
    text = (
        "hostname: mail.example.net\npostmaster: postmaster@example.net\nstate: state\n"
        'listeners: {smtp: ["tcp:0:interface=127.0.0.1"], pop3: ["tcp:0:interface=127.0.0.1"],\n'
        '  submission: ["tcp:0:interface=127.0.0.1"], lmtp: []}\n'
        'web: {listen: "tcp:0:interface=127.0.0.1"}\n'
        f'outbound: {{routes: [{{via: "smtp:127.0.0.1:{free_port()}"}}],'
        f' dns: {{servers: ["127.0.0.1:{names.server[1]}"]}}}}\n'
    )
    for office in opened(tmp_path_factory.mktemp("admin"), text):
        for name in ("postmaster@example.net", BOSS, ANNA):
            office.account(name, PASSWORD)
        with office.directory() as directory:
            targets = (Address.parse(ANNA), Address.parse(BOSS))
            finish(directory.add_alias(Alias("sales@example.net", targets)))
        web_db = WebDB(str(office.folder / "state"), lambda: 0.0)
        web_db.open()
        web_db.add_administrator(BOSS)
        web_db.close()
        with smtplib.SMTP("127.0.0.1", office.smtp, timeout=NEVER) as client:
            client.sendmail("joe@far.example", [ANNA], "Subject: hello\r\n\r\nHello\r\n")
        with smtplib.SMTP("127.0.0.1", office.ports["submission"], timeout=NEVER) as client:
            client.login(ANNA, PASSWORD)
            for number in range(2):
                text = f"From: {ANNA}\r\nSubject: {number}\r\n\r\nHello\r\n"
                client.sendmail(ANNA, [f"friend{number}@far.example"], text)
        yield office


@pytest.fixture
def boss(browser, office):
    """Opens a tab, and logs the administrator in."""
    tabs = []

    def boss(**look) -> Tab:
        tabs.append(page := Tab(browser, **look))
        page.where = f"http://localhost:{office.ports['web']}"
        page.go(f"{page.where}/login")
        page.fill("#address", BOSS)
        page.fill("#password", PASSWORD)
        page.click(".primary")
        assert BOSS in page.text()
        return page

    yield boss
    for one in tabs:
        one.close()


def follow(page: Tab, path: str) -> None:
    page.click(f'.menu a[href="{path}"]')


@pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without"])
def test_an_administrator_uses_the_pages(office, boss, script):
    page = boss(script=script)
    follow(page, "/admin/overview")
    assert "Needs attention" in page.text()

    follow(page, "/admin/accounts")
    page.fill("#q", "ann")
    page.click(".search button")
    assert BOSS not in page.text().replace(BOSS, "", 1)  # but in the menu
    page.click("td a")
    page.fill("#why", "on leave")
    page.ask("DOM.setAttributeValue", nodeId=page.find('option[value="collect-only"]'),
             name="selected", value="selected")  # fmt: skip
    page.click('form[action$="/state"] button')
    assert "The state of anna@example.net was changed." in page.text()
    assert "on leave" in page.text()
    page.fill("#octets", "2 GiB")
    page.click('form[action$="/quota"] button')
    assert page.there('#octets[value="2 GiB"]')
    page.click('form[action$="/link"] button.primary')
    assert "/link?token=" in page.text()
    page.click(".button")

    follow(page, "/admin/aliases")
    name = f"{'team' if script else 'crew'}@example.net"
    page.fill("#address", name)
    page.fill("#targets", ANNA)
    page.click("#add ~ form button.primary")
    assert f"The alias {name} was added." in page.text()
    page.fill("#targets", f"{BOSS}\n{ANNA}")
    page.click('form[action$="/set"] button.primary')
    assert f"The alias {name} was changed." in page.text()
    page.click('button[formaction$="/remove"]')
    assert f"The alias {name} was removed." in page.text()

    follow(page, "/admin/queue")
    assert "2 messages wait." in page.text()
    page.click("td a")
    page.click('form[action$="/hold"] button')
    assert "The message was changed." in page.text()
    page.fill("#to", "far.example")
    page.click(".search button")
    page.click("tr:last-child td a")
    page.go(f"{page.where}/admin/queue?state=held")
    page.click("td a")
    page.click('form[action$="/release"] button')

    follow(page, "/admin/destinations")
    page.fill("#domain", "slow.example")
    page.click('form[action$="/pause"] button')
    assert "Sending to slow.example is paused." in page.text()
    page.click('form[action$="/resume"] button')
    assert "Mail is sent to slow.example again." in page.text()

    follow(page, "/admin/domains")
    page.click("li a[href*=example]")
    if not script:
        page.click("#check ~ div a, section div a.button")
    while not page.there(".findings"):  # htmx puts them there
        page.ask("Runtime.evaluate", expression="new Promise(r => setTimeout(r, 50))",
                 awaitPromise=True)  # fmt: skip
    assert "mail for example.net comes here" in page.text()
    assert not page.complaints()


def test_all_pages_in_german_fit_their_screen_and_can_be_read_aloud(boss, tmp_path):
    page = boss()
    wanted = os.environ.get("POSTOFFICE_PICTURES")
    page.click(f'button[value="{"en" if wanted else "de"}"]')
    pictures = Path(__file__).parents[2] / wanted if wanted else tmp_path
    for path in [*(path for path, _ in site.ADMINISTRATOR_MENU), *SUBPAGES]:
        name = path.partition("?")[0].strip("/").replace("/", "-")
        page.go(f"{page.where}{path}")
        check_names(page, path)
        for dark, size in ((False, DESK), (True, PHONE)):
            page.look(dark=dark, size=size)
            assert page.width_of_page() <= size[0], (path, size)
            kind = f"{'phone' if size == PHONE else 'desk'}-{'dark' if dark else 'light'}"
            file = pictures / f"web-{name}-{kind}.png"
            if file.name in SHOWN:
                page.photograph(file)
                assert file.stat().st_size > 5000, file
        page.look()
    assert not page.complaints()


def check_names(page: Tab, path: str) -> None:
    """All that can be used has a name, and there is one heading of the page."""
    nodes = page.ask("Accessibility.getFullAXTree")["nodes"]
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in ("textbox", "searchbox", "combobox", "button", "link", "image", "meter"):
            assert node["name"]["value"].strip(), (path, node)
    levels = [
        one["value"]["value"]
        for node in nodes
        if node.get("role", {}).get("value") == "heading"
        for one in node.get("properties", ())
        if one["name"] == "level"
    ]
    assert levels.count(1) == 1, (path, levels)
