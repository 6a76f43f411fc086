"""``postoffice account rename``."""

from __future__ import annotations

import re

import pytest

from postoffice.accounts.login_db import LoginDB
from postoffice.accounts.login_history import LoginHistory, LoginMethod
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.cli import sessions
from postoffice.testing import ImmediateExecutor, finish
from tests.cli.test_accounts import post

JOE, JIM = "joe@example.net", "jim@example.org"


@pytest.fixture
def joe(furnish):
    """He has a password, a device and two messages."""
    office = furnish(
        "domain add example.org",
        f"account add {JOE} --password-stdin --quota 1GiB\nsecret word",
        f"account set {JOE} --shared-secret-stdin\ntanstaaf",
        f"account device add {JOE} phone",
    )
    post(office, JOE, 2)


@pytest.fixture
def login_db(office):
    login_db = LoginDB(str(office / "state" / "logins.db"))
    login_db.open()
    yield login_db
    login_db.close()


def logged_in(login_db, account, when):
    entrance = LoginMethod(account, "", "pop3s", "PLAIN", "TLSv1.3", "192.0.2.1")
    LoginHistory(login_db).write({entrance: when})
    with login_db.turn() as database:
        database.execute("INSERT OR REPLACE INTO known VALUES (?, '192.0.2.1', ?)", (account, when))


def test_a_renamed_account_keeps_all_that_it_has(joe, run, ask, login_db):
    logged_in(login_db, JOE, 1.8e9)
    logged_in(login_db, JIM, 1.7e9)  # of one that is gone
    before = ask("account", "show", JOE)
    assert before["last_login"]
    assert before["devices"]
    assert before["messages"] == 2
    said = run("account", "rename", JOE, JIM).stdout
    assert said == f"{JOE} is {JIM} now; mail for {JOE} is refused\n"
    assert ask("account", "show", JIM) == {**before, "address": JIM, "maildrop": JOE}
    assert f"maildrop    {JOE}\n" in run("account", "show", JIM).stdout
    run("account", "show", JOE, status=1)
    assert ask("explain", "rcpt", JOE)["reply"].startswith("550 5.1.1 ")
    assert ask("explain", "rcpt", JIM)["accepted"]
    with login_db.turn() as database:
        known = database.execute("SELECT account, last FROM known").fetchall()
    assert known == [(JIM, 1.8e9)]
    assert LoginHistory(login_db).used(0.0, JOE) == []


def test_a_newcomer_of_the_old_name_gets_nothing_of_the_renamed(joe, office, run, ask, login_db):
    run("account", "rename", JOE, JIM)
    logged_in(login_db, JOE, 1.8e9)  # written a moment later
    run("account", "add", JOE, "--generate")
    shown = ask("account", "show", JOE)
    assert (shown["maildrop"], shown["messages"]) == ("joe-2@example.net", 0)
    assert shown["last_login"] is None
    assert shown["devices"] == []
    post(office, "joe-2@example.net")
    assert ask("account", "show", JOE)["messages"] == 1
    assert ask("account", "show", JIM)["messages"] == 2
    assert ask("account", "remove", JOE, "--delete-mail")["messages"] == 1
    assert ask("account", "show", JIM)["messages"] == 2


def test_mail_of_an_earlier_one_is_looked_for_in_the_maildrop_that_it_gets(joe, office, run, ask):
    run("account", "rename", JOE, JIM)
    post(office, "joe-2@example.net", 3)
    said = run("account", "add", JOE, "--generate", status=1).stderr
    assert "its maildrop holds 3 messages of an earlier account" in said
    run("account", "add", JOE, "--generate", "--adopt-mail")
    assert ask("account", "show", JOE)["messages"] == 3


def test_the_maildrop_of_the_renamed_is_not_nobodys(joe, run, ask):
    run("account", "rename", JOE, JIM)
    [owner] = [
        one["account"] for one in ask("maildrop", "list")["maildrops"] if one["maildrop"] == JOE
    ]
    assert owner == JIM
    assert "no account has this maildrop" not in run("maildrop", "verify", JOE).stdout


def test_a_running_daemon_sees_it_at_once(joe, office, run):
    state = office / "state"
    key = str(state / "accounts.key")
    daemons = SQLiteDirectory(str(state / "accounts.db"), ImmediateExecutor(), key)
    finish(daemons.start())
    for name, other in ((JOE, JIM), (JIM, "jörg@example.net"), ("jörg@example.net", JOE)):
        for _ in range(2):
            assert finish(daemons.find(name)).shared == "tanstaaf"
            assert len(finish(daemons.app_passwords(name))) == 1
            assert finish(daemons.find(other)) is None
            assert finish(daemons.app_passwords(other)) == ()
        run("account", "rename", name, other)
    finish(daemons.stop())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("eve@example.net", JIM), "there is no account eve@example.net here"),
        ((JOE, "joe@example.com"), "example.com is not ours"),
        ((JOE, JOE), f"{JOE} is here already"),
        ((JOE, "JOE@EXAMPLE.NET"), f"{JOE} is here already"),
        ((JOE, "postmaster@example.net"), "postmaster@example.net is here already"),
        (("postmaster@example.net", JIM), "gets the mail to postmaster"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(joe, run, ask, words, said):
    before = ask("account", "list")
    assert said in run("account", "rename", *words, status=1).stderr
    assert ask("account", "list") == before


def test_the_sessions_of_the_old_name_end(joe, run, monkeypatch):
    monkeypatch.setattr(sessions, "ask_daemon", lambda context, question: [question])
    assert f"1 session of {JOE} ended" in run("account", "rename", JOE, JIM).stdout


def test_where_what_is_known_of_logins_cannot_be_opened_nothing_is_half_done(joe, office, run, ask):
    logins = office / "state" / "logins.db"
    logins.unlink()
    logins.mkdir()
    why = "the database of logins .* cannot be used: .*"
    for words in (("rename", JOE, JIM), ("add", JIM, "--generate")):
        assert re.search(why, run("account", *words, status=1).stderr)
        logins.rmdir()
        assert [one["address"] for one in ask("account", "list")["accounts"]] == [
            JOE,
            "postmaster@example.net",
        ]
        for file in office.glob("state/logins.db*"):
            file.unlink()
        logins.mkdir()
