"""A database of accounts that is damaged, held, or gone."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from postoffice.accounts import sqlite_database as database_module
from postoffice.accounts.sqlite_database import SQLiteDatabase
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.model.errors import StartupError, TemporaryFailure
from postoffice.testing import ImmediateExecutor, finish, finish_all
from tests.accounts.sqlite_files import JOE, Another, Counted, age, with_joe


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "accounts.db")


@pytest.fixture
def executor():
    return Counted()


@pytest.fixture
def directory(path, executor):
    with with_joe(path, executor) as directory:
        yield directory


# -- what may be wrong ------------------------------------------------------------


def garbage(path):
    Path(path).write_bytes(b"no database at all\n" * 1000)


def scribble(path):
    size = os.stat(path).st_size
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xaa" * (size - 4096))


def cut_off(path):
    os.truncate(path, 5000)


def empty(path):
    os.truncate(path, 0)


def folder(path):
    os.unlink(path)
    os.mkdir(path)


def fifo(path):
    os.unlink(path)
    os.mkfifo(path)


def dangling(path):
    os.unlink(path)
    os.symlink("nowhere", path)


def a_log_alone(path):
    os.rename(path, path + "-wal")


def of_another_program(path):
    os.unlink(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE account (x)")
        other.execute("PRAGMA user_version = 1")


def newer(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (garbage, "damaged: put a backup in its place"),
        (scribble, "damaged: put a backup in its place"),
        (cut_off, "damaged: put a backup in its place"),
        (empty, "is empty: put a backup in its place"),
        (folder, "is no file"),
        (fifo, "is no file"),
        (dangling, "must belong to the user"),
        (a_log_alone, "is gone, but"),
        (of_another_program, "of another program"),
        (newer, "made by a newer postoffice"),
    ],
)
def test_a_database_that_is_no_good_keeps_the_office_closed(directory, path, damage, words):
    finish(directory.stop())
    damage(path)
    with pytest.raises(StartupError, match=words) as raised:
        finish(directory.start())
    assert path in str(raised.value)
    with pytest.raises(StartupError):  # it does not mend by itself, and nothing is held
        finish(directory.start())


def test_a_folder_that_cannot_be_made_keeps_the_office_closed(tmp_path):
    (tmp_path / "file").write_text("")
    directory = SQLiteDirectory(str(tmp_path / "file" / "accounts.db"), ImmediateExecutor())
    with pytest.raises(StartupError, match="must belong to the user"):
        finish(directory.start())


@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_a_file_that_is_not_ours_keeps_the_office_closed(mode):
    """Root may do all: there, somebody else tries."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/accounts.db"
        directory = SQLiteDirectory(path, ImmediateExecutor())
        finish(directory.start())
        finish(directory.stop())
        os.chmod(folder, 0o711)
        os.chmod(path, mode)
        command = Another(path)
        if os.geteuid() == 0:
            assert command.ask("become", 65534) == "done"
        said = command.ask("start")
        command.end()
    assert said.startswith("StartupError: the accounts database " + path)
    assert "must belong to the user" in said


def test_a_database_that_another_program_holds_keeps_the_office_closed(
    directory, path, monkeypatch
):
    monkeypatch.setattr(database_module, "WRITER_WAITS", 0.01)
    finish(directory.stop())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StartupError, match="another program holds it"):
            finish(directory.start())
    finish(directory.start())
    assert finish(directory.find(JOE))


def test_a_database_that_goes_bad_means_later(directory, path):
    age(path)
    finish(directory.find(JOE))
    good = path + ".good"
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(path, good)
    with open(path, "r+b") as file:
        file.write(b"\xaa" * os.stat(path).st_size)
    for _ in range(2):
        with pytest.raises(TemporaryFailure, match="accounts"):
            finish(directory.find(JOE))
        with pytest.raises(TemporaryFailure):
            finish(directory.serves("example.net"))
        with pytest.raises(TemporaryFailure):
            finish(directory.add("ann@example.net", None))


def test_a_database_that_goes_away_means_later_until_it_is_back(directory, path):
    age(path)
    assert finish(directory.find(JOE))
    os.rename(path, path + ".away")
    for _ in range(2):
        with pytest.raises(TemporaryFailure, match="No such file"):
            finish(directory.find(JOE))
    assert not os.path.exists(path)
    os.rename(path + ".away", path)
    assert finish(directory.find(JOE))


def test_another_file_in_its_place_is_not_touched(directory, path):
    shutil.copyfile(path, path + ".copy")
    before = Path(path + ".copy").read_bytes()
    os.rename(path + ".copy", path)
    with pytest.raises(TemporaryFailure, match="another file was put in its place"):
        finish(directory.find(JOE))
    with pytest.raises(TemporaryFailure, match="another file was put in its place"):
        finish(directory.set_secret(JOE, "x"))
    assert Path(path).read_bytes() == before


def test_what_goes_wrong_in_a_change_undoes_it(directory):
    def change(database):
        database.execute("DELETE FROM account")
        raise ValueError("our bug")

    with pytest.raises(ValueError, match="our bug"):
        directory._database.write(change)
    assert finish(directory.find(JOE))


def test_after_the_stop_nothing_is_opened_again(directory, path):
    held = []

    class Held:
        def run(self, function, *args):
            held.append((function, args))
            return Deferred()

    late = SQLiteDirectory(path, Held())
    late._database = SQLiteDatabase(path)
    late._database.open()
    waiting = Deferred.fromCoroutine(late.domains())
    late._database.close()
    ((function, args),) = held
    with pytest.raises(TemporaryFailure, match="not open"):
        function(*args)
    assert not waiting.called


def test_a_question_that_ends_after_the_stop_gives_its_connection_up(directory):
    with directory._database._asked(1) as database:
        finish(directory.stop())
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.execute("SELECT 1")


def test_no_secret_is_in_what_is_shown(directory, path):
    finish(directory.set_secret(JOE, "$argon2id$x"))
    shown = [
        repr(directory),
        repr(finish(directory.find(JOE))),
        repr(finish_all(directory.each_account())),
    ]
    os.rename(path, path + ".away")
    with pytest.raises(TemporaryFailure) as raised:
        finish(directory.set_secret(JOE, "$argon2id$x"))
    shown.append(repr(raised.value))
    assert all("argon2" not in text for text in shown)
