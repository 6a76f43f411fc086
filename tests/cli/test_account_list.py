"""``postoffice account list``: when each has logged in last, and what it uses."""

from __future__ import annotations

import re
import time

import pytest

from postoffice.accounts.login_db import LoginDB
from postoffice.accounts.login_history import LoginHistory, LoginMethod
from postoffice.cli import account_list, list_output
from postoffice.cli.account_list import Usage
from postoffice.model.address import Quota
from postoffice.model.errors import TemporaryFailure
from postoffice.store.maildir_store import MaildirStore
from tests.cli.test_accounts import post

ANN, BOB = "ann@example.net", "bob@example.org"
HOUR = 3600.0


@pytest.fixture
def people(furnish):
    accounts = (f"account add {name} --generate" for name in (ANN, BOB))
    furnish("domain add example.org --quota 1KiB", *accounts)


@pytest.fixture
def log_in(office):
    login_db = LoginDB(str(office / "state" / "logins.db"))
    login_db.open()

    def log_in(account, ago, service="pop3s", device=""):
        entrance = LoginMethod(account, device, service, "PLAIN", "TLSv1.3", "192.0.2.1")
        LoginHistory(login_db).write({entrance: time.time() - ago})

    yield log_in
    login_db.close()


def listed(ask, *words):
    return {one["address"]: one for one in ask("account", "list", *words)["accounts"]}


def test_the_last_login_is_the_last_of_the_account_or_of_any_device(people, run, ask, log_in):
    log_in(ANN, 30 * 24 * HOUR)
    log_in(ANN, 2.5 * HOUR, "submission", "phone")
    log_in(ANN, 9 * HOUR, "pop3", "phone")
    log_in("gone@example.net", 1.0)
    found = listed(ask)
    assert set(found) == {ANN, BOB, "postmaster@example.net"}
    assert found[BOB]["last_login"] is None
    last = found[ANN]["last_login"]
    assert (last["service"], last["device"], last["network"]) == (
        "submission",
        "phone",
        "192.0.2.1",
    )
    text = run("account", "list").stdout
    assert "  2.5 hours ago  submission  " in text
    assert text.count("  never  ") == 2


def test_a_clock_that_was_put_back_makes_no_login_of_tomorrow(people, run, log_in):
    log_in(ANN, -24 * HOUR)
    assert "  1 second ago  pop3s  " in run("account", "list").stdout


def test_the_use_is_told_and_how_much_of_the_quota_it_is(people, office, run, ask):
    post(office, BOB, 15)
    found = listed(ask)
    assert (found[BOB]["messages"], found[BOB]["octets"], found[BOB]["percent"]) == (15, 255, 24.9)
    assert (found[ANN]["messages"], found[ANN]["percent"]) == (0, 0)
    assert "  255 octets, 24%  " in run("account", "list", "example.org").stdout


def test_the_use_of_a_renamed_account_is_that_of_its_maildrop(people, office, run, ask):
    post(office, ANN, 2)
    run("account", "rename", ANN, "anne@example.net")
    assert listed(ask)["anne@example.net"]["messages"] == 2


@pytest.mark.parametrize(
    ("held", "quota", "percent"),
    [
        ((3, 300), Quota(1000, 4), 75),
        ((3, 900), Quota(1000, 4), 90),
        ((3, 900), Quota(0, 0), None),
        ((3, 900), Quota(None, 2), 150),
        ((0, 0), Quota(10, None), 0),
    ],
)
def test_the_percentage_is_of_what_is_nearer_to_its_end(held, quota, percent):
    assert Usage(*held, quota).percent == percent


def test_the_maildrops_of_many_are_looked_at_only_where_that_is_asked_for(
    people, office, run, ask, monkeypatch
):
    monkeypatch.setattr(account_list, "LOOKED_AT", 2)
    post(office, BOB)
    note = "the maildrops were not read; --use reads them"
    assert listed(ask)[BOB]["octets"] is None
    assert note in run("account", "list").stdout
    assert listed(ask, "--use")[BOB]["octets"] == 17
    assert listed(ask, "example.org")[BOB]["octets"] == 17
    assert listed(ask, "example.org", "--no-use")[BOB]["octets"] is None
    assert note not in run("account", "list", "--use").stdout


def test_a_maildrop_that_cannot_be_looked_at_hides_no_account(people, office, run, monkeypatch):
    count = MaildirStore.count

    async def broken(self, name):
        if name == BOB:
            raise TemporaryFailure("the disk")
        return await count(self, name)

    monkeypatch.setattr(MaildirStore, "count", broken)
    [line] = [line for line in run("account", "list").stdout.splitlines() if BOB in line]
    assert "  ?  " in line


def test_the_state_is_told(people, run, ask):
    run("account", "disable", ANN)
    assert {name: one["state"] for name, one in listed(ask).items()} == {
        ANN: "disabled",
        BOB: "enabled",
        "postmaster@example.net": "enabled",
    }
    assert f"{ANN}         disabled  yes" in run("account", "list").stdout


# -- which accounts --------------------------------------------------------------------


def names(ask, *words):
    return sorted(listed(ask, *words))


def test_only_those_in_a_state_are_listed(people, run, ask):
    run("account", "disable", ANN)
    assert names(ask, "--state", "disabled") == [ANN]
    assert names(ask, "--state", "held") == []
    assert names(ask, "example.org", "--state", "enabled") == [BOB]
    assert "not one of" in run("account", "list", "--state", "gone", status=2).stderr


def test_only_those_over_a_share_of_their_quota_are_listed(people, office, ask, monkeypatch):
    monkeypatch.setattr(account_list, "LOOKED_AT", 0)
    post(office, BOB, 15)
    assert names(ask, "--over", "24") == [BOB]
    assert names(ask, "--over", "25") == []


def test_accounts_without_a_recent_login_are_listed(people, ask, log_in):
    log_in(ANN, 30 * 24 * HOUR)
    log_in("postmaster@example.net", HOUR)
    assert names(ask, "--last-login-before", "10 days") == [ANN, BOB]
    assert names(ask, "--last-login-before", "60 days") == [BOB]
    assert names(ask, "--last-login-before", "2001-01-01") == [BOB]


def test_only_those_with_a_scheme_of_hashes_are_listed(people, run, ask):
    run("account", "passwd", ANN, "--hash-stdin", text="{SHA256}" + 43 * "A" + "=")
    schemes = {name: one["scheme"] for name, one in listed(ask).items()}
    assert schemes == {ANN: "SHA256", BOB: "ARGON2ID", "postmaster@example.net": "NONE"}
    assert names(ask, "--scheme", "sha256") == [ANN]
    assert names(ask, "--scheme", "none") == ["postmaster@example.net"]
    assert names(ask, "--scheme", "SHA256", "--state", "disabled") == []


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_a_long_list_is_printed_page_by_page(people, run, ask, monkeypatch, rows):
    run("alias", "add", "info@example.net", ANN)
    whole = {what: (run(what, "list").stdout, ask(what, "list")) for what in ("account", "alias")}
    monkeypatch.setattr(list_output, "PAGE", rows)
    for what, (text, data) in whole.items():
        assert ask(what, "list") == data
        lines = run(what, "list").stdout.splitlines()
        assert [" ".join(one.split()) for one in lines] == [
            " ".join(one.split()) for one in text.splitlines()
        ]


def test_an_empty_list_is_said_to_be_empty(office, run, ask):
    assert ask("account", "list", "--state", "held") == {"accounts": []}
    assert run("account", "list", "--state", "held").stdout == "no accounts\n"
    assert ask("alias", "list") == {"aliases": []}
    assert run("alias", "list").stdout == "no aliases\n"


def test_a_little_over_is_over(people, office, run, ask):
    """As it is, not as it is rounded for people."""
    run("account", "set", ANN, "--quota", "1TiB")
    post(office, ANN, 1)
    assert listed(ask)[ANN]["percent"] == 0
    assert ANN in listed(ask, "--over", "0")
    assert ANN not in listed(ask, "--over", "0.1")


def test_accounts_of_directories_that_are_only_read_are_listed(people, office, run, ask):
    """Those that an earlier directory has as well are its own."""
    (office / "state" / "people").write_text(
        "ann@example.net:x::::::\nzoe@example.com:{PLAIN}x::::::\n"
    )
    config = (office / "postoffice.yaml").read_text()
    more = "accounts:\n  - kind: passwd-file\n    path: people\n  - kind: sqlite\n"
    (office / "postoffice.yaml").write_text(
        re.sub(r"(?m)^accounts:.*\n(?:[ #].*\n)*", more, config)
    )
    found = ask("account", "list")["accounts"]
    names = [one["address"] for one in found]
    assert names == [ANN, "zoe@example.com", BOB, "postmaster@example.net"]
    assert found[0]["password"] is False
    assert found[1]["quota_from"]["octets"] == "default"
    assert list(listed(ask, "example.com")) == ["zoe@example.com"]
