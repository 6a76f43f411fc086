"""The `postoffice` command: devices of accounts, their last logins, and who would break."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

import pytest

from postoffice.accounts.app_passwords import AppPasswordToken
from postoffice.accounts.login_db import LoginDB
from postoffice.accounts.login_history import LoginHistory, LoginMethod
from postoffice.model.errors import TemporaryFailure
from postoffice.protocol.scram import Keys, derive
from postoffice.testing import finish

JOE = "joe@example.net"


@pytest.fixture
def joe(furnish):
    furnish(f"account add {JOE} --generate")


@pytest.fixture
def used(office):
    """Writes down that somebody has logged in."""

    def used(account, device, days=0.0, **how):
        words = {"service": "pop3", "mechanism": "USER", "tls": "TLSv1.3", "network": "192.0.2.1"}
        login_db = LoginDB(str(office / "state" / "logins.db"))
        login_db.open()
        entrance = LoginMethod(account, device, **{**words, **how})
        LoginHistory(login_db).write({entrance: time.time() - days * 86400})
        login_db.close()

    return used


def add(ask, name, *options):
    return ask("account", "device", "add", JOE, name, *options)["generated_password"]


# -- account device ----------------------------------------------------------------------


def test_columns_stand_below_each_other_in_whatever_letters(joe, run):
    for name in ("phone", "携帯", "Phq\N{COMBINING ACUTE ACCENT}ne"):
        run("account", "device", "add", JOE, name)
    heads, *rows = run("account", "device", "list", JOE).stdout.splitlines()
    assert heads.startswith("DEVICE  MAY")
    assert {row[: row.index("with")] for row in rows} == {
        "phone   ",
        "携帯    ",  # of two columns each
        "Phq\N{COMBINING ACUTE ACCENT}ne   ",
    }


def test_a_device_gets_a_password_that_is_shown_once(joe, run, directory, office):
    said = run("account", "device", "add", JOE, "my phone").stdout
    text = re.fullmatch(f"{JOE} has a device 'my phone'\npassword: (.*)\n", said)[1]
    (device,) = finish(directory.app_passwords(JOE))
    password = AppPasswordToken.read(text)
    assert password.of([device]) == device
    assert (device.name, device.protocol, device.networks, device.expires) == (
        "my phone", "any", (), None,
    )  # fmt: skip
    assert text not in run("account", "device", "list", JOE).stdout
    kept = b"".join(path.read_bytes() for path in (office / "state").glob("*") if path.is_file())
    assert text[7:].encode() not in kept


def test_where_it_may_be_used_is_kept_and_told(joe, run, ask):
    networks = ("--network", "192.0.2.7", "--network", "2001:db8::1/32")
    add(ask, "phone", "--protocol", "pop3", *networks, "--expires", "90 days")
    (device,) = ask("account", "device", "list", JOE)["devices"]
    assert device["protocol"] == "pop3"
    assert device["networks"] == ["192.0.2.7", "2001:db8::/32"]
    assert device["expired"] is False
    assert device["last_login"] is None
    lasts = datetime.fromisoformat(device["expires"]) - datetime.fromisoformat(device["added"])
    assert abs(lasts - timedelta(days=90)) < timedelta(minutes=1)
    head, row = run("account", "device", "list", JOE).stdout.splitlines()
    assert head.split("  ")[0] == "DEVICE"
    assert row.startswith("phone   with pop3 from 192.0.2.7, 2001:db8::/32  ")
    assert row.endswith("  never")


def test_a_day_counts_to_its_end(joe, ask):
    add(ask, "phone", "--expires", "2099-12-31")
    (device,) = ask("account", "device", "list", JOE)["devices"]
    assert datetime.fromisoformat(device["expires"]).astimezone().replace(tzinfo=None) == datetime(
        2100, 1, 1
    )


def test_one_that_has_expired_is_told_so(joe, run, ask, directory):
    add(ask, "phone", "--expires", "1")
    (device,) = finish(directory.app_passwords(JOE))
    finish(directory.remove_app_password(JOE, "phone"))
    object.__setattr__(device, "expires", time.time() - 1)
    finish(directory.add_app_password(JOE, device))
    assert ask("account", "device", "list", JOE)["devices"][0]["expired"] is True
    assert "  since " in run("account", "device", "list", JOE).stdout


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("", ()),
        ("x" * 65, ()),
        ("a\nb", ()),
        ("phone", ("--expires", "2020-01-01")),
        ("phone", ("--expires", "0")),
        ("phone", ("--expires", "soon")),
        ("phone", ("--expires", "9999-12-31")),
        ("phone", ("--protocol", "imap")),
        ("phone", ("--network", "here")),
    ],
)
def test_what_makes_no_sense_is_refused(joe, run, ask, name, options):
    run("account", "device", "add", JOE, name, *options, status=2)
    assert ask("account", "device", "list", JOE)["devices"] == []


def test_a_name_is_taken_once_and_free_again_when_it_is_removed(joe, run, ask, directory, used):
    first = add(ask, "phone")
    said = run("account", "device", "add", JOE, "phone", status=1).stderr
    assert said == f"postoffice: {JOE} has a device 'phone' already\n"
    used(JOE, "phone")
    said = ask("account", "device", "remove", JOE, "phone")
    assert said == {"address": JOE, "device": "phone", "removed": True}
    run("account", "device", "remove", JOE, "phone", status=1)
    assert add(ask, "phone") != first
    assert ask("account", "device", "list", JOE)["devices"][0]["last_login"] is None


@pytest.mark.parametrize("words", [("add", "eve@example.net", "phone"), ("list", "eve@example.net"),
                                   ("remove", "eve@example.net", "phone")])  # fmt: skip
def test_nobody_has_no_devices(office, run, words):
    assert "eve@example.net" in run("account", "device", *words, status=1).stderr


def test_all_keys_of_an_account_have_one_salt(joe, run, ask, directory):
    phone = add(ask, "phone")
    run("account", "passwd", JOE, "--password-stdin", text="another\n")
    add(ask, "pad")
    account = finish(directory.find(JOE))
    texts = [account.scram, *(one.scram for one in finish(directory.app_passwords(JOE)))]
    keys = [Keys.parse(text) for text in texts]
    assert len({(one.salt, one.iterations) for one in keys}) == 1
    salt = keys[0].salt, keys[0].iterations
    assert derive(b"another", *salt) == keys[0]
    assert derive(phone.encode(), *salt) in keys


def test_a_new_password_without_devices_has_a_new_salt(joe, run, directory):
    before = Keys.parse(finish(directory.find(JOE)).scram).salt
    run("account", "passwd", JOE, "--generate")
    assert Keys.parse(finish(directory.find(JOE)).scram).salt != before


# -- account show, account remove ----------------------------------------------------------


def test_an_account_is_shown_with_its_last_login_and_its_devices(joe, run, ask, used):
    add(ask, "phone")
    add(ask, "pad")
    used(JOE, "", service="submission", mechanism="PLAIN", network="")
    used(JOE, "phone", days=2, tls="TLSv1.2")
    used(JOE, "phone", days=1)
    shown = ask("account", "show", JOE)
    assert {**shown["last_login"], "time": ""} == {
        "time": "", "service": "submission", "mechanism": "PLAIN", "tls": "TLSv1.3", "network": "",
    }  # fmt: skip
    pad, phone = shown["devices"]
    assert (pad["name"], pad["last_login"]) == ("pad", None)
    assert {**phone["last_login"], "time": ""} == {
        "time": "", "service": "pop3", "mechanism": "USER", "tls": "TLSv1.3",
        "network": "192.0.2.1",
    }  # fmt: skip
    lines = run("account", "show", JOE).stdout
    assert re.search(
        r"^last login  \d{4}-\d\d-\d\d [\d:]{8}, submission, PLAIN, TLSv1.3, this machine$",
        lines,
        re.MULTILINE,
    )
    assert re.search(r"^phone .* pop3 +USER +TLSv1.3  192.0.2.1$", lines, re.MULTILINE)


def test_an_account_that_never_logged_in_is_shown_so(joe, run, ask):
    assert "\nlast login  never\n" in run("account", "show", JOE).stdout
    shown = ask("account", "show", JOE)
    assert (shown["last_login"], shown["devices"]) == (None, [])


def test_an_account_with_devices_alone_is_shown_so(office, run):
    run("account", "device", "add", "postmaster@example.net", "phone")
    shown = run("account", "show", "postmaster@example.net").stdout
    assert "\npassword    no: only its devices can log in\n" in shown


def test_a_new_account_of_that_name_has_neither_devices_nor_logins(joe, run, ask, used):
    add(ask, "phone")
    used(JOE, "")
    run("account", "remove", JOE)
    run("account", "add", JOE, "--generate")
    shown = ask("account", "show", JOE)
    assert (shown["last_login"], shown["devices"]) == (None, [])


# -- report logins -------------------------------------------------------------------------


def test_the_report_names_who_would_break_and_nobody_else(joe, run, ask, used):
    used(JOE, "phone", tls="")
    used(JOE, "", tls="TLSv1.2", service="submission", mechanism="PLAIN")
    used("ann@example.net", "", tls="", mechanism="APOP", network="")
    used("eve@example.net", "")
    used("jim@example.net", "", days=40, tls="")
    said = ask("report", "logins")
    assert said["days"] == 30
    names = {key: [(one["account"], one["device"]) for one in said[key]]
             for key in ("plaintext", "tls_1_2", "apop")}  # fmt: skip
    assert sorted(names["plaintext"]) == [("ann@example.net", ""), (JOE, "phone")]
    assert names["tls_1_2"] == [(JOE, "")]
    assert names["apop"] == [("ann@example.net", "")]
    (old,) = said["tls_1_2"]
    assert {**old, "time": ""} == {
        "account": JOE, "device": "", "time": "", "service": "submission", "mechanism": "PLAIN",
        "tls": "TLSv1.2", "network": "192.0.2.1",
    }  # fmt: skip
    head, *rows = run("report", "logins").stdout.splitlines()
    assert re.split("  +", head)[:4] == ["WITHOUT", "ACCOUNT", "DEVICE", "LAST LOGIN"]
    assert [re.split("  +", row)[0] for row in rows] == [
        "plaintext",
        "plaintext",
        "TLS 1.2",
        "APOP",
    ]
    assert "jim@example.net" in run("report", "logins", "--days", "41").stdout


def test_where_nobody_would_break_it_says_so(joe, run, used):
    used(JOE, "")
    said = run("report", "logins", "--days", "1").stdout
    assert said == "nobody has used plaintext, TLS 1.2 or APOP within 1 day\n"


def test_a_ledger_that_another_holds_is_no_traceback(joe, run, monkeypatch):
    def locked(self, since, account=None):
        raise TemporaryFailure("the database of logins: database is locked")

    monkeypatch.setattr(LoginHistory, "used", locked)
    assert "is locked" in run("account", "show", JOE, status=1).stderr
