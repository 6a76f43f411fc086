"""``postoffice auth-failures``: shown and cleared, while others write."""

from __future__ import annotations

import re
import time

import pytest

from postoffice.accounts.attempts import Allowance, Attempts
from postoffice.accounts.login_db import LoginDB

JOE, HERE = "joe@example.net", "192.0.2.7"


@pytest.fixture
def attempts(office):
    """What a daemon writes in, with the default limits."""
    login_db = LoginDB(str(office / "state" / "logins.db"))
    login_db.open()
    yield Attempts(login_db, Allowance(100, 3600), Allowance(10, 60))
    login_db.close()


@pytest.fixture
def guessed(attempts):
    """Six wrong passwords, of which five were looked at; the first was long ago."""
    now = time.time()
    for moment in (now - 7200, now, now, now, now, now):
        attempts.take(JOE, HERE, moment)
        attempts.wrong(JOE, HERE, moment)
    attempts.take("ann@example.net", "2001:db8::/64", now - 60)
    attempts.wrong("ann@example.net", "2001:db8::/64", now - 60)
    return now


def test_they_are_shown_in_a_table(guessed, run):
    head, *rows = run("auth-failures").stdout.splitlines()
    assert re.split(r"  +", head) == ["WHO", "WRONG", "LAST", "BLOCKED UNTIL"]
    assert [row.split()[:2] for row in rows] == [
        [JOE, "6"],
        [HERE, "6"],
        ["ann@example.net", "1"],
        ["2001:db8::/64", "1"],
    ]
    assert [len(row.split()) for row in rows] == [4, 6, 4, 4]


@pytest.mark.parametrize("name", ["joe\nann@example.net  0", "\x1b[2Jjoe", "\N{CSI}2Jjoe"])
def test_a_name_that_somebody_made_up_does_nothing_to_the_terminal(attempts, run, ask, name):
    attempts.take(name, "", time.time())
    attempts.wrong(name, "", time.time())
    _, *rows = run("auth-failures").stdout.splitlines()
    assert [row.isprintable() for row in rows] == [True]
    assert rows[0].startswith(repr(name))
    assert ask("auth-failures")["failures"][0]["name"] == name


def test_they_are_told_to_programs(guessed, ask):
    account, network, *_ = ask("auth-failures")["failures"]
    assert (account["kind"], account["name"], account["count"]) == ("account", JOE, 6)
    assert account["until"] is None
    assert (network["kind"], network["name"]) == ("network", HERE)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", network["until"])
    assert network["last"] <= network["until"]


def test_where_there_are_none_it_says_so(office, run, ask):
    assert run("auth-failures").stdout == "no wrong passwords\n"
    assert ask("auth-failures") == {"failures": []}


@pytest.mark.parametrize(
    ("who", "rest"),
    [
        ([JOE.upper()], [HERE, "ann@example.net", "2001:db8::/64"]),
        ([HERE], [JOE, "ann@example.net", "2001:db8::/64"]),
        (["2001:db8::99", JOE], [HERE, "ann@example.net"]),
        (["2001:db8::/64"], [JOE, HERE, "ann@example.net"]),
        (["::ffff:192.0.2.7"], [JOE, "ann@example.net", "2001:db8::/64"]),
    ],
)
def test_single_ones_are_cleared_by_any_of_their_names(guessed, ask, who, rest):
    words = [word for one in who for word in ("--clear", one)]
    assert ask("auth-failures", *words) == {"cleared": len(who)}
    assert [one["name"] for one in ask("auth-failures")["failures"]] == rest


def test_all_are_cleared(guessed, attempts, run):
    assert run("auth-failures", "--clear-all").stdout == "4 counts cleared\n"
    assert attempts.failures(guessed) == []


def test_clearing_an_unknown_name_says_so(guessed, run):
    said = run("auth-failures", "--clear", "jim@example.net", status=1).stderr
    assert said == "postoffice: there are no wrong passwords of jim@example.net\n"


@pytest.mark.parametrize("words", [["--clear", "joe"], ["--clear", "192.0.2.0/24"],
                                   ["--clear", JOE, "--clear-all"]])  # fmt: skip
def test_what_makes_no_sense_is_refused(office, run, words):
    run("auth-failures", *words, status=2)


def test_the_limits_are_those_of_the_configuration(guessed, office, ask):
    path = office / "postoffice.yaml"
    text = path.read_text()
    assert "\n  wrong_passwords: 10/min\n" in text or "\n  # wrong_passwords: 10/min\n" in text
    path.write_text(
        re.sub(r"\n  (# )?wrong_passwords: 10/min\n", "\n  wrong_passwords: 99999/s\n", text)
    )
    assert [one["until"] for one in ask("auth-failures")["failures"]] == [None] * 4
