"""Looking after maildrops: what is found, what is mended, what goes."""

from __future__ import annotations

import os
import time

import pytest

from postoffice.interfaces import PurgeCriteria
from postoffice.model.address import Quota
from postoffice.store import drafts, files, maintenance, names
from postoffice.store.quota import maildirsize

UNLIMITED = Quota(0, 0)
LIMIT = Quota(1000, 0)


@pytest.fixture
def joe(tmp_path):
    folder = tmp_path / "example.net" / "joe"
    files.make(str(folder))
    return folder


def found(folder, limit=UNLIMITED, *, repair=False):
    return [one.what for one in maintenance.verify(str(folder), limit, repair=repair)]


def test_leftovers_are_told_and_swept_and_nothing_that_is_being_written(joe):
    dead, alive = (f"{joe}/tmp/{names.new_name('h')}" for _ in range(2))
    os.close(drafts.create(dead))
    writing = drafts.create(alive)
    assert found(joe) == ["1 leftovers of deliveries that failed"]
    assert found(joe, repair=True) == ["1 leftovers of deliveries that failed"]
    assert found(joe) == []
    assert os.path.exists(alive)
    os.close(writing)


def test_a_maildrop_that_is_just_being_made_lacks_nothing(joe):
    (joe / "cur").rmdir()
    assert found(joe) == []
    os.utime(joe, (1000, 1000))
    assert found(joe) == ["the folder is missing"]
    assert found(joe, repair=True) == ["the folder is missing"]
    assert found(joe) == []


def test_what_is_reserved_and_not_applied_yet_is_not_missed(joe, monkeypatch):
    """``verify`` waits for deliveries that are under way."""
    fd = os.open(joe, os.O_RDONLY)
    maildirsize.recount(fd, LIMIT)
    batcher = maildirsize.reserving(fd)
    batcher.__enter__()
    maildirsize.reserve(fd, LIMIT, [3])

    def place(_):
        (joe / "new" / "1,S=3,W=3").write_bytes(b"x\r\n")
        batcher.__exit__(None, None, None)

    monkeypatch.setattr(maildirsize.time, "sleep", place)
    assert found(joe, LIMIT) == []
    os.close(fd)


def test_a_count_for_another_quota_is_nobodys_fault(joe):
    (joe / "maildirsize").write_text("7S\n5 5\n")
    assert found(joe, LIMIT) == []


def test_what_cannot_be_looked_at_is_told_and_the_rest_is_looked_at(joe, monkeypatch):
    (joe / "cur" / "1,S=5").write_bytes(b"x\r\n")
    real = os.listdir

    def listdir(path):
        if path.endswith("/new"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    [finding] = maintenance.verify(str(joe), UNLIMITED, repair=True)
    assert finding == maintenance.Finding(
        f"{joe}/new", "it cannot be examined: Permission denied", False
    )


def test_a_file_that_cannot_be_read_is_told(joe, monkeypatch):
    (joe / "new" / "1").write_bytes(b"x\r\n")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", fail)
    assert found(joe) == ["it cannot be read: Input/output error; it is not served"]


def test_where_there_is_no_maildrop_nothing_is_wrong(tmp_path):
    assert maintenance.verify(f"{tmp_path}/example.net/nobody", LIMIT, repair=True) == []
    assert maintenance.purge(
        f"{tmp_path}/x/y", PurgeCriteria(older_than=0), None, keep=True, dry=False
    ) == (0, 0)
    assert os.listdir(tmp_path) == []


def test_what_goes_is_taken_off_the_count(joe):
    for number in range(3):
        (joe / "new" / f"{1000 + number},S=10").write_bytes(b"x" * 8 + b"\r\n")
    fd = os.open(joe, os.O_RDONLY)
    maildirsize.recount(fd, LIMIT)
    assert maintenance.purge(
        str(joe), PurgeCriteria(quota=Quota(0, 2)), None, keep=False, dry=False
    ) == (
        1,
        10,
    )
    assert maildirsize.usage(fd, LIMIT) == (20, 2)
    os.close(fd)
    assert sorted(path.name for path in (joe / "new").iterdir()) == ["1001,S=10", "1002,S=10"]


def test_holdings_have_the_oldest_by_the_time_in_its_name(tmp_path, joe):
    for name in ("2000.a", "1000.b", "odd"):
        (joe / "new" / name).write_bytes(b"x\r\n")
    [holding] = maintenance.holdings(str(tmp_path))
    assert (holding.name, holding.messages, holding.octets) == ("joe@example.net", 3, 9)
    assert holding.oldest == 1000
    assert holding.login is None
    assert time.time() - (joe / "new" / "odd").stat().st_mtime < 60
