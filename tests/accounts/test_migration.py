"""Databases of older and newer versions: brought to today's, whole or not at all, or refused."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from postoffice.accounts import schema
from postoffice.accounts.schema import SCHEMA
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.model.address import Account, Address, Quota
from postoffice.model.alias import Alias, Domain
from postoffice.model.app_password import AppPassword
from postoffice.model.errors import StartupError
from postoffice.testing import ImmediateExecutor, finish, finish_all

#: A database as the first version made it, and filled.
VERSION_1 = """
    PRAGMA journal_mode = WAL;
    BEGIN IMMEDIATE;
    CREATE TABLE domain (name TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE account (
        address TEXT PRIMARY KEY,
        domain TEXT NOT NULL REFERENCES domain (name),
        maildrop TEXT NOT NULL UNIQUE,
        secret TEXT
    ) WITHOUT ROWID;
    CREATE INDEX account_domain ON account (domain);
    PRAGMA application_id = 1349472102;
    PRAGMA user_version = 1;
    INSERT INTO domain VALUES ('example.com'), ('example.net');
    INSERT INTO account VALUES
        ('jörg@example.net', 'example.net', 'jörg@example.net', '$argon2id$hash'),
        ('moved@example.net', 'example.net', 'old@example.com', 'b hash'),
        ('postmaster@example.net', 'example.net', 'postmaster@example.net', NULL);
    COMMIT;
"""
#: What the second one made of it.
VERSION_2 = """
    BEGIN IMMEDIATE;
    ALTER TABLE account ADD COLUMN scram TEXT;
    ALTER TABLE account ADD COLUMN shared TEXT;
    PRAGMA user_version = 2;
    COMMIT;
"""
#: And the third one.
VERSION_3 = """
    BEGIN IMMEDIATE;
    ALTER TABLE domain ADD COLUMN quota_octets INTEGER;
    ALTER TABLE domain ADD COLUMN quota_messages INTEGER;
    ALTER TABLE domain ADD COLUMN quota_over TEXT;
    ALTER TABLE account ADD COLUMN quota_octets INTEGER;
    ALTER TABLE account ADD COLUMN quota_messages INTEGER;
    ALTER TABLE account ADD COLUMN quota_over TEXT;
    PRAGMA user_version = 3;
    COMMIT;
"""
#: And the fourth.
VERSION_4 = f"""
    BEGIN IMMEDIATE;
    {
    "".join(
        f"ALTER TABLE {table} ADD COLUMN {column};"
        for table in ("domain", "account")
        for column in (
            "keep REAL",
            "keep_collected REAL",
            "delete_on_collect INTEGER",
            "devices TEXT",
            "login_delay REAL",
            "in_use TEXT",
            "wait REAL",
        )
    )
}
    PRAGMA user_version = 4;
    COMMIT;
"""
#: And the fifth.
VERSION_5 = """
    BEGIN IMMEDIATE;
    CREATE TABLE device (
        account TEXT NOT NULL REFERENCES account (address) ON DELETE CASCADE,
        name TEXT NOT NULL,
        id TEXT NOT NULL,
        secret TEXT NOT NULL,
        scram TEXT,
        added REAL NOT NULL,
        expires REAL,
        protocol TEXT NOT NULL,
        networks TEXT NOT NULL,
        PRIMARY KEY (account, name)
    ) WITHOUT ROWID;
    PRAGMA user_version = 5;
    COMMIT;
"""
#: And the sixth.
VERSION_6 = """
    BEGIN IMMEDIATE;
    ALTER TABLE account ADD COLUMN state TEXT NOT NULL DEFAULT 'enabled';
    PRAGMA user_version = 6;
    COMMIT;
"""
VERSIONS = [VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6]
ACCOUNTS = [
    Account("jörg@example.net", "jörg@example.net", "$argon2id$hash"),
    Account("moved@example.net", "old@example.com", "b hash"),
    Account("postmaster@example.net", "postmaster@example.net"),
]


PHONE = AppPassword("phone", "acdefg", "digest", "keys", 1.5, 2.5, "pop3", ("192.0.2.0/24", "::1"))


def script(path, statements):
    with closing(sqlite3.connect(path)) as database:
        database.executescript(statements)


@pytest.fixture(params=[1, 2, 3, 4, 5, 6], ids="version {}".format)
def path(request, tmp_path):
    """A database of an older version, closed."""
    path = str(tmp_path / "accounts.db")
    script(path, "".join(VERSIONS[: request.param]))
    assert os.listdir(tmp_path) == ["accounts.db"]
    return path


def started(path):
    directory = SQLiteDirectory(path, ImmediateExecutor())
    finish(directory.start())
    return directory


def dumped(path):
    """All that is in it, and how it is marked."""
    with closing(sqlite3.connect(path)) as database:
        marks = [database.execute(f"PRAGMA {name}").fetchone()[0]
                 for name in ("application_id", "user_version", "journal_mode")]  # fmt: skip
        return [*marks, *database.iterdump()]


def columns(path):
    with closing(sqlite3.connect(path)) as database:
        names = "SELECT group_concat(name) FROM pragma_table_info(?)"
        return [
            database.execute(names, (table,)).fetchone()[0]
            for table in ("account", "domain", "device", "alias", "target")
        ]


def test_all_accounts_of_an_older_version_are_there(path):
    directory = started(path)
    assert finish_all(directory.each_account()) == ACCOUNTS
    assert finish(directory.find("moved@example.net")).maildrop == "old@example.com"
    assert finish(directory.domains()) == ["example.com", "example.net"]
    finish(directory.stop())


def test_it_is_of_todays_version_then_with_the_same_tables_as_a_new_one(path, tmp_path):
    finish(started(path).stop())
    finish(started(str(tmp_path / "new.db")).stop())
    assert dumped(path)[:3] == [schema.APPLICATION, schema.SCHEMA, "wal"]
    assert columns(path) == columns(tmp_path / "new.db")


def test_what_is_new_can_be_kept_in_it(path):
    directory = started(path)
    name = "jörg@example.net"
    assert finish(directory.keep_scram(name, "$argon2id$hash", "keys"))
    assert finish(directory.set_shared(name, "tanstaaf"))
    assert finish(directory.set_quota(name, Quota(octets=1 << 40)))
    assert finish(directory.set_domain_quota("example.net", Quota(0, 9, "defer")))
    expected = Account(name, name, "$argon2id$hash", "keys", "tanstaaf", Quota(1 << 40, 9, "defer"))
    assert finish(directory.add_app_password(name, PHONE))
    assert finish(directory.find(name)) == expected
    assert finish(directory.add("eve@example.com", "hers", "her keys"))
    alias = Alias("info@example.net", (Address.parse(name), Address.parse("Eve@example.com")))
    domain = Domain("example.com", same_as="example.net")
    assert finish(directory.add_alias(alias))
    assert finish(directory.set_domain(domain))
    finish(directory.stop())
    directory = started(path)
    assert finish(directory.find(name)) == expected
    assert finish(directory.find("eve@example.com")).scram == "her keys"
    assert list(finish(directory.app_passwords(name))) == [PHONE]
    assert finish(directory.aliases()) == [alias]
    assert finish(directory.look_up("@example.com")).domain == domain
    finish(directory.stop())


def test_a_copy_of_the_old_version_is_kept_and_the_log_says_where(path, logged):
    before = dumped(path)
    finish(started(path).stop())
    finish(started(path).stop())
    assert logged == [
        f"the accounts database {path} was migrated from version {before[1]} to {SCHEMA}; "
        f"a copy of the old one is in {path}.version-{before[1]}"
    ]
    (name,) = [one for one in os.listdir(os.path.dirname(path)) if ".version-" in one]
    copy = os.path.join(os.path.dirname(path), name)
    assert name == f"accounts.db.version-{before[1]}"
    assert stat.S_IMODE(os.stat(copy).st_mode) == 0o600
    assert dumped(copy)[:2] == before[:2]
    assert dumped(copy)[3:] == before[3:]
    assert not [one for one in os.listdir(os.path.dirname(path)) if one.endswith(".new")]


def test_an_upgrade_after_a_downgrade_makes_a_new_copy(path):
    version = dumped(path)[1]
    copy = Path(f"{path}.version-{version}")
    finish(started(path).stop())
    Path(path).write_bytes(copy.read_bytes())
    script(path, "DELETE FROM account WHERE address = 'moved@example.net'")
    before = dumped(path)
    finish(started(path).stop())
    assert dumped(str(copy))[3:] == before[3:]


def test_a_copy_alone_is_the_whole_database_and_can_be_started(path):
    version = dumped(path)[1]
    finish(started(path).stop())
    os.rename(f"{path}.version-{version}", path)
    assert not [one for one in os.listdir(os.path.dirname(path)) if one.endswith(("-wal", "-shm"))]
    directory = started(path)
    assert [one.address for one in finish_all(directory.each_account())] == sorted(
        one.address for one in ACCOUNTS
    )
    finish(directory.stop())


def test_a_change_that_fails_changes_nothing_and_says_what_to_do(path):
    version = dumped(path)[1]
    script(path, "ALTER TABLE account ADD COLUMN keep_copy TEXT")  # another program's
    before = dumped(path)
    for _ in range(3):
        with pytest.raises(StartupError) as caught:
            started(path)
        assert f"cannot be brought from version {version} to {SCHEMA}" in str(caught.value)
        assert "failed: duplicate column name: keep_copy; it is as it was" in str(caught.value)
        assert dumped(path) == before
    names = [one for one in os.listdir(os.path.dirname(path)) if ".version-" in one]
    assert names == [f"accounts.db.version-{version}"]


@pytest.mark.parametrize("kept", [False, True])
def test_one_of_a_newer_program_names_both_versions_and_the_way_back(tmp_path, kept):
    path = str(tmp_path / "accounts.db")
    finish(started(path).stop())
    script(path, f"PRAGMA user_version = {SCHEMA + 3}")
    if kept:
        Path(f"{path}.version-{SCHEMA}").touch()
    with pytest.raises(StartupError) as caught:
        started(path)
    said = str(caught.value)
    assert f"its version is {SCHEMA + 3}, this one knows {SCHEMA}" in said
    assert (f"put {path}.version-{SCHEMA} in its place" in said) == kept


def test_where_no_copy_can_be_kept_nothing_is_changed(path, monkeypatch):
    before = dumped(path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StartupError, match=r"No space left.*look at the disk"):
        started(path)
    assert dumped(path) == before
    assert not [one for one in os.listdir(os.path.dirname(path)) if "version" in one]


def test_a_new_one_has_no_copy(tmp_path):
    finish(started(str(tmp_path / "accounts.db")).stop())
    finish(started(str(tmp_path / "accounts.db")).stop())
    assert not [one for one in os.listdir(tmp_path) if ".version-" in one]


def test_a_second_start_changes_nothing(path):
    finish(started(path).stop())
    before = dumped(path)
    finish(started(path).stop())
    assert dumped(path) == before


def test_an_older_one_that_was_saved_as_sql_is_brought_to_today_as_well(path):
    with closing(sqlite3.connect(path)) as old:
        script(path + ".new", "".join(old.iterdump()))
    os.replace(path + ".new", path)
    assert dumped(path)[:2] == [0, 0]
    directory = started(path)
    assert finish_all(directory.each_account()) == ACCOUNTS
    finish(directory.stop())
    assert dumped(path)[:2] == [schema.APPLICATION, schema.SCHEMA]


def test_two_that_start_at_once_change_it_once(path, monkeypatch):
    """The slower one has read the version before the faster one began."""
    renew, faster = schema._migrate, []

    def renews_later(path, database):
        monkeypatch.setattr(schema, "_migrate", renew)
        faster.append(started(path))
        assert finish(faster[0].keep_scram("moved@example.net", "b hash", "keys"))
        renew(path, database)

    monkeypatch.setattr(schema, "_migrate", renews_later)
    slower = started(path)
    assert finish(slower.find("moved@example.net")).scram == "keys"
    assert finish_all(faster[0].each_account()) == finish_all(slower.each_account())
    for directory in (slower, *faster):
        finish(directory.stop())
    assert dumped(path)[1] == schema.SCHEMA


def test_a_change_that_fails_in_the_middle_leaves_the_old_version(path, monkeypatch):
    before = dumped(path)
    last = schema.SCHEMA - 1
    change = schema.CHANGES[last]
    monkeypatch.setitem(schema.CHANGES, last, (*change, "ALTER TABLE gone ADD COLUMN x"))
    with pytest.raises(StartupError, match="no such table"):
        started(path)
    assert dumped(path) == before
    monkeypatch.setitem(schema.CHANGES, last, change)
    directory = started(path)
    assert finish_all(directory.each_account()) == ACCOUNTS
    finish(directory.stop())


def test_another_that_writes_keeps_the_office_closed_and_the_old_version(path, monkeypatch):
    monkeypatch.setattr("postoffice.accounts.sqlite_database.WRITER_WAITS", 0.01)
    before = dumped(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StartupError, match="another program holds it"):
            started(path)
    assert dumped(path) == before
    finish(started(path).stop())


def test_there_is_a_way_from_every_version_to_today():
    assert list(schema.CHANGES) == list(range(1, schema.SCHEMA))


@pytest.mark.parametrize("version", [schema.SCHEMA + 1, 1000])
def test_a_newer_version_is_refused_with_what_to_do_and_left_alone(path, version):
    finish(started(path).stop())
    script(path, f"ALTER TABLE account ADD COLUMN quota INTEGER; PRAGMA user_version = {version}")
    before = Path(path).read_bytes()
    with pytest.raises(StartupError) as raised:
        started(path)
    assert str(raised.value) == (
        f"the accounts database {path} was made by a newer postoffice (its version is {version}, "
        f"this one knows {schema.SCHEMA}): start that one"
    )
    assert Path(path).read_bytes() == before
