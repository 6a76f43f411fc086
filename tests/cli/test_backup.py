"""`postoffice backup` and `restore`: all comes back as it was, and nothing is believed unseen."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sqlite3
import tarfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from postoffice.accounts.passwords import hash_password
from postoffice.accounts.sqlite import SQLiteDirectory
from postoffice.backup import folder as folders
from postoffice.backup import written
from postoffice.backup.checked import check, source_of
from postoffice.backup.entries import BackupError, Entry, Manifest, place
from postoffice.cli import main
from postoffice.store import files, snapshot, vault
from postoffice.testing import ImmediateExecutor, finish

ANN, BOB, EVE = "ann@example.net", "bob@example.net", "eve@example.org"
FORMS = ("b.tar", "b.tar.gz", "b.tgz", "b.tar.bz2", "b.tar.xz", "b")


def name_of(number: int, size: int) -> str:
    return f"{1700000000 + number}.M000001P1Q1R{number:08x}.h,S={size},W={size}"


def put(folder: Path, number: int, text: bytes, box: str = "new", flags: str = "") -> Path:
    """A message in a maildrop."""
    folder.parent.parent.mkdir(exist_ok=True)
    files.make(str(folder))
    path = folder / box / (name_of(number, len(text)) + flags)
    path.write_bytes(text)
    os.utime(path, (1_600_000_000 + number, 1_600_000_000 + number))
    return path


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """An office with accounts in two domains; to make one takes its time."""
    folder = tmp_path_factory.mktemp("template")

    def run(*words, text=None):
        config = ("--config", str(folder / "postoffice.yaml")) if words[0] != "init" else ()
        result = CliRunner().invoke(main, [*words, *config], input=text)
        assert result.exit_code == 0, result.output

    run("init", str(folder), "--hostname", "mail.example.net", "--domain", "example.net")
    run("domain", "add", "example.org")
    for name in (ANN, BOB, EVE):
        run("account", "add", name, "--password-stdin", text=f"secret of {name}\n")
    run("account", "set", ANN, "--generate-shared-secret")
    run("account", "set", ANN, "--quota", "12MiB")
    run("account", "device", "add", ANN, "phone")
    return folder


@pytest.fixture
def here(run, template, tmp_path):
    """The office, with mail and all else that may lie in a store."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "state" / "maildrops" / ".journal")
    drops = tmp_path / "state" / "maildrops"
    ann = drops / "example.net" / "ann"
    first = put(ann, 1, b"Subject: to both\r\n\r\nx\r\n")
    files.make(str(drops / "example.net" / "bob"))
    os.link(first, drops / "example.net" / "bob" / "new" / first.name)
    put(ann, 2, b"Subject: read\r\n\r\n", "cur", ":2,S")
    put(ann, 3, b"x" * ((3 << 20) - 2) + b"\r\n")
    put(drops / "example.org" / "eve", 4, b"Subject: eve\r\n\r\n")
    (ann / "postoffice.collected").write_bytes(b"a note\n")
    (ann / ".Sent" / "cur").mkdir(parents=True)
    (ann / ".Sent" / "cur" / "1.of.another:2,S").write_bytes(b"sent\r\n")
    (ann / "tmp" / "half").write_bytes(b"half a mess")
    vault.make(f"{drops}/example.net/.vault/ann/1700000000.session", sync=False)
    kept = drops / "example.net" / ".vault" / "ann" / "1700000000.session" / name_of(5, 3)
    kept.write_bytes(b"x\r\n")
    (drops / ".removed" / "example.net" / "old.1" / "cur").mkdir(parents=True)
    (drops / ".removed" / "example.net" / "old.1" / "cur" / "1.x").write_bytes(b"kept\r\n")
    return tmp_path


def names_in(path: str) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Each file of a store that is worth something, with its text and time."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and ".journal" not in path.parts and "tmp" not in path.parts
    }


def rows(database: Path) -> list[str]:
    with sqlite3.connect(database) as it:
        return list(it.iterdump())


def restored(run, backup: str, to: str = "there") -> Path:
    run("restore", backup, "--config", f"{to}/postoffice.yaml", "--state", f"{to}-state")
    return Path(f"{to}-state").absolute()


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


@pytest.mark.parametrize("fails", ["sync_all", "make_above"])
def test_a_second_backup_that_fails_leaves_the_first_whole(run, here, monkeypatch, fails):
    run("backup", "b")
    run("account", "add", "new@example.net", "--generate")
    put(here / "state/maildrops/example.net/new", 7, b"new\r\n")

    def full(*_):
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

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(written.Hashed, "finish", full)
        assert "no space left" in run("backup", form, status=1).stderr
    assert Path(form).read_bytes() == before
    assert not Path(f"{form}.part").exists()


def test_what_was_left_of_one_that_was_killed_is_no_obstacle(run, here):
    Path("b.tar.part").write_bytes(b"half" * 100_000)
    run("backup", "b.tar")
    run("restore", "b.tar", "--check")
    assert not Path("b.tar.part").exists()


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
    assert [one.name for one in finish(directory.devices(ANN))] == ["phone"]
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
def test_who_is_unknown_is_refused(run, here, words):
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
def test_who_was_renamed_since_gets_the_mail_of_the_old_name(run, ask, here, words):
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
    run("account", "remove", "root@localhost", "--keep-mail")
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


# -- what is not believed -------------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    octets = path.read_bytes()
    if how == "cut":
        path.write_bytes(octets[: len(octets) // 2])
    elif how == "letter":
        path.write_bytes(octets.replace(b"Subject: to both", b"Subject: to none"))
    elif how == "manifest":
        path.write_bytes(octets.replace(b'"messages": 7', b'"messages": 9'))
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(b"a letter, and no backup\n" * 1000)


@pytest.mark.parametrize("how", ["cut", "letter", "manifest", "empty", "other"])
def test_a_damaged_file_is_refused_before_anything_is_written(run, here, how):
    run("backup", "b.tar")
    damage(Path("b.tar"), how)
    words = ("restore", "b.tar", "--config", "there/p.yaml", "--state", "new")
    assert "restore failed" in run(*words, status=1).stderr
    assert not Path("there").exists()
    assert not Path("new").exists()


@pytest.mark.parametrize("form", FORMS[1:-1])
def test_a_compressed_file_that_is_cut_off_is_refused(run, here, form):
    run("backup", form)
    octets = Path(form).read_bytes()
    for length in (0, 1, 10, len(octets) // 2, len(octets) - 1):
        Path(form).write_bytes(octets[:length])
        assert "restore failed" in run("restore", form, "--check", status=1).stderr


@pytest.mark.parametrize("how", ["gone", "changed", "link", "behind a link", "no manifest"])
def test_a_damaged_folder_is_refused(run, here, how):
    run("backup", "b")
    message = Path("b/mail/example.org/eve/new") / name_of(4, 16)
    if how == "gone":
        message.unlink()
    elif how == "changed":
        message.write_bytes(b"Subject: EVE\r\n\r\n")
    elif how == "link":
        message.rename("elsewhere")
        message.symlink_to(here / "elsewhere")
    elif how == "behind a link":
        message.parent.rename("elsewhere")
        message.parent.symlink_to(here / "elsewhere")
    else:
        Path("b/MANIFEST").unlink()
    run("restore", "b", "--check", status=1)


HEADER = {"whole": True, "config": "", "state": "/x", "begun": "", "hostname": ""}


def tar_of(path: Path, members, *, manifest: bool = True, header=HEADER) -> None:
    """A tar with right digests, whatever its names are: members are names and kinds."""
    spool = io.BytesIO()
    told = Manifest(spool, header)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
            empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            told.add(Entry(name, 0, 0, empty))
        octets = told.end({"messages": 0, "octets": 0, "files": 0}).read()
        if manifest:
            info = tarfile.TarInfo("MANIFEST")
            info.size = len(octets)
            tar.addfile(info, io.BytesIO(octets))


PARTS = st.one_of(
    st.sampled_from(
        ["", ".", "..", "mail", "files", "state", "config", "machine", "20260101T000000Z", "~",
         ".journal", ".vault", ".removed", "new", "a\0b", "a\nb", "MANIFEST", "\udcff", "x" * 256]
    ),
    st.text(max_size=5),
)  # fmt: skip
NAMES = st.builds(
    lambda start, parts: start + "/".join(parts),
    st.sampled_from(["", "/", "mail/", "./mail/", "files/20260101T000000Z/", "mail/../", "//"]),
    st.lists(PARTS, max_size=6),
)


@given(NAMES)
def test_a_name_stays_below_its_root_or_is_refused(name):
    try:
        root, path = place(name)
    except BackupError:
        return
    assert root in ("mail", "state", "config", "machine")
    assert os.path.normpath(path) == path
    assert not path.startswith(("/", "../"))
    assert path != ".."
    assert "\0" not in path
    assert ".journal" not in path.split("/")


@given(
    st.lists(
        st.tuples(NAMES, st.sampled_from([b"0", b"0", b"1", b"2", b"3", b"5", b"6"])), max_size=3
    )
)
def test_a_hostile_tar_writes_nothing_outside(tmp_path_factory, members):
    folder = tmp_path_factory.mktemp("hostile")
    try:
        tar_of(folder / "b.tar", members)
    except ValueError:
        return  # tarfile itself writes no such name
    source = source_of(str(folder / "b.tar"))
    try:
        told, index = check(source, lambda _: None)
    except BackupError:
        return
    finally:
        source.close()
    index.close()
    assert all(kind in (b"0", b"\0") for _, kind in members)
    assert told.header["whole"]
    assert len({name for name, _ in members}) == len(members)
    for name, _ in members:
        place(name)


@pytest.mark.parametrize(
    "members",
    [
        [("/etc/passwd", tarfile.REGTYPE)],
        [("mail/../../../etc/passwd", tarfile.REGTYPE)],
        [("mail/example.net/ann/new/x", tarfile.SYMTYPE)],
        [("mail/example.net/ann/new/x", tarfile.LNKTYPE)],
        [("mail/example.net/ann/new/x", tarfile.CHRTYPE)],
        [("mail/example.net/ann/new/x", tarfile.FIFOTYPE)],
        [("mail/example.net", tarfile.DIRTYPE)],
        [("mail/.journal/seg.0", tarfile.REGTYPE)],
        [("files/1/state/maildrops/.journal/key", tarfile.REGTYPE)],
        [("mail/.vault/x", tarfile.REGTYPE)],
        [("mail/example.net/a/new/x", tarfile.REGTYPE)] * 2,
        [("MANIFEST", tarfile.REGTYPE)],
        [("files/../state/x", tarfile.REGTYPE)],
    ],
)
def test_hostile_members_are_refused(run, tmp_path, members):
    tar_of(tmp_path / "b.tar", members)
    run("restore", "b.tar", "--state", "new", status=1)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    "said",
    [
        {"hostname": None},
        {"begun": 1},
        {"whole": "yes"},
        {"config": ["x"]},
        {"state": {}},
        {"accounts": ["database"]},
        {"accounts": {"database": 1, "key": "state/accounts.key"}},
        {"accounts": {"x/../../evil": "state/accounts.db"}},
        {"maildrops": 1},
        {"domains": [1]},
    ],
)
def test_a_manifest_that_says_what_none_of_ours_says_is_refused(run, here, said):
    tar_of(here / "b.tar", [("files/1/state/accounts.db", b"0")], header=HEADER | said)
    for words in (("--check",), ("--state", "new"), ("--maildrop", ANN)):
        assert "its manifest is damaged" in run("restore", "b.tar", *words, status=1).stderr


def test_what_a_manifest_says_leads_out_of_no_folder(run, here, tmp_path_factory, monkeypatch):
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    accounts = {"x/../../evil": "state/accounts.db"}
    member = ("files/1/state/accounts.db", b"0")
    tar_of(here / "b.tar", [member], header=HEADER | {"accounts": accounts})
    run("restore", "b.tar", "--maildrop", ANN, status=1)
    assert os.listdir(temporary) == []


def test_a_header_of_a_tar_that_would_fill_the_memory_is_refused(run, here):
    info = tarfile.TarInfo("mail/example.net/ann/new/x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 20
    (here / "b.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    said = run("restore", "b.tar", "--check", status=1).stderr
    assert "a header of 1048576 octets is too large" in said


def test_a_tar_that_is_not_ours_is_refused(run, tmp_path):
    tar_of(tmp_path / "b.tar", [("mail/example.net/ann/new/x", b"0")], manifest=False)
    assert "no manifest" in run("restore", "b.tar", "--check", status=1).stderr
    tar_of(tmp_path / "good.tar", [("mail/example.net/ann/new/x", b"0")])
    run("restore", "good.tar", "--check")


def test_a_newer_layout_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr("postoffice.backup.entries.FORMAT", 99)
    tar_of(tmp_path / "b.tar", [])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert "its format is 99" in run("restore", "b.tar", "--check", status=1).stderr


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
