"""`postoffice restore`: all comes back, one maildrop, or a domain."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.testing import ImmediateExecutor, finish
from tests.cli.backups import ANN, BOB, EVE, name_of, put, restored, rows, tree

# -- a part ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["b.tar.gz", "b"])
def test_one_maildrop_comes_back_with_its_account(run, ask, here, form):
    run("backup", form)
    ann = here / "state" / "maildrops" / "example.net" / "ann"
    before, accounts = tree(ann), rows(here / "state" / "accounts.db")
    directory = the_accounts(here)
    saved = finish(directory.find(ANN))
    run("account", "remove", ANN, "--delete-mail")
    said = ask("restore", form, "--maildrop", ANN)
    assert said["maildrops"] == [{"maildrop": ANN, "messages": 3, "there": 0, "account": "added"}]
    messages = {name: text for name, text in before.items() if name.startswith(("new", "cur"))}
    assert {n: t for n, t in tree(ann).items() if n.startswith(("new", "cur"))} == messages
    assert finish(directory.find(ANN)) == saved
    assert [one.name for one in finish(directory.app_passwords(ANN))] == ["phone"]
    finish(directory.stop())
    again = rows(here / "state" / "accounts.db")
    assert len(again) == len(accounts)


def the_accounts(office: Path) -> SQLiteDirectory:
    state = office / "state"
    directory = SQLiteDirectory(
        str(state / "accounts.db"), ImmediateExecutor(), str(state / "accounts.key")
    )
    finish(directory.start())
    return directory


def test_messages_that_are_there_stay_as_they_are(run, ask, here):
    run("backup", "b.tar")
    ann = here / "state" / "maildrops" / "example.net" / "ann"
    (ann / "new" / name_of(1, 23)).rename(ann / "cur" / (name_of(1, 23) + ":2,RS"))
    (ann / "new" / name_of(3, 3 << 20)).unlink()
    put(ann, 8, b"came later\r\n")
    run("account", "passwd", ANN, "--password-stdin", text="a new password\n")
    secret = the_secret(here)
    said = ask("restore", "b.tar", "--maildrop", ANN)
    assert said["maildrops"] == [{"maildrop": ANN, "messages": 1, "there": 2, "account": "there"}]
    assert sorted(os.listdir(ann / "new")) == [name_of(3, 3 << 20), name_of(8, 12)]
    assert the_secret(here) == secret
    assert os.listdir(ann / "tmp") == ["half"]


def the_secret(office: Path) -> str:
    directory = the_accounts(office)
    secret = finish(directory.find(ANN)).secret
    finish(directory.stop())
    return secret


def test_a_backup_of_one_maildrop_knows_nothing_of_the_others(run, ask, here):
    directory = the_accounts(here)
    saved = {name: finish(directory.find(name)) for name in (ANN, BOB, EVE)}
    finish(directory.stop())
    run("backup", "b.tar", "--maildrop", ANN)
    octets = Path("b.tar").read_bytes()
    for name in (BOB, EVE):
        assert name.encode() not in octets
        assert saved[name].secret.encode() not in octets
    assert (here / "state" / "accounts.key").read_bytes() not in octets
    assert "some maildrops alone" in run("restore", "b.tar", status=1).stderr
    run("account", "remove", ANN, "--delete-mail")
    ask("restore", "b.tar", "--maildrop", ANN)
    directory = the_accounts(here)
    assert finish(directory.find(ANN)) == saved[ANN], "its shared secret is sealed with our key"
    finish(directory.stop())


def test_a_domain_alone(run, ask, here):
    run("backup", "b", "--domain", "example.org", "--domain", "EXAMPLE.net")
    run("backup", "one", "--domain", "example.org")
    assert os.listdir("one/mail") == ["example.org"]
    run("account", "remove", EVE, "--delete-mail")
    run("domain", "remove", "example.org")
    said = ask("restore", "one", "--domain", "example.org")
    assert said["maildrops"] == [{"maildrop": EVE, "messages": 1, "there": 0, "account": "added"}]
    assert ask("restore", "b", "--domain", "example.net")["maildrops"][0]["messages"] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("backup", "x.tar", "--maildrop", "nobody@example.net"),
        ("backup", "x", "--domain", "example.com"),
        ("restore", "b.tar", "--maildrop", "nobody@example.net"),
        ("restore", "b.tar", "--domain", "example.com"),
    ],
)
def test_a_restore_of_an_unknown_name_is_refused(run, here, words):
    run("backup", "b.tar")
    assert words[-1] in run(*words, status=1).stderr
    assert not Path("x.tar").exists()


def test_a_maildrop_of_another_office_moves_in(run, ask, here, tmp_path_factory, monkeypatch):
    run("backup", "b.tar", "--maildrop", ANN)
    backup = str(here / "b.tar")
    monkeypatch.chdir(tmp_path_factory.mktemp("other"))
    run("init", ".", "--hostname", "mail.example.com", "--domain", "example.com")
    said = ask("restore", backup, "--maildrop", ANN)
    assert said["maildrops"][0]["account"] == "added"
    shown = ask("account", "show", ANN)
    assert shown["quota"]["octets"] == 12 << 20


def test_a_renamed_account_finds_its_mail(run, ask, here):
    run("account", "rename", ANN, "anna@example.net")
    run("backup", "b.tar")
    ann = here / "state" / "maildrops" / "example.net" / "ann"
    (ann / "new" / name_of(1, 23)).unlink()
    said = ask("restore", "b.tar", "--maildrop", "anna@example.net")
    assert said["maildrops"][0]["messages"] == 1
    assert (ann / "new" / name_of(1, 23)).exists()


def test_mail_does_not_go_to_another_who_has_the_name_now(run, ask, here):
    run("backup", "b")
    run("account", "rename", BOB, "rob@example.net")
    run("account", "add", BOB, "--password-stdin", text="the secret of another bob\n")
    for words in (("--maildrop", BOB), ("--maildrop", BOB, "--maildrop", ANN)):
        said = run("restore", "b", *words, status=1).stderr
        assert f"{BOB} was another account" in said
        assert "rob@example.net" in said
    other = here / "state" / "maildrops" / "example.net" / "bob-2"
    assert [one for one in other.rglob("*") if one.is_file()] == []


@pytest.mark.parametrize("words", [("--maildrop", "rob@example.net"), ("--domain", "example.net")])
def test_a_renamed_account_gets_the_mail_of_its_old_name(run, ask, here, words):
    run("backup", "b")
    run("account", "rename", BOB, "rob@example.net")
    run("account", "add", BOB, "--password-stdin", text="the secret of another bob\n")
    (message,) = (here / "state" / "maildrops" / "example.net" / "bob" / "new").iterdir()
    message.unlink()
    said = {one["maildrop"]: one for one in ask("restore", "b", *words)["maildrops"]}
    assert said["rob@example.net"]["messages"] == 1
    assert said["rob@example.net"]["account"] == "there"
    assert message.exists()
    assert BOB not in said


def test_a_name_whose_maildrop_went_on_under_another_is_not_made_again(run, here):
    run("backup", "b")
    run("account", "rename", BOB, "rob@example.net")
    said = run("restore", "b", "--maildrop", BOB, status=1).stderr
    assert "its maildrop belongs to rob@example.net now" in said


def test_a_domain_of_a_backup_has_no_accounts_of_another(run, here):
    """A backup that comes from elsewhere may say anything."""
    with sqlite3.connect(here / "state" / "accounts.db") as database:
        database.execute("UPDATE account SET address = 'root@localhost' WHERE address = ?", (EVE,))
    run("backup", "b.tar")
    with sqlite3.connect(here / "state" / "accounts.db") as database:
        database.execute("DELETE FROM account WHERE address = 'root@localhost'")
    shutil.rmtree(here / "state" / "maildrops" / "example.org" / "eve", ignore_errors=True)
    run("restore", "b.tar", "--domain", "example.org")
    assert "root@localhost" not in run("account", "list").stdout


# -- what is in the way ---------------------------------------------------------------------------


def test_a_place_that_is_not_empty_is_refused_and_moved_when_told(run, ask, here):
    run("backup", "b.tar")
    words = ("restore", "b.tar", "--config", "there/postoffice.yaml", "--state", "new")
    Path("new").mkdir()
    Path("new/letter").write_text("dear")
    assert "--force" in run(*words, status=1).stderr
    assert os.listdir("new") == ["letter"]
    (moved,) = ask(*words, "--force")["aside"]
    assert os.listdir(moved) == ["letter"]
    assert "--force" in run("restore", "b.tar", status=1).stderr, "the office is where it was"


def test_a_restore_that_fails_leaves_the_place_empty(run, here, monkeypatch):
    run("backup", "b.tar")
    real, calls = os.utime, []

    def full(*args, **named):
        calls.append(args)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **named)

    words = ("restore", "b.tar", "--config", "there/postoffice.yaml", "--state", "new")
    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", full)
        assert "no space left" in run(*words, status=1).stderr
    assert not Path("new").exists() or os.listdir("new") == []
    run(*words)


def test_a_configuration_without_a_line_for_the_state_gets_one(run, here):
    text = Path("postoffice.yaml").read_text()
    assert "\nstate: state\n" in text
    run("backup", "b.tar")
    run("restore", "b.tar", "--config", "x/y.yaml", "--state", 'a "b" : c')
    assert (here / 'a "b" : c' / "accounts.db").exists()
    assert run("--config", "x/y.yaml", "account", "list").output.count("@") >= 3


def test_the_time_of_the_last_login_comes_back(run, ask, here):
    lock = here / "state/maildrops/example.net/ann/postoffice.lock"
    lock.write_bytes(b"x")  # a session that just deletes has marked it
    os.utime(lock, (1_650_000_000, 1_650_000_000))
    run("backup", "b.tar")
    there = restored(run, "b.tar") / "maildrops/example.net/ann/postoffice.lock"
    assert (there.read_bytes(), there.stat().st_mtime) == (b"", 1_650_000_000)


def test_quotas_are_counted_anew_when_mail_comes_back(run, ask, here):
    run("backup", "b.tar")
    ann = here / "state/maildrops/example.net/ann"
    (ann / "maildirsize").write_text("12582912S\n0 0\n")
    (ann / "new" / name_of(1, 23)).unlink()
    ask("restore", "b.tar", "--maildrop", ANN)
    assert not (ann / "maildirsize").exists()
    assert time.time() - (ann / "new" / name_of(1, 23)).stat().st_mtime > 1000, "its date stayed"
