"""Shared secrets in the SQLite directory: sealed where they lie, and what becomes of a lost key."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.logger import capturedLogs, eventAsText

from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.model.address import Account
from postoffice.model.errors import TemporaryFailure
from postoffice.testing import ImmediateExecutor, finish, finish_all

JOE = Account("joe@example.net", "joe@example.net", "a hash", "keys", "tanstaaf")


@pytest.fixture
def path(tmp_path):
    """A database in which joe has all that there is, and ann as well, closed."""
    path = str(tmp_path / "accounts.db")
    directory = started(path)
    finish(directory.add_domain("example.net"))
    for name in ("joe@example.net", "ann@example.net"):
        finish(directory.add(name, "a hash", "keys"))
        finish(directory.set_shared(name, "tanstaaf"))
    finish(directory.stop())
    return path


def started(path, *key_file):
    directory = SQLiteDirectory(path, ImmediateExecutor(), *key_file)
    finish(directory.start())
    return directory


def rows(path, asked="SELECT shared FROM account ORDER BY address", *args):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        return [row[0] for row in database.execute(asked, args)]


def test_it_is_read_in_clear_after_a_restart_too(path):
    directory = started(path)
    assert finish(directory.find("joe@example.net")) == JOE
    assert [account.shared for account in finish_all(directory.each_account())] == ["tanstaaf"] * 2
    finish(directory.stop())


def test_it_lies_there_encrypted_and_each_one_otherwise(path, tmp_path):
    sealed = rows(path)
    assert len(set(sealed)) == 2
    for file in tmp_path.iterdir():
        assert b"tanstaaf" not in file.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["accounts.db", "accounts.db.key"]


def test_the_key_may_be_elsewhere(path, tmp_path):
    other = str(tmp_path / "elsewhere.key")
    os.rename(path + ".key", other)
    directory = started(path, other)
    assert finish(directory.find("joe@example.net")) == JOE
    finish(directory.stop())


def lose(path):
    os.unlink(path + ".key")


def exchange_it(path):
    other = started(path, path + ".other")
    finish(other.set_shared("nobody@example.net", "x"))
    finish(other.stop())
    os.rename(path + ".other", path + ".key")


def spoil(path):
    Path(path + ".key").write_bytes(b"")


def tamper(path):
    rows(path, "UPDATE account SET shared = 'schön' WHERE address = 'joe@example.net'")


def swap_for_octets(path):
    rows(path, "UPDATE account SET shared = x'00ff' WHERE address = 'joe@example.net'")


@pytest.mark.parametrize("trouble", [lose, exchange_it, spoil, tamper, swap_for_octets])
def test_one_that_cannot_be_read_is_none_and_all_else_works_on(path, trouble):
    trouble(path)
    directory = started(path)
    with capturedLogs() as logged:
        for _ in range(3):
            assert finish(directory.find("joe@example.net")) == replace(JOE, shared=None)
            assert len(finish_all(directory.each_account())) == 2
    (event,) = logged
    text = eventAsText(event)
    assert f"{path}.key" in text
    assert "tanstaaf" not in text
    assert "schön" not in text
    finish(directory.stop())


def test_others_secrets_are_not_harmed_by_one_that_was_tampered_with(path):
    tamper(path)
    directory = started(path)
    assert finish(directory.find("ann@example.net")).shared == "tanstaaf"
    finish(directory.stop())


@pytest.mark.parametrize("trouble", [exchange_it, tamper])
def test_a_secret_that_is_set_anew_can_be_read_again(path, trouble):
    trouble(path)
    directory = started(path)
    assert finish(directory.set_shared("joe@example.net", "new"))
    assert finish(directory.find("joe@example.net")).shared == "new"
    finish(directory.stop())


def test_without_a_place_for_the_key_no_secret_is_kept(path, tmp_path):
    before = rows(path)
    directory = started(path, str(tmp_path / "nowhere" / "x.key"))
    with pytest.raises(TemporaryFailure, match="nowhere"):
        finish(directory.set_shared("joe@example.net", "new"))
    assert rows(path) == before
    finish(directory.stop())


def test_without_shared_secrets_there_is_no_key(tmp_path):
    directory = started(str(tmp_path / "accounts.db"))
    finish(directory.add_domain("example.net"))
    finish(directory.add("joe@example.net", "a hash"))
    finish(directory.find("joe@example.net"))
    assert finish(directory.set_shared("joe@example.net", None))
    finish(directory.stop())
    assert os.listdir(tmp_path) == ["accounts.db"]
