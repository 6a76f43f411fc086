"""A file that is replaced is the old one or the new one, whatever goes wrong."""

import errno
import os

import pytest

from postoffice.util.atomic_file import replacing


def create(path):
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_text("old")
    return tmp_path / "file"


def replace(path, octets=b"new", **named):
    with replacing(str(path), f"{path}.new", create, **named) as fd:
        os.write(fd, octets)


@pytest.mark.parametrize("sync", [False, True])
def test_it_has_its_name_when_it_is_whole(path, monkeypatch, sync):
    done = []
    for name in ("write", "fsync", "rename", "close"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, real=real: done.append(name) or real(*args)
        )
    replace(path, sync=sync)
    assert done == ["write", *["fsync"] * sync, "rename", "close"]
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_where_it_fails_the_old_one_stays_alone(path, monkeypatch, call):
    def fail(*args):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no"):
        replace(path)
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file"]


def test_a_part_of_somebody_else_is_not_touched(path):
    path.with_name("file.new").write_text("theirs")
    with pytest.raises(FileExistsError):
        replace(path)
    assert sorted(os.listdir(path.parent)) == ["file", "file.new"]
