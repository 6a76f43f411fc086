"""What may go wrong on a disk under a store without a journal."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import (
    MessageGone,
    NoSpace,
    StartupError,
    TemporaryFailure,
)
from postoffice.testing import finish
from tests.store.on_disk import ANN, JOE, opened, place_of, post, read, read_all, started, tree

# -- faults --------------------------------------------------------------------------


def fail(monkeypatch, name, number, when=lambda *args, **named: True):
    """Let an os function fail while the returned switch is on."""
    real = getattr(os, name)
    switch = [True]

    def failing(*args, **named):
        if switch[0] and when(*args, **named):
            raise OSError(number, os.strerror(number))
        return real(*args, **named)

    monkeypatch.setattr(os, name, failing)
    return switch


ERRORS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE, errno.EACCES, errno.EROFS]


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "link", "mkdir"])
@pytest.mark.parametrize("size", [10, 700_000])
def test_a_delivery_that_fails_leaves_nothing_and_the_next_one_works(
    root, monkeypatch, call, error, size
):
    store = started(root)
    if call != "mkdir":
        post(store, b"before\r\n", JOE, ANN)
    switch = fail(monkeypatch, call, error)
    with pytest.raises(TemporaryFailure) as raised:
        post(store, b"x" * size + b"\r\n", JOE, ANN)
    assert isinstance(raised.value, NoSpace) is (error in (errno.ENOSPC, errno.EDQUOT))
    switch[0] = False
    monkeypatch.undo()
    before = [b"before\r\n"] if call != "mkdir" else []
    assert read_all(store) == read_all(store, ANN) == before
    assert not [name for name in tree(root) if "/tmp/" in name]
    post(store, b"after\r\n", JOE, ANN)
    assert read_all(store) == read_all(store, ANN) == [*before, b"after\r\n"]


def test_all_get_it_or_none(store, root, monkeypatch):
    post(store, b"before\r\n", JOE, ANN)
    fail(
        monkeypatch,
        "link",
        errno.EIO,
        lambda source, target, *, src_dir_fd, dst_dir_fd: "/ann/" in place_of(target, dst_dir_fd),
    )
    with pytest.raises(TemporaryFailure):
        post(store, b"x\r\n", JOE, ANN)
    monkeypatch.undo()
    assert read_all(store) == read_all(store, ANN) == [b"before\r\n"]


def test_a_folder_that_cannot_be_synced_is_no_delivery(store, monkeypatch):
    post(store, b"before\r\n", JOE, ANN)
    fail(
        monkeypatch,
        "fsync",
        errno.EIO,
        lambda fd: os.readlink(f"/proc/self/fd/{fd}").endswith("/ann/new"),
    )
    with pytest.raises(TemporaryFailure):
        post(store, b"x\r\n", JOE, ANN)
    monkeypatch.undo()
    assert read_all(store) == read_all(store, ANN) == [b"before\r\n"]


def test_another_file_system_gets_a_file_of_its_own(store, root, monkeypatch):
    fail(
        monkeypatch,
        "link",
        errno.EXDEV,
        lambda source, target, *, src_dir_fd, dst_dir_fd: src_dir_fd != dst_dir_fd,
    )
    post(store, b"x" * 300_000 + b"\r\n", JOE, ANN)
    assert read_all(store) == read_all(store, ANN) == [b"x" * 300_000 + b"\r\n"]
    assert not [name for name in tree(root) if "/tmp/" in name]


def test_a_removal_that_fails_says_so_and_removes_the_others(store, root, monkeypatch):
    for number in range(3):
        post(store, b"%d\r\n" % number, JOE)
    maildrop, entries = opened(store)
    fail(monkeypatch, "unlink", errno.EACCES, lambda path: path.endswith(entries[1].name))
    with pytest.raises(TemporaryFailure):
        finish(maildrop.remove(entries))
    monkeypatch.undo()
    maildrop.release()
    assert read_all(store) == [b"1\r\n"]


def test_a_removal_that_cannot_be_synced_says_so(store, monkeypatch):
    post(store, b"x\r\n", JOE)
    maildrop, entries = opened(store)
    fail(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(TemporaryFailure):
        finish(maildrop.remove(entries))


def _is_one_of(bad):
    return lambda path, *_, **__: any(map(str(path).endswith, bad))


def test_an_unreadable_message_costs_itself(joe, monkeypatch):
    store = started(joe.parents[1])
    for number in range(3):
        post(store, b"%d\r\n" % number, JOE)
    maildrop, entries = opened(store)
    maildrop.release()
    (joe / "new" / "9999999999.sizeless").write_bytes(b"x\n")
    bad = {entries[1].name, "new/9999999999.sizeless"}
    store = started(joe.parents[1])
    fail(monkeypatch, "open", errno.EACCES, _is_one_of(bad))
    maildrop, entries = opened(store)
    assert len(entries) == 3, "what cannot be counted cannot be listed"
    text = finish(maildrop.fetch(entries[0]))
    assert (finish(text.read()), text.following) == (b"0\r\n", [])
    with pytest.raises(MessageGone):
        finish(maildrop.fetch(entries[1]))
    assert read(maildrop, entries[2]) == b"2\r\n"
    maildrop.release()


def test_a_disk_that_fails_under_a_large_text_breaks_it_off(store, monkeypatch):
    post(store, b"x" * 1_000_000 + b"\r\n", JOE)
    maildrop, [entry] = opened(store)
    text = finish(maildrop.fetch(entry))
    fail(monkeypatch, "read", errno.EIO)
    finish(text.read())  # read ahead before
    with pytest.raises(MessageGone):
        finish(text.read())
    text.close()


def test_a_missing_maildrop_is_made_again(joe):
    store = started(joe.parents[1])
    post(store, b"lost\r\n", JOE)
    os.rename(joe, joe.with_name("gone"))
    post(store, b"x\r\n", JOE)
    assert read_all(store) == [b"x\r\n"]
    os.rename(joe.parent, joe.parent.with_name("gone.net"))
    assert read_all(store) == []
    post(store, b"y\r\n", JOE)
    assert read_all(store) == [b"y\r\n"]


def test_a_maildrop_that_goes_under_a_delivery_is_for_later(joe):
    store = started(joe.parents[1])
    recipient = Recipient(Address.parse(JOE), Account(JOE, JOE))
    delivery = finish(store.begin(Envelope("x", Client(), recipients=[recipient])))
    for _ in range(5):
        finish(delivery.write(b"x" * 100_000))
    finish(store.discard(JOE, keep=False))
    with pytest.raises(TemporaryFailure):
        finish(delivery.commit())
    assert read_all(store) == []


@pytest.mark.parametrize("what", ["a file", "below a file", "read-only"])
def test_a_store_that_cannot_be_used_does_not_start(root, monkeypatch, what):
    if what == "a file":
        root.write_bytes(b"")
    elif what == "below a file":
        root.write_bytes(b"")
        root = root / "x"
    else:
        monkeypatch.setattr(os, "access", lambda path, mode, **named: False)
    with pytest.raises(StartupError, match="the store"):
        started(root)


def test_a_real_disk_that_is_full(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode()}")
    try:
        store = started(disk / "store")
        post(store, b"before\r\n", JOE)
        for size in (2_000_000, 1_200_000):
            with pytest.raises(NoSpace):
                post(store, b"x" * size, JOE)
        assert not [name for name in tree(disk) if "/tmp/" in name]
        post(store, b"after\r\n", JOE)
        assert read_all(store) == [b"before\r\n", b"after\r\n"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_real_disk_that_turns_read_only(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode()}")
    try:
        store = started(disk / "store")
        post(store, b"before\r\n", JOE)
        maildrop, entries = opened(store)
        maildrop.release()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for size in (10, 700_000):
            with pytest.raises(TemporaryFailure):
                post(store, b"x" * size, JOE)
        assert read_all(store) == [b"before\r\n"]
        with pytest.raises(TemporaryFailure):
            finish(store.maildrop(JOE).remove(entries))
        with pytest.raises(StartupError, match="cannot be written to"):
            started(disk / "store")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert read_all(store) == [b"before\r\n"]
        post(store, b"after\r\n", JOE)
        assert read_all(store) == [b"before\r\n", b"after\r\n"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# -- leftovers -----------------------------------------------------------------------


def test_leftovers_of_a_crash_are_swept_and_nothing_else(joe):
    store = started(joe.parents[1])
    post(store, b"kept\r\n", JOE)
    recipient = Recipient(Address.parse(JOE), Account(JOE, JOE))
    delivery = finish(store.begin(Envelope("x", Client(), recipients=[recipient])))
    for _ in range(5):
        finish(delivery.write(b"x" * 100_000))
    [being_written] = (joe / "tmp").iterdir()
    (joe / "tmp" / "1700000000.M000001P1Q1R0a0b0c0d.mail-example-net").write_bytes(b"crashed")
    (joe / "tmp" / "1700000000.other.program").write_bytes(b"old")
    os.utime(joe / "tmp" / "1700000000.other.program", (1, 1))
    (joe / "tmp" / "1700000000.another.program").write_bytes(b"young")
    started(joe.parents[1])
    assert {path.name for path in (joe / "tmp").iterdir()} == {
        being_written.name,
        "1700000000.another.program",
    }
    finish(delivery.write(b"\r\n"))
    finish(delivery.commit())
    assert read_all(store) == [b"kept\r\n", b"x" * 500_000 + b"\r\n"]


def test_a_maildrop_that_is_there_anew_takes_the_first_delivery(joe):
    store = started(joe.parents[1])
    post(store, b"old\r\n", JOE)
    finish(started(joe.parents[1]).discard(JOE, keep=True))  # as the command does it
    post(store, b"new\r\n", JOE)
    assert read_all(store) == [b"new\r\n"]
    os.rename(joe, joe.with_name("gone"))
    post(store, b"newer\r\n", JOE)
    assert read_all(store) == [b"newer\r\n"]
