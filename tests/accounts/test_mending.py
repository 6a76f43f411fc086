"""The accounts' database in the hands of those who mend it, or who start twice at once."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from postoffice.accounts import schema
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.model.errors import StartupError, TemporaryFailure
from postoffice.testing import ImmediateExecutor, finish, finish_all


@pytest.fixture
def path(tmp_path):
    """A database with joe in it, closed."""
    path = str(tmp_path / "accounts.db")
    directory = started(path)
    assert finish(directory.add_domain("example.net"))
    assert finish(directory.add("joe@example.net", "his"))
    finish(directory.stop())
    return path


def started(path):
    directory = SQLiteDirectory(path, ImmediateExecutor())
    finish(directory.start())
    return directory


def saved_as_sql(path, keep=lambda statement: True):
    """Make the database anew from SQL, as ``sqlite3 OLD .dump | sqlite3 NEW`` does."""
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(path + ".new")) as new:
        new.executescript("".join(line for line in old.iterdump() if keep(line)))
    os.replace(path + ".new", path)


def pragma(path, name):
    with closing(sqlite3.connect(path)) as database:
        return database.execute(f"PRAGMA {name}").fetchone()[0]


def test_what_was_saved_as_sql_is_ours_again(path):
    saved_as_sql(path)
    assert pragma(path, "application_id") == 0
    assert pragma(path, "journal_mode") == "delete"
    for _ in range(2):
        directory = started(path)
        assert finish(directory.find("joe@example.net")).secret == "his"
        assert not finish(directory.add_domain("example.net"))
        finish(directory.stop())
    assert pragma(path, "application_id") == schema.APPLICATION
    assert pragma(path, "user_version") == schema.SCHEMA
    assert pragma(path, "journal_mode") == "wal"
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_database_that_lacks_a_table_is_not_taken_for_ours(path):
    saved_as_sql(path, keep=lambda statement: "account" not in statement)
    with pytest.raises(StartupError, match="another program"):
        started(path)
    assert pragma(path, "application_id") == 0


@pytest.mark.parametrize("name", ["application_id", "user_version"])
def test_what_says_that_it_is_of_another_is_refused_and_left_alone(path, name):
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA {name} = 77")
    with pytest.raises(StartupError, match=r"another program|newer"):
        started(path)
    assert pragma(path, name) == 77


def test_a_copy_made_while_it_was_in_use_is_a_backup(path):
    directory = started(path)
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(path + ".bak")) as new:
        old.backup(new)
    finish(directory.remove("joe@example.net"))
    finish(directory.stop())
    os.replace(path + ".bak", path)
    assert finish(started(path).find("joe@example.net")).secret == "his"


def test_a_log_mode_that_others_took_away_comes_back(path):
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    finish(started(path).stop())
    assert pragma(path, "journal_mode") == "wal"


def test_a_damaged_page_is_told_in_one_line_with_how_to_mend_it(path):
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 4096)
    with pytest.raises(StartupError) as told:
        started(path)
    text = str(told.value)
    assert "\n" not in text
    for word in (path, path + "-wal", "backup", ".recover", ".dump"):
        assert word in text


def test_two_that_make_the_database_at_once_have_one(tmp_path, monkeypatch):
    path = str(tmp_path / "accounts.db")
    make, faster = schema.make, []

    def makes_later(path):
        monkeypatch.setattr(schema, "make", make)
        faster.append(started(path))  # has it open: its log lies there already
        assert finish(faster[0].add_domain("example.net"))
        make(path)

    monkeypatch.setattr(schema, "make", makes_later)
    slower = started(path)
    assert finish(slower.domains()) == ["example.net"]
    assert finish(slower.add_domain("example.com"))
    assert finish(faster[0].serves("example.com"))
    assert [name for name in os.listdir(tmp_path) if name.endswith((".new", ".new-wal"))] == []


def test_a_log_without_its_database_is_not_begun_anew(path):
    os.rename(path, path + ".away")
    with open(path + "-wal", "wb") as file:
        file.write(b"what was not yet in the database")
    with pytest.raises(StartupError, match="is gone"):
        started(path)
    assert not os.path.lexists(path)


def test_the_database_itself_keeps_accounts_in_domains_of_ours(path):
    directory = started(path)
    for change in (
        "INSERT INTO account (address, domain, maildrop)"
        " VALUES ('eve@example.org', 'example.org', 'eve@example.org')",
        "DELETE FROM domain",
    ):
        with pytest.raises(TemporaryFailure, match="FOREIGN KEY"):
            directory._database.write(lambda database, change=change: database.execute(change))
    assert finish(directory.serves("example.net"))
    assert [account.address for account in finish_all(directory.each_account())] == [
        "joe@example.net"
    ]
    finish(directory.stop())
