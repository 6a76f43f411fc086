"""The directories that the contracts are tried on."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.sealed_secrets import Seal
from postoffice.accounts.sqlite_directory import SQLiteDirectory
from postoffice.testing import ImmediateExecutor, finish


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def writable_directory(request, tmp_path):
    """A directory that the command can write to, with nobody in it; it is started."""
    if request.param == "postgresql":
        yield request.getfixturevalue("postgresql_directory")
        return
    if request.param == "memory":
        directory = MemoryDirectory()
    else:
        directory = SQLiteDirectory(str(tmp_path / "state" / "accounts.db"), ImmediateExecutor())
    finish(directory.start())
    yield directory
    finish(directory.stop())


@pytest.fixture
def postgresql_directory(postgresql, tmp_path):
    """The same in a real PostgreSQL."""
    from postoffice.accounts.postgresql_directory import PostgreSQLDirectory

    how = {"seal": Seal(str(tmp_path / "key")), "timeout": 30, "stale": 0}
    directory = PostgreSQLDirectory(postgresql.conninfo, ImmediateExecutor(), Clock(), **how)
    postgresql.empty_tables(directory)
    finish(directory.start())
    yield directory
    finish(directory.stop())


@pytest.fixture
def directory(writable_directory):
    return writable_directory


@pytest.fixture
def peopled(directory):
    for domain in ("example.net", "example.com"):
        assert finish(directory.add_domain(domain))
    for name in ("joe@example.net", "ann@example.net", "joe@example.com"):
        assert finish(directory.add(name, f"hash of {name}"))
    return directory
