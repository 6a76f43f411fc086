"""`postoffice backup`: all is in it, whatever changes meanwhile."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import tarfile
from pathlib import Path

import pytest

from postoffice.accounts.passwords import hash_password
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.backup import folder as folders
from postoffice.backup import writer
from postoffice.store import snapshot
from postoffice.testing import ImmediateExecutor, finish
from tests.cli.backups import FORMS, name_of, put, restored, rows, tree


def names_in(path: str) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


# -- all of it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_all_comes_back_as_it_was(run, here, form):
    run("backup", form)
    run("backup", form)  # once more over it
    state = restored(run, form)
    assert tree(state / "maildrops") == tree(here / "state" / "maildrops")
    assert rows(state / "accounts.db") == rows(here / "state" / "accounts.db")
    assert (state / "accounts.key").read_bytes() == (here / "state/accounts.key").read_bytes()
    both = [
        state / "maildrops/example.net" / one / "new" / name_of(1, 23) for one in ("ann", "bob")
    ]
    assert both[0].samefile(both[1]), "a message to two is one file again"
    text = Path("there/postoffice.yaml").read_text()
    assert text.replace(f'state: "{state}"', "state: state") == Path("postoffice.yaml").read_text()
    told = run("--config", "there/postoffice.yaml", "maildrop", "verify").stdout
    assert "0 findings" in told


@pytest.mark.parametrize("form", FORMS)
def test_nobody_else_can_read_it(run, here, form):
    before = os.umask(0)
    try:
        run("backup", form)
        state = restored(run, form)
    finally:
        os.umask(before)
    for root in (Path(form), state, Path("there")):
        for path in (root, *root.rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path


def test_tmp_the_journal_and_sockets_stay_out_of_it(run, here):
    run("backup", "b.tar")
    names = names_in("b.tar")
    assert [one for one in names if "/tmp/" in one or ".journal" in one or "-wal" in one] == []


def test_what_the_configuration_names_elsewhere_is_in_it(run, here, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "letter.txt").write_text("Full\n\nIt is full.\n")
    text = Path("postoffice.yaml").read_text()
    letter = f"\nquota:\n  warning_text: {elsewhere}/letter.txt\n"
    Path("postoffice.yaml").write_text(text.replace("\nquota:\n", letter))
    run("backup", "b")
    (copy,) = Path("b/files").glob(f"*/machine/{str(elsewhere).lstrip('/')}/letter.txt")
    assert copy.read_text().startswith("Full")
    said = json.loads(
        run("restore", "b", "--config", "there/po.yaml", "--state", "new", "--json").stdout
    )
    assert said["complaints"] == []
    assert said["configuration"] == str(here / "there" / "po.yaml")
    (elsewhere / "letter.txt").write_text("Other\n\nIt is full.\n")
    again = ("restore", "b", "--config", "again/po.yaml", "--state", "newer")
    assert "stays as it is" in run(*again, status=1).stdout


@pytest.mark.parametrize("state", ["state: .", 'state: "{here}"'])
@pytest.mark.parametrize("words", [(), ("--force",)])
def test_a_configuration_in_the_state_folder_comes_back(run, here, tmp_path, state, words):
    home = tmp_path / "state"
    text = Path("postoffice.yaml").read_text()
    text = text.replace("\nstate: state\n", f"\n{state.format(here=home)}\n")
    (home / "postoffice.yaml").write_text(text)
    Path("postoffice.yaml").unlink()
    before = tree(home / "maildrops")
    run("--config", "state/postoffice.yaml", "backup", "b.tar")
    if not words:
        home.rename("away")
    run("restore", "b.tar", *words)
    assert tree(home / "maildrops") == before
    assert (home / "postoffice.yaml").read_text() == text
    assert "0 findings" in run("--config", "state/postoffice.yaml", "maildrop", "verify").stdout


def test_a_first_light_is_copied_too(run, tmp_path):
    directory = SQLiteDirectory(
        str(tmp_path / "postoffice-data" / "accounts.db"), ImmediateExecutor()
    )
    finish(directory.start())
    finish(directory.add_domain("localhost"))
    finish(directory.add("demo@localhost", hash_password(b"secret")))
    finish(directory.stop())
    (tmp_path / "postoffice-data" / "maildrops").mkdir()
    put(tmp_path / "postoffice-data" / "maildrops" / "localhost" / "demo", 1, b"a\r\n")
    run("backup", "b.tar")
    run("restore", "b.tar", "--state", "new")
    assert tree(tmp_path / "new" / "maildrops") == tree(tmp_path / "postoffice-data" / "maildrops")


def test_a_database_that_others_write_to_is_copied_whole(run, here):
    with sqlite3.connect(here / "state" / "accounts.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE account SET secret = 'half'")
        run("backup", "b.tar")
        other.execute("ROLLBACK")
    assert "half" not in "\n".join(rows(restored(run, "b.tar") / "accounts.db"))


def test_to_the_standard_output(run, here):
    result = run("backup", "-")
    Path("b.tar").write_bytes(result.stdout_bytes)
    assert "4 messages" not in result.stdout
    assert "messages" in result.stderr
    run("restore", "b.tar", "--check")


def test_for_cron_it_says_nothing_when_all_is_well(run, here):
    assert run("backup", "b", "--quiet").output == ""


def test_as_an_object(ask, here):
    said = ask("backup", "b")
    assert said["messages"] == 7  # with the vault, and what was set aside of one who is gone
    assert said["complaints"] == []
    assert ask("backup", "b")["copied"] < said["copied"]
    told = ask("restore", "b", "--check")
    assert (told["messages"], told["octets"]) == (7, told["octets"])


# -- what others do meanwhile ---------------------------------------------------------------------


def meanwhile(monkeypatch, act) -> None:
    """Others act when the files of ann's maildrop are known, and none is copied yet."""
    real = snapshot.pieces

    def pieces(store, name):
        found = real(store, name)
        if name.endswith("/ann"):
            act(Path(store) / name)
        return found

    monkeypatch.setattr(snapshot, "pieces", pieces)


def test_a_message_that_is_read_meanwhile_is_in_it_once(run, here, monkeypatch):
    def read(ann):
        old = ann / "new" / name_of(3, 3 << 20)
        old.rename(ann / "cur" / f"{old.name}:2,S")

    meanwhile(monkeypatch, read)
    run("backup", "b.tar")
    names = [one for one in names_in("b.tar") if name_of(3, 3 << 20) in one]
    assert [os.path.dirname(one) for one in names] == ["mail/example.net/ann/cur"]


def test_a_second_file_of_a_message_that_goes_meanwhile_leaves_the_backup_whole(
    run, here, monkeypatch
):
    put(here / "state/maildrops/example.net/ann", 3, b"x" * (3 << 20), "cur", ":2,S")
    meanwhile(monkeypatch, lambda ann: (ann / "new" / name_of(3, 3 << 20)).unlink())
    run("backup", "b.tar")
    assert len([one for one in names_in("b.tar") if name_of(3, 3 << 20) in one]) == 1
    run("restore", "b.tar", "--check")


def test_a_message_that_is_deleted_meanwhile_is_no_error(run, here, monkeypatch):
    meanwhile(monkeypatch, lambda ann: (ann / "new" / name_of(3, 3 << 20)).unlink())
    run("backup", "b.tar")
    assert [one for one in names_in("b.tar") if name_of(3, 3 << 20) in one] == []


def test_a_maildrop_that_goes_meanwhile_is_no_error(run, here, monkeypatch):
    meanwhile(monkeypatch, lambda ann: ann.rename(ann.parent.parent / ".removed" / "ann"))
    run("backup", "b.tar")


def test_a_file_that_cannot_be_read_is_told_and_the_rest_is_there(run, ask, here):
    odd = here / "state/maildrops/example.net/ann/new" / name_of(9, 3)
    odd.symlink_to("/etc/passwd")
    result = run("backup", "b.tar", status=1)
    assert f"not in the backup: {odd}" in result.stderr
    state = restored(run, "b.tar")
    odd.unlink()
    assert tree(state / "maildrops") == tree(here / "state" / "maildrops")


def test_a_file_that_becomes_shorter_leaves_the_backup_whole(run, here, monkeypatch):
    path = here / "state/maildrops/example.net/ann/new" / name_of(3, 3 << 20)
    real, cut = os.read, []

    def read(fd, size):
        if not cut and os.fstat(fd).st_size == 3 << 20:
            cut.append(fd)
            os.truncate(path, 2 << 20)
        return real(fd, size)

    monkeypatch.setattr(os, "read", read)
    assert "zeros" in run("backup", "b.tar", status=1).stderr
    run("restore", "b.tar", "--check")


# -- into a folder, again -------------------------------------------------------------------------


def test_a_second_backup_copies_what_is_new_and_removes_what_went(run, ask, here):
    run("backup", "b")
    ann = here / "state/maildrops/example.net/ann"
    same = Path("b/mail/example.net/ann/new") / name_of(3, 3 << 20)
    before = same.stat()
    put(ann, 6, b"new\r\n")
    (ann / "cur" / (name_of(2, 17) + ":2,S")).unlink()
    ask("backup", "b")
    assert (same.stat().st_ino, same.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    there = {one.name.partition(":")[0] for one in Path("b/mail/example.net/ann").rglob("*.h,*")}
    assert there == {name_of(1, 23), name_of(3, 3 << 20), name_of(6, 5)}
    assert len(list(Path("b/files").iterdir())) == 1
    assert tree(restored(run, "b") / "maildrops") == tree(here / "state" / "maildrops")


def test_a_copy_that_was_changed_is_made_anew(run, here):
    run("backup", "b")
    copy = Path("b/mail/example.org/eve/new") / name_of(4, 16)
    copy.write_bytes(b"changed")
    run("backup", "b")
    assert copy.read_bytes() == b"Subject: eve\r\n\r\n"


@pytest.mark.parametrize("fails", ["sync_all", "make_with_parents"])
def test_a_second_backup_that_fails_leaves_the_first_whole(run, here, monkeypatch, fails):
    run("backup", "b")
    run("account", "add", "new@example.net", "--generate")
    put(here / "state/maildrops/example.net/new", 7, b"new\r\n")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folders, fails, full)
        assert "no space left" in run("backup", "b", status=1).stderr
    state = restored(run, "b")
    assert "new@example.net" not in "\n".join(rows(state / "accounts.db"))
    run("backup", "b")
    assert len(list(Path("b/files").iterdir())) == 1, "what it left is gone"
    assert "new@example.net" in "\n".join(rows(restored(run, "b", "later") / "accounts.db"))


@pytest.mark.parametrize("form", ["b.tar.part", "b"])
def test_what_belongs_to_another_user_is_refused(run, here, monkeypatch, form):
    """Who made it could read what is written there, or put links into it."""
    if form == "b":
        Path(form).mkdir()
    else:
        Path(form).touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 54321)
        said = run("backup", form.removesuffix(".part"), status=1).stderr
    assert "belongs to another user" in said
    run("backup", form.removesuffix(".part"))


def test_a_folder_of_others_is_refused(run, here):
    Path("home").mkdir()
    Path("home/letter").write_text("dear")
    assert "no backup" in run("backup", "home", status=1).stderr
    assert os.listdir("home") == ["letter"]


@pytest.mark.parametrize("name", ["b.tar.zst", "b.zip", "b.gz"])
def test_a_file_of_another_kind_is_refused(run, here, name):
    assert ".tar.xz" in run("backup", name, status=1).stderr
    assert not Path(name).exists()


# -- a file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS[:-1])
def test_a_file_is_whole_or_as_it_was(run, here, monkeypatch, form):
    run("backup", form)
    before = Path(form).read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer.Hashed, "finish", full)
        assert "no space left" in run("backup", form, status=1).stderr
    assert Path(form).read_bytes() == before
    assert not Path(f"{form}.part").exists()


def test_what_was_left_of_one_that_was_killed_is_no_obstacle(run, here):
    Path("b.tar.part").write_bytes(b"half" * 100_000)
    run("backup", "b.tar")
    run("restore", "b.tar", "--check")
    assert not Path("b.tar.part").exists()
