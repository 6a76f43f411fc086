"""Errors of the disk where nobody expects them: what they cost, and no more than that."""

from __future__ import annotations

import builtins
import errno
import os
import signal

import pytest
from twisted.internet.task import Clock

from postoffice.model.errors import TemporaryFailure
from postoffice.store.journal import segments
from postoffice.store.maildir_store import MaildirStore
from postoffice.store.names import Measured
from postoffice.store.size_cache import SizeCache
from postoffice.testing import ImmediateExecutor, finish
from tests.store.journaled import (
    ANN,
    JOE,
    Served,
    calling_first,
    die,
    messages,
    path_of,
    raising,
    state_of,
    there,
)

pytestmark = pytest.mark.usefixtures("machine")


def open_files(root) -> list[str]:
    paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    found = [os.readlink(path) for path in paths if os.path.islink(path)]
    return sorted(path for path in found if path.startswith(str(root)))


def is_about(*parts):
    """Whether a call is about a path that ends in one of these, or holds it."""

    def is_so(what, *_, **named):
        path = path_of(what) if isinstance(what, int) else str(what)
        return path.endswith(parts) or any(part in path for part in parts if part[-1:] == ".")

    return is_so


def is_new_in_anns(_, target, *, dst_dir_fd=None, **named):
    return dst_dir_fd is not None and path_of(dst_dir_fd).endswith("/ann")


SEGMENTS, STATE = "/.journal/seg.", "/.journal/state"


def at_work(root) -> Served:
    """A store whose files are all open that it needs."""
    one = Served(root)
    one.post("before")
    one.checkpoint()
    one.post("now")
    return one


@pytest.fixture
def one(root):
    one = at_work(root)
    yield one
    one.stop()


def test_a_sync_that_failed_is_remembered_where_that_cannot_be_written_down(one, root, monkeypatch):
    before, opened = state_of(root), open_files(root)
    with monkeypatch.context() as patch:
        calling_first(patch, os, "fdatasync", raising(errno.EIO, is_about(SEGMENTS)))
        failed = []
        calling_first(patch, os, "fdatasync", lambda fd: failed.append(fd))
        wrong = raising(errno.EIO, is_about(STATE))
        calling_first(patch, os, "pwrite", lambda *args: failed and wrong(*args))
        with pytest.raises(TemporaryFailure):
            one.post("bad")
    assert open_files(root) == opened
    one.post("after")
    assert state_of(root).generation == before.generation + 1
    one.checkpoint()
    assert state_of(root).checkpointed == state_of(root).generation
    assert there(root) == one.listed() == ["after", "before", "now"]


def test_a_group_that_is_not_written_down_is_refused_and_holds_nothing_up(one, root, monkeypatch):
    opened = open_files(root)
    with monkeypatch.context() as patch:
        calling_first(patch, os, "pwrite", raising(errno.ENOSPC, is_about(STATE)))
        with pytest.raises(TemporaryFailure):
            one.post("bad")
    assert open_files(root) == opened
    one.post("after")
    one.checkpoint()
    assert state_of(root).checkpointed == state_of(root).generation
    assert there(root) == ["after", "before", "now"]


def test_what_is_in_its_place_is_taken_though_that_cannot_be_written_down(one, root, monkeypatch):
    written = []

    def not_written(fd, octets, offset):
        if is_about(STATE)(fd):
            written.append(bytes(octets))
            if octets == b"\1":
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        calling_first(patch, os, "pwrite", not_written)
        one.post("after")
    assert b"\1" in written
    one.checkpoint()
    assert state_of(root).checkpointed == state_of(root).generation
    assert there(root) == ["after", "before", "now"]


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_removal_that_fails_leaves_a_maildrop_that_can_be_used(one, root, monkeypatch, call):
    with monkeypatch.context() as patch:
        calling_first(patch, os, call, raising(errno.EIO, is_about(SEGMENTS)))
        calling_first(patch, os, "ftruncate", raising(errno.EIO, lambda _, size: not size))
        with pytest.raises(TemporaryFailure):
            one.remove("now")
    assert one.listed() == ["before", "now"]
    one.remove("now")
    assert one.listed() == ["before"]


def test_a_removal_is_told_though_its_mark_stays(one, root, monkeypatch):
    with monkeypatch.context() as patch:
        calling_first(patch, os, "ftruncate", raising(errno.EIO, lambda _, size: not size))
        one.remove("now")
    assert one.listed() == ["before"]


def test_a_login_needs_neither_its_own_time_nor_the_count(one, monkeypatch):
    assert one.listed() == ["before", "now"]
    with monkeypatch.context() as patch:
        calling_first(patch, os, "utime", raising(errno.EROFS))
        calling_first(patch, os, "open", raising(errno.EACCES, is_about("maildirsize")))
        assert one.listed() == ["before", "now"]


@pytest.mark.parametrize(
    "where", ["/key", "/mark", "/state", "/append", "/.journal", "/large", "/seg.0"]
)
@pytest.mark.parametrize("durability", ["journal", "files"])
def test_a_start_that_fails_lets_go_of_everything(root, monkeypatch, where, durability):
    at_work(root).stop()
    store = MaildirStore(
        str(root), ImmediateExecutor(), hostname="h", clock=Clock(), durability=durability
    )
    with monkeypatch.context() as patch:
        calling_first(patch, os, "open", raising(errno.EMFILE, is_about(where)))
        calling_first(patch, os, "listdir", raising(errno.EMFILE, is_about(where)))
        calling_first(patch, builtins, "open", raising(errno.EMFILE, is_about(where)))
        with pytest.raises((TemporaryFailure, OSError)):
            finish(store.start())
    finish(store.stop())
    assert open_files(root) == []
    Served(root, durability=durability).stop()


def test_names_that_do_not_go_are_no_fault_of_ours(one, root, monkeypatch, logged):
    monkeypatch.setattr("postoffice.store.expunge.AT_ONCE", 0)
    with monkeypatch.context() as patch:
        calling_first(patch, os, "unlink", raising(errno.EIO, lambda path, **_: "new" in path))
        one.remove("now")
    assert any("failed, retrying" in line for line in logged)
    assert one.listed() == ["before"]
    assert len(messages(root, JOE)) == 1


def test_what_cannot_be_taken_back_at_once_is_taken_back_later(one, root, monkeypatch):
    with monkeypatch.context() as patch:
        calling_first(patch, os, "link", raising(errno.EACCES, is_new_in_anns))
        calling_first(patch, os, "unlink", raising(errno.EACCES))
        with pytest.raises(TemporaryFailure):
            one.post("bad", JOE, ANN)
    one.checkpoint()
    assert there(root) == ["before", "now"]
    assert there(root, ANN) == []


def test_a_recovery_that_may_open_no_more_files_puts_nothing_aside(root, child, monkeypatch):
    def post(parent):
        Served(root).post("one")
        die()

    assert child(post).wait() == -signal.SIGKILL
    with monkeypatch.context() as patch:
        calling_first(patch, os, "open", raising(errno.EMFILE, lambda path, *_: "/tmp/" in path))
        with pytest.raises(TemporaryFailure, match="Too many open files"):
            Served(root)
    one = Served(root)
    assert not (root / ".journal/set-aside").exists()
    assert one.listed() == ["one"]
    one.stop()


def test_a_sweep_that_fails_is_no_fault_of_ours(root, monkeypatch, logged):
    with monkeypatch.context() as patch:
        calling_first(patch, os, "scandir", raising(errno.EIO, is_about("/.removed")))
        one = Served(root)
    assert any("sweeping the store failed: " in line for line in logged)
    one.stop()


def test_what_can_neither_be_taken_back_nor_committed_as_gone_comes_to_all(one, root, monkeypatch):
    with monkeypatch.context() as patch:
        calling_first(patch, os, "link", raising(errno.EACCES, is_new_in_anns))
        calling_first(patch, os, "unlink", raising(errno.EACCES))
        wrong = raising(errno.EACCES, is_about(SEGMENTS))
        calling_first(patch, os, "pwrite", lambda *args: "bad" in there(root) and wrong(*args))
        with pytest.raises(TemporaryFailure):
            one.post("bad", JOE, ANN)
    one.checkpoint()
    assert there(root) == ["bad", "before", "now"]
    assert there(root, ANN) == ["bad"]


def test_notes_that_were_cut_off_are_not_believed(root):
    folder = root / "ann"
    (folder / "tmp").mkdir(parents=True)
    status = os.stat(root)
    noted = SizeCache(str(folder))
    noted.set(status, Measured(1234, 5678))
    noted.keep(1)
    file = folder / "postoffice.sizes"
    assert SizeCache(str(folder)).get(status) == Measured(1234, 5678)
    file.write_bytes(file.read_bytes()[:-3])
    assert SizeCache(str(folder)).get(status) is None


def test_notes_that_cannot_be_written_leave_nothing(root, monkeypatch):
    folder = root / "ann"
    (folder / "tmp").mkdir(parents=True)
    noted = SizeCache(str(folder))
    noted.set(os.stat(root), Measured(1, None))
    with monkeypatch.context() as patch:
        calling_first(patch, os, "rename", raising(errno.ENOSPC))
        noted.keep(1)
    assert list(folder.rglob("*")) == [folder / "tmp"]


@pytest.mark.parametrize("token", ["bad", "large"])
def test_what_was_refused_is_not_recovered(one, root, monkeypatch, logged, token):
    with monkeypatch.context() as patch:
        calling_first(patch, os, "fdatasync", raising(errno.EIO, is_about(SEGMENTS)))
        with pytest.raises(TemporaryFailure):
            one.post(token)
    one.post("after")
    with monkeypatch.context() as patch:
        calling_first(patch, segments, "sync_all", raising(errno.EIO))
        one.checkpoint()
    assert any("recovering all" in line for line in logged)
    assert not any("is lost" in line for line in logged)
    assert there(root) == ["after", "before", "now"]
