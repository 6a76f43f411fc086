"""The directories that the contracts are tried on."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from postoffice.accounts.memory import MemoryDirectory
from postoffice.accounts.sealed_secrets import Seal
from postoffice.accounts.sqlite import SQLiteDirectory
from postoffice.testing import ImmediateExecutor, finish


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def writable_directory(request, tmp_path):
    """A directory that the command can write to, with nobody in it; it is started."""
    if request.param == "memory":
        directory = MemoryDirectory()
    elif request.param == "sqlite":
        directory = SQLiteDirectory(str(tmp_path / "state" / "accounts.db"), ImmediateExecutor())
    else:
        directory = _in_postgresql(request.getfixturevalue("postgresql"), tmp_path)
    finish(directory.start())
    yield directory
    finish(directory.stop())


def _in_postgresql(server, tmp_path):
    from postoffice.accounts.postgresql import PostgreSQLDirectory

    directory = PostgreSQLDirectory(
        server.conninfo,
        ImmediateExecutor(),
        Clock(),
        seal=Seal(str(tmp_path / "key")),
        timeout=30,
        stale=0,
    )
    server.empty_tables(directory)
    return directory
