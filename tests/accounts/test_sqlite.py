"""The SQLite directory: remembered answers, other processes, and what may be wrong on a disk."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

import postoffice
from postoffice.accounts import database as database_module
from postoffice.accounts import sqlite as sqlite_module
from postoffice.accounts.database import Database, settled
from postoffice.accounts.sqlite import AnswerCache, SQLiteDirectory
from postoffice.model.errors import StartupError, TemporaryFailure
from postoffice.testing import ImmediateExecutor, finish

LONG_AGO = itertools.count(1_600_000_000_123_456_789, 1000)
JOE = "joe@example.net"


class Counted(ImmediateExecutor):
    """Workers that count what they are asked."""

    def __init__(self):
        self.runs = 0

    def run(self, function, *args):
        self.runs += 1
        return super().run(function, *args)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "accounts.db")


@pytest.fixture
def executor():
    return Counted()


@pytest.fixture
def directory(path, executor):
    directory = SQLiteDirectory(path, executor)
    finish(directory.start())
    finish(directory.add_domain("example.net"))
    finish(directory.add(JOE, "a hash"))
    executor.runs = 0
    yield directory
    finish(directory.stop())


class Another:
    """Another process at the same database."""

    def __init__(self, path):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "another_process.py"), path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(postoffice.__file__).parent.parent)},
        )

    def tell(self, *words):
        print(*words, file=self.process.stdin, flush=True)

    def hear(self):
        return self.process.stdout.readline().strip()

    def ask(self, *words):
        self.tell(*words)
        return self.hear()

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def another(path):
    processes = []

    def begin():
        processes.append(Another(path))
        return processes[-1]

    yield begin
    for process in processes:
        process.end()


def age(path, when=None):
    """Let the files look as if nothing had changed for long; no two calls look alike."""
    when = next(LONG_AGO) if when is None else when
    for name in (path, path + "-wal"):
        if os.path.exists(name):
            os.utime(name, ns=(when, when))


# -- remembering ----------------------------------------------------------------


def test_what_was_asked_is_not_asked_again(directory, executor, path):
    age(path)
    for _ in range(5):
        assert finish(directory.find(JOE)).secret == "a hash"
        assert finish(directory.find("eve@example.net")) is None
        assert finish(directory.serves("example.net"))
        assert not finish(directory.serves("example.org"))
    assert executor.runs == 4


def test_what_is_remembered_is_said_without_waiting(directory, path):
    age(path)
    for name in (JOE, "eve@example.net"):
        known = finish(directory.find(name))
        with pytest.raises(StopIteration) as answer:
            directory.find(name).send(None)
        assert answer.value.value == known


def test_a_change_of_ours_is_seen_at_once(directory, path):
    for secret in ("b hash", None, "c hash"):
        age(path)
        finish(directory.find(JOE))
        finish(directory.set_secret(JOE, secret))
        assert finish(directory.find(JOE)).secret == secret


def test_nothing_is_remembered_while_the_files_are_fresh(directory, executor, path):
    age(path, time.time_ns() + 3600 * 10**9)  # also where the clock was set back
    for _ in range(3):
        assert finish(directory.find(JOE))
    assert executor.runs == 3


def test_nothing_is_remembered_while_somebody_writes(directory, executor, path):
    """A change lies in the log before it is committed: its look is not that of the answer."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA cache_size = 1")
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE account SET secret = 'b hash'")
        age(path)
        for _ in range(3):
            assert finish(directory.find(JOE)).secret == "a hash"
        assert executor.runs == 3
        other.execute("COMMIT")
        age(path)
        for _ in range(3):
            assert finish(directory.find(JOE)).secret == "b hash"
        assert executor.runs == 4


def test_an_answer_does_not_outlive_the_look_of_the_files():
    answers = AnswerCache()
    one, two = (1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 2)
    answers.remember(one, "joe", "x")
    assert answers.holder(one, "joe").get("joe") == "x"
    assert answers.holder(two, "joe") is None
    assert answers.holder(None, "joe") is None
    answers.remember(two, "ann", "y")
    assert answers.holder(one, "joe") is None
    assert answers.holder(two, "joe") is None


def test_random_names_do_not_push_out_those_who_are_here(monkeypatch):
    monkeypatch.setattr(sqlite_module, "KNOWN", 3)
    monkeypatch.setattr(sqlite_module, "UNKNOWN", 2)
    answers, look = AnswerCache(), (1, 1, 1, 1, 1, 1)
    for name in ("a", "b", "c"):
        answers.remember(look, name, name)
    for number in range(100):
        answers.remember(look, f"nobody {number}", None)
    assert all(answers.holder(look, name) for name in ("a", "b", "c"))
    assert answers.holder(look, "nobody 97") is None
    assert answers.holder(look, "nobody 98") is not None
    answers.holder(look, "a")
    answers.remember(look, "d", "d")
    assert answers.holder(look, "b") is None
    assert answers.holder(look, "a") is not None


@pytest.mark.parametrize(
    ("mtime", "later", "is_settled"),
    [
        (5_000_000_001, 19_999_999, False),
        (5_000_000_001, 20_000_000, True),
        (5_000_000_001, -1, False),
        (5_000_000_000, 1_999_999_999, False),  # a file system that keeps whole seconds
        (5_000_000_000, 2_000_000_000, True),
    ],
)
def test_times_must_lie_back_to_tell_changes_apart(monkeypatch, mtime, later, is_settled):
    monkeypatch.setattr(database_module.time, "time_ns", lambda: mtime + later)
    assert settled((1, 1, mtime, 2, 2, 0)) is is_settled
    assert settled((1, 1, 0, 2, 2, mtime)) is is_settled


# -- other processes ------------------------------------------------------------


def test_a_change_by_another_process_is_seen_at_once(directory, executor, path, another):
    command = another()
    assert command.ask("start") == "None"
    for said, expected in [
        (("set_secret", JOE, "new"), "new"),
        (("set_secret", JOE, "old"), "old"),
        (("remove", JOE), None),
        (("add", JOE, "again"), "again"),
    ]:
        age(path)
        finish(directory.find(JOE))
        before = executor.runs
        finish(directory.find(JOE))
        assert executor.runs == before, "it was remembered"
        assert command.ask(*said) == "True"
        account = finish(directory.find(JOE))
        assert (account and account.secret) == expected
    age(path)
    assert not finish(directory.serves("example.org"))
    assert command.ask("add_domain", "example.org") == "True"
    assert finish(directory.serves("example.org"))


def test_several_processes_begin_and_write_at_once(path, another):
    commands = [another(), another()]
    directory = SQLiteDirectory(path, ImmediateExecutor())
    for command in commands:
        command.tell("start")
    finish(directory.start())
    assert [command.hear() for command in commands] == ["None", "None"]
    finish(directory.add_domain("example.net"))
    for number, command in enumerate(commands):
        command.tell("fill", "ab"[number], 40)
    for number in range(40):
        assert finish(directory.add(f"c{number}@example.net", None))
        assert finish(directory.find(f"c{number}@example.net"))
    assert [command.hear() for command in commands] == ["done", "done"]
    names = {account.address for account in finish(directory.accounts())}
    assert names == {f"{who}{number}@example.net" for who in "abc" for number in range(40)}
    assert [name for name in os.listdir(os.path.dirname(path)) if name.endswith(".new")] == []
    finish(directory.stop())


def test_many_threads_ask_while_one_writes(directory, path):
    wrong = []

    def ask():
        for _ in range(100):
            if finish(directory.find(JOE)) is None:
                wrong.append("gone")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        assert finish(directory.set_secret(JOE, str(number)))
    for thread in threads:
        thread.join()
    assert not wrong
    assert finish(directory.find(JOE)).secret == "19"


def test_a_process_that_dies_in_a_change_leaves_nothing_of_it(directory, another):
    command = another()
    assert command.ask("begin") == "done"
    command.tell("die")
    command.process.wait()
    assert finish(directory.domains()) == ["example.net"]
    assert finish(directory.add_domain("example.org"))


def test_a_full_disk_costs_the_change_and_nothing_else(directory, path, another):
    command = another()
    command.ask("start")
    command.ask("limit", os.stat(path + "-wal").st_size + 20_000)
    assert command.ask("fill", "a", 1000).startswith("TemporaryFailure: the accounts in ")
    names = [account.address for account in finish(directory.accounts())]
    assert JOE in names
    assert finish(directory.add("ann@example.net", None))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_database_that_somebody_holds_can_be_read_and_changed_later(directory, path, monkeypatch):
    monkeypatch.setattr(database_module, "WRITER_WAITS", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TemporaryFailure, match="locked"):
            finish(directory.set_secret(JOE, "new"))
        assert finish(directory.find(JOE)).secret == "a hash"
    assert finish(directory.set_secret(JOE, "new"))


# -- the files ------------------------------------------------------------------


def test_nothing_is_touched_before_the_start(tmp_path):
    SQLiteDirectory(str(tmp_path / "state" / "accounts.db"), ImmediateExecutor())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_nobody_else_can_read_the_files(path, umask):
    before = os.umask(umask)
    try:
        directory = SQLiteDirectory(path, ImmediateExecutor())
        finish(directory.start())
        finish(directory.add_domain("example.net"))
        modes = {name: os.stat(path + name).st_mode & 0o777 for name in ("", "-wal", "-shm")}
        finish(directory.stop())
    finally:
        os.umask(before)
    assert modes == {"": 0o600, "-wal": 0o600, "-shm": 0o600}


def test_files_that_others_could_read_are_closed_to_them(directory, path):
    for name in ("", "-wal", "-shm"):
        os.chmod(path + name, 0o644)
    second = SQLiteDirectory(path, ImmediateExecutor())
    finish(second.start())
    assert [os.stat(path + name).st_mode & 0o777 for name in ("", "-wal", "-shm")] == [0o600] * 3
    assert finish(second.find(JOE))
    finish(second.stop())


def test_changes_are_synced_before_they_are_said_to_be_done(directory):
    with directory._database._connected(1) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_what_was_added_is_there_after_a_new_start(directory, path):
    finish(directory.stop())
    assert sorted(os.listdir(os.path.dirname(path))) == ["accounts.db"]
    finish(directory.start())
    assert finish(directory.find(JOE)).secret == "a hash"


@pytest.mark.parametrize("name", ["acc ounts?mode=memory.db", "%41#.db", "ünï.db", "-x.db"])
def test_the_path_is_a_path_whatever_is_in_it(tmp_path, name):
    directory = SQLiteDirectory(f"/{tmp_path}/{name}", ImmediateExecutor())
    finish(directory.start())
    finish(directory.add_domain("example.net"))
    finish(directory.stop())
    assert os.listdir(tmp_path) == [name]


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
    late._database = Database(path)
    late._database.open()
    waiting = Deferred.fromCoroutine(late.accounts())
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
    shown = [repr(directory), repr(finish(directory.find(JOE))), repr(finish(directory.accounts()))]
    os.rename(path, path + ".away")
    with pytest.raises(TemporaryFailure) as raised:
        finish(directory.set_secret(JOE, "$argon2id$x"))
    shown.append(repr(raised.value))
    assert all("argon2" not in text for text in shown)
