"""A directory in a file: read again when it changes, and what happens to a broken version."""

from __future__ import annotations

import os

import pytest
from twisted.internet.defer import Deferred

from postoffice.accounts import file_directory
from postoffice.accounts.file_directory import QUIET, SIZE_MAXIMUM, FileContents, FileDirectory
from postoffice.model.address import Account
from postoffice.model.alias import Domain, Found
from postoffice.model.errors import StartupError
from postoffice.testing import ImmediateExecutor, ManualExecutor, finish

ANN, BOB = "ann@example.net", "bob@example.net"


def parse(path, octets):
    """A file of names."""
    names = octets.decode().split()
    if "broken" in names:
        raise StartupError(f"{path}:1: first\n{path}:2: second")
    return FileContents({"example.net": Domain("example.net")}, {n: Account(n, n) for n in names})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "names"
    path.write_text(ANN)
    return path


@pytest.fixture
def parsed():
    return []


@pytest.fixture
def directory(path, parsed):
    def watched(*args):
        parsed.append(args)
        return parse(*args)

    # The time is long after all writes: a new file may get the inode of an old one.
    directory = FileDirectory(str(path), watched, ImmediateExecutor(), lambda: 4e9)
    finish(directory.start())
    return directory


def replace(path, text):
    """Write a new version, and rename it into place."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def names(directory):
    return [name for name in (ANN, BOB) if finish(directory.find(name))]


def test_what_did_not_change_is_read_once(directory, parsed):
    for _ in range(3):
        assert names(directory) == [ANN]
        assert isinstance(directory.look_up(ANN), Found), "it had to wait"
    assert len(parsed) == 1


def test_a_new_version_counts_at_once(directory, path, parsed, logged):
    replace(path, f"{ANN} {BOB}")
    assert names(directory) == [ANN, BOB]
    replace(path, BOB)
    assert finish(directory.look_up(BOB)).entry == Account(BOB, BOB)
    assert names(directory) == [BOB]
    assert len(parsed) == 3
    assert logged == [f"{path} has changed: {count} accounts and aliases" for count in (2, 1)]


def test_a_file_that_is_written_in_place_counts_when_it_is_quiet(path, logged):
    """Its writer may not be done: half of it would be valid."""
    now = [os.stat(path).st_mtime + 100]
    directory = FileDirectory(str(path), parse, ImmediateExecutor(), lambda: now[0])
    finish(directory.start())
    with open(path, "w") as file:
        file.write(BOB)
        file.flush()
        now[0] = os.stat(path).st_mtime + QUIET / 2
        assert names(directory) == [ANN]
        file.write(f" {ANN}")
    now[0] = os.stat(path).st_mtime + QUIET * 1.1
    assert names(directory) == [ANN, BOB]


def test_a_file_of_the_future_is_read_all_the_same(path, logged):
    directory = FileDirectory(str(path), parse, ImmediateExecutor(), lambda: 0.0)
    finish(directory.start())
    path.write_text(BOB)
    assert names(directory) == [BOB]


def test_a_broken_version_is_logged_once_and_the_old_one_stays(directory, path, parsed, logged):
    replace(path, "broken")
    for _ in range(3):
        assert names(directory) == [ANN]
        assert finish(directory.serves("example.net"))
    assert logged == [
        f"reading {path} again failed, its last good version stays: {path}:{line}: {word}"
        for line, word in ((1, "first"), (2, "second"))
    ]
    assert len(parsed) == 2
    replace(path, BOB)
    assert names(directory) == [BOB]


@pytest.mark.parametrize("what", ["gone", "a folder", "closed", "too large"])
def test_a_file_that_cannot_be_read_any_more_is_logged_once(directory, path, logged, what):
    if what == "closed" and os.geteuid() == 0:
        pytest.skip("root reads all files")
    path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what != "gone":
        replace(path, BOB)
        path.chmod(0 if what == "closed" else 0o600)
        os.truncate(path, SIZE_MAXIMUM + 1 if what == "too large" else 1)
    for _ in range(3):
        assert names(directory) == [ANN]
    (line,) = logged
    assert "its last good version stays" in line
    assert str(path) in line
    if what == "a folder":
        path.rmdir()
    replace(path, BOB)
    assert names(directory) == [BOB]


@pytest.mark.parametrize("what", ["missing", "broken", "a pipe"])
def test_what_cannot_be_read_at_the_start_stops_the_start(path, what):
    path.unlink()
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "broken":
        path.write_text("broken")
    with pytest.raises(StartupError, match="names"):
        finish(FileDirectory(str(path), parse, ImmediateExecutor()).start())


def test_all_questions_wait_for_one_reading(path, logged):
    executor = ManualExecutor()
    directory = FileDirectory(str(path), parse, executor)
    started = Deferred.fromCoroutine(directory.start())
    executor.work()
    assert started.called
    replace(path, BOB)
    waiting = [Deferred.fromCoroutine(directory.find(BOB)) for _ in range(3)]
    waiting.append(Deferred.fromCoroutine(directory.stop()))
    waiting[0].addErrback(lambda failure: None).cancel()
    assert len(executor.waiting) == 1
    executor.work()
    assert [one.called for one in waiting] == [True] * 4
    assert waiting[1].result == waiting[2].result == Account(BOB, BOB)


def test_of_a_file_that_takes_long_the_old_version_answers_until_the_new_one_is_read(
    path, logged, monkeypatch
):
    monkeypatch.setattr(file_directory, "PATIENCE", -1)
    executor = ManualExecutor()
    directory = FileDirectory(str(path), parse, executor)
    started = Deferred.fromCoroutine(directory.start())
    executor.work()
    assert started.called
    replace(path, BOB)
    assert names(directory) == [ANN]
    assert finish(directory.look_up(ANN)).entry == Account(ANN, ANN)
    assert len(executor.waiting) == 1
    executor.work()
    assert names(directory) == [BOB]


def test_a_version_that_changes_while_it_is_read_does_not_count(directory, path, logged):
    def rewritten(*args):
        directory._parse = parse
        replace(path, f"{ANN} {BOB}")
        return parse(*args)

    directory._parse = rewritten
    replace(path, BOB)
    assert names(directory) == [ANN, BOB]
    assert len(logged) == 1
