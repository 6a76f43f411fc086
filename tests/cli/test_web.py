"""``postoffice web``: administrators, and one-time links."""

from __future__ import annotations

import re
import time

import pytest

from postoffice.config import web
from postoffice.config.web import WebSettings
from postoffice.web.web_db import LOGIN, WebDB

JOE = "joe@example.net"


@pytest.fixture
def joe(office, run):
    run("account", "add", JOE, "--generate")
    file = office / "postoffice.yaml"
    file.write_text(file.read_text() + "\nweb: {hosts: [mail.example.net]}\n")


@pytest.fixture
def web_db(office):
    web_db = WebDB(str(office / "state"), time.time)
    web_db.open()
    yield web_db
    web_db.close()


def test_administrators_are_added_listed_and_removed(joe, run, ask):
    assert ask("web", "admin", "add", JOE) == {"account": JOE, "added": True}
    assert ask("web", "admin", "add", JOE) == {"account": JOE, "added": False}
    (one,) = ask("web", "admin", "list")["administrators"]
    assert (one["account"], one["second_factor"]) == (JOE, False)
    assert JOE in run("web", "admin", "list").stdout
    assert ask("web", "admin", "remove", JOE) == {"account": JOE, "removed": True}
    assert "is no administrator" in ask("web", "admin", "remove", JOE, status=1)["error"]
    assert "no administrators" in run("web", "admin", "list").stdout


def test_an_administrator_must_have_an_account(joe, ask):
    assert "there is no account" in ask("web", "admin", "add", "x@example.net", status=1)["error"]
    assert "there is no account" in ask("web", "link", "x@example.net", status=1)["error"]


def test_the_second_factor_is_sealed(joe, office, run, ask, web_db):
    run("web", "admin", "add", JOE)
    web_db.set_totp(JOE, "JBSWY3DPEHPK3PXP")
    (one,) = ask("web", "admin", "list")["administrators"]
    assert one["second_factor"]
    assert web_db.administrator(JOE).totp == "JBSWY3DPEHPK3PXP"
    for file in (office / "state").glob("web.*"):
        assert b"JBSWY3DPEHPK3PXP" not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0


def test_a_link_leads_to_the_page(joe, run, ask, web_db):
    link = ask("web", "link", JOE)["link"]
    found = re.fullmatch(r"http://localhost:8025/link\?token=(\S{43})", link)
    assert found
    assert web_db.use_link(LOGIN, found[1]).account == JOE
    assert web_db.use_link(LOGIN, found[1]) is None


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({}, "http://localhost:8025"),
        ({"listen": "tcp6:8443", "tls": True}, "https://mail.example.net:8443"),
        ({"listen": "tcp:443", "tls": True}, "https://mail.example.net"),
        ({"listen": "tcp:port=443:interface=192.0.2.1", "tls": True}, "https://mail.example.net"),
        ({"proxies": ("192.0.2.1",)}, "https://mail.example.net"),
        ({"listen": "unix:/run/web"}, "https://mail.example.net"),
    ],
)
def test_the_address_of_the_page(settings, place):
    where = {"listen": "tcp:8025:interface=127.0.0.1", "tls": False, "proxies": ()}
    web = WebSettings(hosts=("mail.example.net",), **{**where, **settings})
    assert web.address() == place


def test_without_a_page_there_is_no_link(office, run, ask):
    run("account", "add", JOE, "--generate")
    assert "no section web" in ask("web", "link", JOE, status=1)["error"]


def test_the_extra_that_is_missing_is_told_of(joe, ask, monkeypatch):
    monkeypatch.setattr(web, "MODULES", ("jinja2", "no_such_module"))
    (problem,) = ask("check-config", status=2)["problems"]
    assert problem["key"] == "web"
    assert "pip install 'postoffice[web]'" in problem["text"]
    assert problem["line"]


def test_the_rights_of_a_removed_account_are_not_inherited(joe, run, ask, web_db):
    run("web", "admin", "add", JOE)
    token = web_db.make_link(LOGIN, JOE)
    run("account", "remove", JOE)
    run("account", "add", JOE, "--generate")
    assert ask("web", "admin", "list")["administrators"] == []
    assert web_db.use_link(LOGIN, token) is None


def test_a_renamed_administrator_stays_one(joe, run, ask, web_db):
    run("web", "admin", "add", JOE)
    web_db.set_totp(JOE, "JBSWY3DPEHPK3PXP")
    run("account", "rename", JOE, "jane@example.net")
    (one,) = ask("web", "admin", "list")["administrators"]
    assert one["account"] == "jane@example.net"
    assert one["second_factor"]
    assert web_db.administrator("jane@example.net").totp == "JBSWY3DPEHPK3PXP"


def test_a_new_password_withdraws_links(joe, run, web_db):
    token = web_db.make_link(LOGIN, JOE)
    run("account", "passwd", JOE, "--generate")
    assert web_db.use_link(LOGIN, token) is None
