"""The SQLite directory: remembered answers, other processes, and what may be wrong on a disk."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing

import pytest

from postoffice.accounts import sql_directory
from postoffice.accounts import sqlite_database as database_module
from postoffice.accounts.sql_directory import AnswerCache
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.model.errors import TemporaryFailure
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


@pytest.fixture
def another(path):
    processes = []

    def begin():
        processes.append(Another(path))
        return processes[-1]

    yield begin
    for process in processes:
        process.end()


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


def test_nothing_is_cached_during_a_write(directory, executor, path):
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


def test_random_names_do_not_push_out_accounts(monkeypatch):
    monkeypatch.setattr(sql_directory, "KNOWN", 3)
    monkeypatch.setattr(sql_directory, "UNKNOWN", 2)
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
    names = {account.address for account in finish_all(directory.each_account())}
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
    names = [account.address for account in finish_all(directory.each_account())]
    assert JOE in names
    assert finish(directory.add("ann@example.net", None))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_locked_database_can_be_read_and_changed_later(directory, path, monkeypatch):
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
