"""The pages of owners: their mail, password, devices and settings, and nobody else's."""

from __future__ import annotations

import re

import pytest

from postoffice.accounts.app_passwords import AppPasswordToken
from postoffice.model.address import Quota
from postoffice.testing import finish
from postoffice.web.mailbox_pages import PAGE
from postoffice.web.sessions import CONFIRMED
from tests.store.on_disk import post
from tests.web.whole_site import ANNA, BERT, PASSWORD

LETTER = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <juergen@example.org>\r\n"
    b"Subject: %b\r\nDate: Mon, 11 Jan 2027 10:00:00 +0000\r\n\r\nHow are you?\r\n"
)


def letters(site, *subjects: bytes, to: str = ANNA) -> None:
    for subject in subjects:
        post(site.store, LETTER % subject, to)


def uidls(browser) -> list[str]:
    return re.findall(r'name="uidl" value="([^"]+)"', browser.get("/mail").body.decode())


def test_the_start_page_has_room_last_mail_and_warnings(site):
    letters(site, b"first", b"second")
    browser = site.logged_in()
    browser.get("/")
    assert "second" in browser.text
    assert "Jürgen" in browser.text
    assert "0 % of 9.5" in browser.text
    assert "2 messages" in browser.text
    assert "nearly full" not in browser.text
    finish(site.directory.set_quota(ANNA, Quota(300, 0, "reject")))
    browser.get("/")
    assert "nearly full" in browser.text
    finish(site.directory.set_state(ANNA, "held"))
    browser.get("/")
    assert "may not send" in browser.text


def test_mail_is_listed_newest_first_without_texts(site):
    letters(site, b"first", b"second")
    letters(site, b"not hers", to=BERT)
    browser = site.logged_in()
    browser.get("/mail")
    assert browser.text.index("second") < browser.text.index("first")
    assert "Jürgen &lt;juergen@example.org&gt;" in browser.text
    assert "How are you" not in browser.text
    assert "not hers" not in browser.text


@pytest.mark.parametrize("charset", [b"undefined", b"punycode", b"a\0b", b"\xff", b"utf-7", b"zip"])
def test_no_charset_breaks_the_list(site, charset):
    letters(site, b"=?%b?q?=ff-+2AA-?=" % charset, b"good")
    browser = site.logged_in()
    assert browser.get("/mail").status == 200
    assert len(uidls(browser)) == 2
    assert browser.get("/").status == 200


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        (b"<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        (b"=?utf-8?q?=3Cimg_src=3Dx_onerror=3Dalert(1)=3E?=", "&lt;img src=x onerror=alert(1)&gt;"),
        (b"=?utf-8?b?4oCuZXhlLnRhbmlk?=", "⟨U+202E⟩exe.tanid"),
        (b"=?utf-8?q?a=00b=1B[31m?=", "a⟨U+0000⟩b⟨U+001B⟩[31m"),
        ("grün".encode(), "grün"),
        (b"gr\xfcn", "grün"),
        (b"=?no-such-charset?q?x?=", "x"),
        (b"=?utf-8?b?****?=", "=?utf-8?b?****?="),
        (b"", "(no subject)"),
    ],
)
def test_hostile_subjects_are_only_text(site, subject, shown):
    letters(site, subject)
    browser = site.logged_in()
    for page in ("/mail", "/"):
        browser.get(page)
        assert shown in browser.text, browser.text


def test_what_is_no_message_is_listed_all_the_same(site):
    post(site.store, b"Date: yesterday\r\nFrom: (((\r\n\r\n", ANNA)
    post(site.store, b"\r\n\x00\xff\r\n", ANNA)
    post(site.store, b"Subject: " + b"x" * 90_000 + b"\r\n\r\n", ANNA)
    browser = site.logged_in()
    assert browser.get("/mail").status == 200
    assert browser.text.count('name="uidl"') == 3


def test_a_long_list_has_pages(site):
    letters(site, *(b"number %d." % number for number in range(PAGE + 5)))
    browser = site.logged_in()
    browser.get("/mail")
    assert f"number {PAGE + 4}." in browser.text
    assert "number 4." not in browser.text
    assert 'href="/mail?page=2"' in browser.text
    browser.get("/mail?page=2")
    assert "number 4." in browser.text
    assert browser.get("/mail?page=99").status == 303
    assert browser.place == "/mail?page=2"
    for wrong in ("x", "-1", "9" * 30, "²"):
        assert browser.get(f"/mail?page={wrong}").status == 200


def test_a_message_is_saved_as_a_file_and_never_shown(site):
    letters(site, b"one")
    browser = site.logged_in()
    (uidl,) = uidls(browser)
    browser.get(f"/mail/message.eml?uidl={uidl}")
    assert browser.response.kind == "message/rfc822"
    assert browser.response.headers["Content-Disposition"].startswith("attachment; filename*=")
    assert browser.response.body.endswith(b"\r\n\r\nHow are you?\r\n")


def test_nobody_reaches_the_mail_of_others(site):
    letters(site, b"hers")
    (uidl,) = uidls(site.logged_in())
    other = site.logged_in(BERT)
    assert other.get(f"/mail/message.eml?uidl={uidl}").status == 404
    other.get("/devices")
    other.post("/mail/delete", uidl=uidl)
    assert len(uidls(site.logged_in())) == 1


def test_deleted_mail_can_be_brought_back(site):
    letters(site, b"one", b"two", b"three")
    browser = site.logged_in()
    third, second, first = uidls(browser)
    browser.post("/mail/delete", uidl=[first, third])
    assert browser.place == "/mail"
    browser.follow()
    assert "Deleted: 2." in browser.text
    assert uidls(browser) == [second]
    browser.get("/mail/deleted")
    assert "2 messages" in browser.text
    assert "deleted by this page" in browser.text
    (session,) = re.findall(r'name="session" value="([^"]+)"', browser.text)
    other = site.logged_in(BERT)
    other.get("/devices")
    other.post("/mail/deleted/restore", session=session)
    assert len(uidls(browser)) == 1, "another's account restores nothing"
    browser.post("/mail/deleted/restore", session=session)
    assert uidls(browser) == [third, second, first]
    browser.post("/mail/deleted/restore", session=session)
    browser.follow()
    assert "Nothing of that is kept any more." in browser.text


def test_what_a_mail_program_holds_is_not_deleted(site):
    letters(site, b"one")
    browser = site.logged_in()
    (uidl,) = uidls(browser)
    held = site.store.maildrop(ANNA)
    finish(held.open())
    browser.post("/mail/delete", uidl=uidl)
    browser.follow()
    assert "fetching mail at the moment" in browser.text
    held.release()
    browser.post("/mail/delete", uidl=uidl)
    assert uidls(browser) == []
    site.store.maildrop(ANNA).release()


def test_nothing_chosen_deletes_nothing(site):
    letters(site, b"one")
    browser = site.logged_in()
    uidls(browser)
    browser.post("/mail/delete")
    browser.follow()
    assert "No message was chosen." in browser.text


# -- password ------------------------------------------------------------------------------


def test_a_new_password_ends_all_other_sessions(site):
    browser, other = site.logged_in(), site.logged_in()
    browser.get("/password")
    browser.post("/password", new_password="staple of batteries", again="staple of batteries")
    assert browser.follow().status == 200
    assert "You have a new password." in browser.text
    assert other.get("/").status == 303
    assert site.browser().log_in(ANNA).status == 403
    assert site.browser().log_in(ANNA, "staple of batteries").status == 303


@pytest.mark.parametrize(
    ("new", "again", "why"),
    [
        ("staple of batteries", "staple of battery", "differ"),
        ("short", "short", "has less than 8 characters"),
        ("", "", "is empty"),
        ("anna", "anna", "has less than 8"),
        ("anna@example.net", "anna@example.net", "is the address"),
        ("password1", "password1", "is &#34;password&#34;"),
        ("x" * 300, "x" * 300, "has over 200 octets"),
        ("two\nlines of it", "two\nlines of it", "control characters"),
    ],
)
def test_a_bad_password_is_not_taken(site, new, again, why):
    browser = site.logged_in()
    browser.get("/password")
    browser.post("/password", new_password=new, again=again)
    browser.follow()
    assert why in browser.text
    assert site.browser().log_in(ANNA).status == 303


def test_a_password_that_was_given_long_ago_is_asked_for_again(site):
    browser = site.logged_in()
    browser.get("/password")
    assert 'name="current_password"' not in browser.text
    site.clock.advance(CONFIRMED)
    browser.get("/password")
    assert 'name="current_password"' in browser.text
    new = {"new_password": "staple of batteries", "again": "staple of batteries"}
    browser.post("/password", current_password="wrong", **new)
    browser.follow()
    assert "That is not your password" in browser.text
    browser.post("/password", current_password=PASSWORD, **new)
    browser.follow()
    assert "You have a new password." in browser.text


# -- devices -------------------------------------------------------------------------------


def made(browser, name: str, protocol: str = "any") -> str:
    """The app password of a new device."""
    browser.get("/devices")
    browser.post("/devices", name=name, protocol=protocol)
    found = re.search(r'<code class="once">([^<]+)</code>', browser.text)
    assert found, browser.text
    return found[1]


def test_an_app_password_is_shown_once_and_works(site):
    browser = site.logged_in()
    password = made(browser, "phone & Co", "pop3")
    assert password not in browser.get("/devices").body.decode()
    assert "phone &amp; Co" in browser.text
    assert "to fetch mail" in browser.text
    (device,) = finish(site.directory.app_passwords(ANNA))
    assert device.protocol == "pop3"
    assert AppPasswordToken.read(password).of([device])


def test_a_device_is_removed_by_its_owner_only(site):
    browser, other = site.logged_in(), site.logged_in(BERT)
    made(browser, "phone")
    other.get("/devices")
    other.post("/devices/remove", name="phone")
    assert finish(site.directory.app_passwords(ANNA))
    browser.post("/devices/remove", name="phone")
    assert not finish(site.directory.app_passwords(ANNA))


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\x00b"])
def test_a_device_needs_a_name(site, name):
    browser = site.logged_in()
    browser.get("/devices")
    browser.post("/devices", name=name, protocol="any")
    browser.follow()
    assert "Give the device a name" in browser.text


def test_a_name_is_for_one_device(site):
    browser = site.logged_in()
    made(browser, "phone")
    browser.post("/devices", name="phone", protocol="any")
    browser.follow()
    assert "There is a device of that name already" in browser.text
    assert browser.post("/devices", name="x", protocol="imap").status == 303
    assert len(finish(site.directory.app_passwords(ANNA))) == 1


# -- settings ------------------------------------------------------------------------------


def test_how_long_mail_is_kept_is_told_in_words(site):
    browser = site.logged_in()
    browser.get("/kept")
    assert "Mail is kept until you or your mail program delete it." in browser.text
    assert "new mail is returned" in browser.text
    assert "brought back for 1\u00a0day" in browser.text.replace("1 day", "1\u00a0day")
    from postoffice.model.mail_policy import MailPolicy

    policy = MailPolicy(keep=90 * 86400.0, keep_collected=7200.0, devices="all")
    finish(site.directory.set_mail_policy(ANNA, policy))
    browser.get("/kept")
    assert "<strong>90 days</strong> after it arrived" in browser.text
    assert "<strong>2 hours</strong> after it was fetched" in browser.text
    assert "each of your devices" in browser.text


def test_the_settings_for_mail_programs(site):
    browser = site.logged_in()
    browser.get("/programs")
    assert browser.text.index("995") < browser.text.index("110")
    assert "SSL/TLS" in browser.text
    assert "STARTTLS" in browser.text
    assert ANNA in browser.text


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("autoconfig.example.net", "/mail/config-v1.1.xml"),
        ("autoconfig.example.net", f"/mail/config-v1.1.xml?emailaddress={ANNA}"),
        ("example.net", f"/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress={BERT}"),
    ],
)
def test_thunderbird_finds_its_settings(site, host, address):
    browser = site.browser()
    browser.headers = {"host": host}
    answer = browser.get(address)
    assert answer.kind.startswith("text/xml")
    assert '<incomingServer type="pop3">\n      <hostname>mail.example.net' in browser.text
    assert browser.text.count("<port>") == 2
    assert "<port>995</port>" in browser.text
    assert "<port>465</port>" in browser.text


def test_others_find_nothing(site):
    browser = site.browser()
    browser.headers = {"host": "autoconfig.elsewhere.example"}
    assert browser.get("/mail/config-v1.1.xml").status == 404
    assert browser.get("/mail/config-v1.1.xml?emailaddress=x@elsewhere.example").status == 404
    assert browser.get("/mail/config-v1.1.xml?emailaddress=<x>").status == 404


def test_outlook_finds_its_settings(site):
    browser = site.browser()
    browser.headers = {"host": "autodiscover.example.net"}
    question = (
        f"<Autodiscover><Request><EMailAddress>{ANNA}</EMailAddress></Request></Autodiscover>"
    )
    browser.ask("POST", "/autodiscover/autodiscover.xml", body=question.encode())
    assert "<Type>POP3</Type>" in browser.text
    assert f"<LoginName>{ANNA}</LoginName>" in browser.text
    browser.ask(
        "POST", "/Autodiscover/Autodiscover.xml", body=b"<EMailAddress>a&b@x</EMailAddress>"
    )
    assert browser.response.status == 404
    browser.ask("POST", "/autodiscover/autodiscover.xml", body=b"\xff")
    assert browser.response.status == 404


def test_the_answers_for_programs_are_xml_whatever_the_names_are():
    from xml.etree import ElementTree

    from postoffice.web.mail_programs import PLAIN, Access, autoconfig, autodiscover

    odd = [Access("pop3", "a&b<c>", 110, PLAIN), Access("submission", '"', 587, PLAIN)]
    assert ElementTree.fromstring(autoconfig("<&>", odd)).tag == "clientConfig"
    ElementTree.fromstring(autodiscover("a&<b>@example.net", odd))
