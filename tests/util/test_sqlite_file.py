"""A small SQLite file: one transaction at a time, and what goes wrong is said in its name."""

import os
import sqlite3
import stat
from contextlib import closing

import pytest

from postoffice.model.errors import StartupError, TemporaryFailure
from postoffice.util.sqlite_file import SQLiteFile

TABLES = "CREATE TABLE IF NOT EXISTS word (word TEXT PRIMARY KEY)"


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "words.db")


@pytest.fixture
def file(path):
    file = SQLiteFile(path, "the list of words", TABLES, "; write it anew")
    file.open()
    yield file
    file.close()


def words(path):
    with closing(sqlite3.connect(path)) as database:
        return [word for (word,) in database.execute("SELECT word FROM word")]


def test_it_is_its_owners_alone(file, path):
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_turn_is_whole_or_nothing(file, path):
    with file.turn() as database:
        database.execute("INSERT INTO word VALUES ('one')")
    with pytest.raises(TemporaryFailure), file.turn() as database:
        database.executemany("INSERT INTO word VALUES (?)", [("two",), ("one",)])
    assert words(path) == ["one"]


def test_two_of_them_share_it(file, path):
    other = SQLiteFile(path, "the list", TABLES)
    other.open()
    for number, one in enumerate((file, other, file)):
        with one.turn() as database:
            database.execute("INSERT INTO word VALUES (?)", (str(number),))
    other.close()
    assert words(path) == ["0", "1", "2"]


def test_what_sqlite_cannot_do_is_a_temporary_failure(file, path):
    said = f"the list of words {path}: no such table"
    with pytest.raises(TemporaryFailure, match=said), file.turn() as database:
        database.execute("SELECT * FROM sentence")
    with file.turn() as database:
        assert not database.execute("SELECT * FROM word").fetchall()


def test_a_closed_one_says_so(file, path):
    file.close()
    said = f"the list of words {path} is closed"
    with pytest.raises(TemporaryFailure, match=said), file.turn():
        pass


def test_one_that_cannot_be_used_says_what_to_do(path):
    with open(path, "w") as it:
        it.write("no database at all, but as long as the head of one. " * 10)
    with pytest.raises(StartupError, match=r"the list of words .* cannot be used: .*; write"):
        SQLiteFile(path, "the list of words", TABLES, "; write it anew").open()
