"""`postoffice maildrop expire`: mail goes whose time has come."""

from __future__ import annotations

import os
import time

import pytest

from postoffice.daemon.expiry_job import Retention
from postoffice.store import fetch_log, files
from postoffice.store.maildir import Entry

ANN, BOB = "ann@example.net", "bob@example.net"
A_DAY = 86400


@pytest.fixture
def drops(run, office):
    """Two accounts with a message each, which came forty days ago."""
    folders = {}
    for name in (ANN, BOB):
        run("account", "add", name, "--generate")
        folder = office / "state" / "maildrops" / "example.net" / name.partition("@")[0]
        files.make(str(folder))
        when = time.time() - 40 * A_DAY
        message = folder / "new" / f"{when:.0f}.x"
        message.write_bytes(b"x\r\n")
        os.utime(message, (when, when))
        folders[name] = folder
    return folders


def left(drops) -> list[int]:
    return [len(list((folder / "new").iterdir())) for folder in drops.values()]


def test_nothing_goes_unless_somebody_says_so(run, ask, drops):
    assert run("maildrop", "expire").output == "all mail is kept for ever\n"
    assert run("maildrop", "expire", ANN).output == "all mail is kept for ever\n"
    assert ask("maildrop", "expire") == {"dry_run": False, "maildrops": []}
    assert left(drops) == [1, 1]


def test_what_would_go_is_what_goes(run, ask, drops):
    run("domain", "set", "example.net", "--keep", "30days")
    run("account", "set", BOB, "--keep", "50days")
    gone = {"account": ANN, "messages": 1, "octets": 3, "why": None}
    stays = {"account": BOB, "messages": 0, "octets": 0, "why": None}
    nobodys = {**stays, "account": "postmaster@example.net"}
    for dry in (True, False):
        said = ask("maildrop", "expire", *(["--dry-run"] if dry else []))
        assert said == {"dry_run": dry, "maildrops": [gone, stays, nobodys]}
        assert left(drops) == [int(dry), 1]
    assert run("maildrop", "expire").output == "nothing is due\n"
    assert run("maildrop", "undelete", ANN, "--session", "expire").exit_code == 0
    assert run("maildrop", "expire").output == "nothing is due\n"
    assert left(drops) == [1, 1]


def test_one_account_alone(run, drops):
    run("domain", "set", "example.net", "--keep", "30days")
    assert run("maildrop", "expire", BOB, "--dry-run").output == (
        f"{BOB}  1 message, 3 octets, would be removed\n1 message would be removed\n"
    )
    assert run("maildrop", "expire", BOB).output.endswith("1 message removed\n")
    assert left(drops) == [1, 0]


def test_what_was_collected_goes_by_that(run, drops):
    run("account", "set", ANN, "--keep-collected", "7days")
    assert run("maildrop", "expire").output == "nothing is due\n"
    (message,) = (drops[ANN] / "new").iterdir()
    eight_days_ago = time.time() - 8 * A_DAY
    fetch_log.add(str(drops[ANN]), [Entry(message.name, 3)], "", eight_days_ago, list)
    assert run("maildrop", "expire").output.endswith("1 message removed\n")
    assert left(drops) == [0, 1]


def test_an_open_maildrop_does_not_expire(run, ask, drops):
    run("domain", "set", "example.net", "--keep", "30days")
    lock = files.lock(str(drops[ANN]))
    assert run("maildrop", "expire", ANN).output == (
        f"{ANN}  skipped: a POP3 session is open\n0 messages removed\n"
    )
    assert ask("maildrop", "expire", ANN)["maildrops"][0]["why"]
    os.close(lock)
    assert left(drops) == [1, 1]


def test_nobody_has_nothing_to_go(ask, office):
    said = ask("maildrop", "expire", "nobody@example.net", status=1)
    assert said == {"error": "there is no account nobody@example.net here"}


def test_a_store_that_keeps_all_says_so(ask, office, monkeypatch):
    monkeypatch.setattr(Retention, "possible", False)
    said = ask("maildrop", "expire", status=1)
    assert said == {"error": "mail stays in this store until somebody deletes it"}
