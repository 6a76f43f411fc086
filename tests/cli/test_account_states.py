"""``postoffice account state``, ``disable`` and ``enable``."""

from __future__ import annotations

import re

import pytest

from postoffice.cli import sessions
from postoffice.cli.command import Refused
from postoffice.queue.sending_db import SENDING, SendingDB

JOE = "joe@example.net"


@pytest.fixture
def joe(furnish):
    furnish(f"account add {JOE} --password-stdin\nsecret word")


def test_an_account_is_disabled_and_enabled(joe, run, ask):
    assert ask("account", "show", JOE)["state"] == "enabled"
    assert run("account", "disable", JOE).stdout == f"{JOE} is disabled\n"
    assert ask("account", "disable", JOE) == {
        "address": JOE, "state": "disabled", "changed": False, "ended": 0
    }  # fmt: skip
    assert ask("account", "show", JOE)["state"] == "disabled"
    assert (
        "state       disabled: no login, mail is refused; by " in run("account", "show", JOE).stdout
    )
    assert run("account", "enable", JOE).stdout == f"{JOE} is enabled\n"
    assert run("account", "enable", JOE).stdout == f"{JOE} is enabled already\n"
    assert "disabled" not in run("account", "show", JOE).stdout


@pytest.mark.parametrize("word", ["disable", "enable"])
def test_an_unknown_account_cannot_be_disabled(joe, run, word):
    result = run("account", word, "eve@example.net", status=1)
    assert "there is no account eve@example.net here" in result.output


def test_the_postmaster_is_not_disabled(office, run, ask):
    (account,) = [
        one["address"]
        for one in ask("account", "list")["accounts"]
        if one["address"].startswith("postmaster@")
    ]
    assert "gets the mail to postmaster" in run("account", "disable", account, status=1).output
    assert ask("account", "show", account)["state"] == "enabled"


def test_disabling_ends_the_sessions(joe, run, ask, monkeypatch):
    asked = []

    def daemon(context, question):
        asked.append((question, finished(context)))
        return [{"account": JOE}] * 2

    def finished(context):
        return context.ask(lambda plugins: plugins.register.find(JOE)).state

    monkeypatch.setattr(sessions, "ask_daemon", daemon)
    said = run("account", "disable", JOE).stdout
    assert said == f"{JOE} is disabled\n2 sessions of {JOE} ended\n"
    assert asked == [({"command": "end", "account": JOE}, "disabled")]
    assert ask("account", "disable", JOE)["ended"] == 2
    run("account", "enable", JOE)
    assert len(asked) == 2


def test_where_sessions_cannot_be_ended_it_is_said(joe, run, ask, monkeypatch):
    def daemon(context, question):
        raise Refused("asking the daemon failed")

    monkeypatch.setattr(sessions, "ask_daemon", daemon)
    assert (
        f"{JOE} is disabled, but ending its sessions failed: asking the daemon failed; "
        f"postoffice session end {JOE}"
    ) in run("account", "disable", JOE, status=1).stderr
    assert ask("account", "show", JOE)["state"] == "disabled"


def test_explain_tells_why_mail_is_refused(joe, run, ask):
    run("account", "disable", JOE)
    told = ask("explain", "rcpt", JOE)
    assert told["reply"].startswith("550 5.2.1 ")
    assert [one["found"] for one in told["steps"]][1:] == [
        f"{JOE}: account, disabled, in accounts[0] (sqlite)",
        f"{JOE}: 550 5.2.1 This mailbox is disabled",
    ]
    run("account", "enable", JOE)
    assert ask("explain", "rcpt", JOE)["accepted"]


def test_a_new_password_leaves_it_disabled(joe, run, ask):
    run("account", "disable", JOE)
    run("account", "passwd", JOE, "--generate")
    assert ask("account", "show", JOE)["state"] == "disabled"


@pytest.mark.parametrize(
    ("state", "limits"),
    [
        ("collect-only", "mail is refused, it may not send"), ("receive-only", "no login"),
        ("held", "it may not send"), ("disabled", "no login, mail is refused"),
    ],
)  # fmt: skip
def test_a_state_is_shown_with_who_set_it_when_and_why(joe, run, ask, monkeypatch, state, limits):
    monkeypatch.setenv("SUDO_USER", "carla")
    assert (
        run("account", "state", JOE, state, "--why", "3 reminders").stdout == f"{JOE} is {state}\n"
    )
    shown = run("account", "show", JOE).stdout
    assert re.search(rf"state +{state}: {limits}; by carla 20\d\d-.*; 3 reminders\n", shown)
    found = ask("account", "show", JOE)
    assert found["state"] == state
    assert (found["state_note"]["by"], found["state_note"]["why"]) == ("carla", "3 reminders")
    assert found["state_note"]["when"].startswith("20")
    assert run("account", "enable", JOE, "--why", "paid").stdout == f"{JOE} is enabled\n"
    assert ask("account", "show", JOE)["state_note"]["why"] == "paid"


def test_setting_a_state_again_keeps_its_note_unless_there_is_a_new_reason(joe, run, ask):
    run("account", "state", JOE, "held", "--why", "spam")
    before = ask("account", "show", JOE)["state_note"]
    assert run("account", "state", JOE, "held").stdout == f"{JOE} is held already\n"
    assert ask("account", "show", JOE)["state_note"] == before
    run("account", "state", JOE, "held", "--why", "spam again")
    assert ask("account", "show", JOE)["state_note"]["why"] == "spam again"


@pytest.mark.parametrize(
    ("state", "ends"),
    [("held", False), ("collect-only", False), ("receive-only", True), ("enabled", False)],
)
def test_sessions_end_where_a_state_allows_no_login(joe, ask, monkeypatch, state, ends):
    monkeypatch.setattr(sessions, "ask_daemon", lambda context, question: [{"account": JOE}])
    assert ask("account", "state", JOE, state)["ended"] == ends


def test_a_state_that_there_is_not(joe, run):
    assert "'away' is not one of" in run("account", "state", JOE, "away", status=2).output


def test_enabling_ends_the_hold_of_an_account(run, ask, office):
    name = "ann@example.net"
    run("account", "add", name, "--generate")
    assert ask("account", "show", name)["sending_held"] is None
    (state,) = [path.parent for path in office.rglob("accounts.db")]
    assert not (state / SENDING).exists()
    database = SendingDB(str(state / SENDING))
    database.open()
    database.tried([(name, 20, 20)], 1_800_000_000)
    database.close()
    held = ask("account", "show", name)["sending_held"]
    assert held["why"] == "20 of 40 recipients in an hour were refused"
    assert "held since 2027-01-15" in run("account", "show", name).output
    assert ask("account", "enable", name)["changed"]
    assert ask("account", "show", name)["sending_held"] is None
    assert not ask("account", "enable", name)["changed"]


def test_a_hold_goes_with_the_account(run, ask, office):
    old, new = "old@example.net", "new@example.net"
    run("account", "add", old, "--generate")
    (state,) = [path.parent for path in office.rglob("accounts.db")]
    database = SendingDB(str(state / SENDING))
    database.open()
    for name in (old, new):
        database.tried([(name, 0, 30)], 1_800_000_000)
    database.close()
    run("account", "rename", old, new)
    assert ask("account", "show", new)["sending_held"]
    run("account", "remove", new, "--delete-mail")
    for name in (old, new):
        run("account", "add", name, "--generate")
        assert ask("account", "show", name)["sending_held"] is None
