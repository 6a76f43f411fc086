"""The Maildir store and what may lie, or go wrong, on a disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, Envelope, Recipient
from postoffice.model.errors import (
    MaildropLocked,
)
from postoffice.store import files, listing_cache, maildir
from postoffice.testing import ImmediateExecutor, finish
from tests import processes
from tests.store.on_disk import ANN, JOE, age, opened, place_of, post, read_all, started, tree

# -- as it is on disk -------------------------------------------------------------


def test_one_file_has_a_link_in_each_maildrop(store, root):
    post(store, b"hi\r\n", JOE, ANN)
    names = tree(root)
    assert len(names) == 2
    one, two = (os.stat(root / name) for name in names)
    assert one.st_ino == two.st_ino
    assert one.st_nlink == 2
    assert all(name.endswith(",S=4,W=4") for name in names)
    assert {name.split("/")[2] for name in names} == {"new"}


def test_nobody_else_may_look(store, root):
    umask = os.umask(0)
    try:
        post(store, b"x" * 400_000 + b"\r\n", JOE)
        read_all(store)
    finally:
        os.umask(umask)
    for path in root.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("size", [10, 400_000])
def test_it_is_synced_before_it_can_be_seen_and_seen_before_it_is_taken(
    store, root, monkeypatch, size
):
    post(store, b"makes the folders\r\n", JOE, ANN)
    done = []

    def watch(name):
        real = getattr(os, name)

        def watched(*args, **named):
            path = place_of(args[-1], named.get("dst_dir_fd"))
            done.append((name, str(Path(path).relative_to(root)).split("/")[1:3]))
            return real(*args, **named)

        monkeypatch.setattr(os, name, watched)

    watch("fsync")
    watch("link")
    post(store, b"x" * size + b"\r\n", JOE, ANN)
    steps = [(name, *where) for name, where in done]
    assert steps[0] == ("fsync", "joe", "tmp")
    assert steps[1:3] == [("link", "joe", "new"), ("link", "ann", "new")]
    assert sorted(steps[3:]) == [("fsync", "ann", "new"), ("fsync", "joe", "new")]


def test_a_given_up_delivery_leaves_no_litter(store, root):
    delivery = finish(
        store.begin(
            Envelope("x", Client(), recipients=[Recipient(Address.parse(JOE), Account(JOE, JOE))])
        )
    )
    for _ in range(10):
        finish(delivery.write(b"x" * 100_000))
    assert len(tree(root)) == 1
    delivery.abort()
    assert tree(root) == set()


def test_oldest_first_whatever_the_program(joe):
    (joe / "new" / "1700000002.M5P1.h").write_bytes(b"c\n")
    (joe / "new" / "1700000002.M40P1.h").write_bytes(b"d\n")
    (joe / "cur" / "1700000001.9.h:2,S").write_bytes(b"b\n")
    (joe / "new" / "strange").write_bytes(b"a\n")
    os.utime(joe / "new" / "strange", (1, 1))
    assert read_all(started(joe.parents[1])) == [b"a\r\n", b"b\r\n", b"c\r\n", b"d\r\n"]


def test_an_unchanged_maildrop_is_not_read_again(joe, monkeypatch):
    store = started(joe.parents[1])
    post(store, b"x\r\n", JOE)
    age(joe)
    read_all(store)
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", None)
        assert read_all(store) == [b"x\r\n"]


def test_a_fresh_or_a_changed_maildrop_is_read_again(joe):
    store = started(joe.parents[1])
    for number in range(5):
        post(store, b"%d\r\n" % number, JOE)
        assert len(read_all(store)) == number + 1
        if number % 2:
            age(joe)


def test_remembered_listings_are_bounded(joe, monkeypatch):
    monkeypatch.setattr(listing_cache.ListingCache, "LIMIT", 1000)  # octets: of one, and no more
    store = started(joe.parents[1])
    for name in ("a", "b", "c", "d"):
        post(store, b"x\r\n", f"{name}@example.net")
        post(store, b"x\r\n", f"{name}@example.net")
        age(joe.parent / name)
        opened(store, f"{name}@example.net")[0].release()
    assert len(store._listings._snapshots) == 1


# -- the lock ------------------------------------------------------------------------
HOLD = """
    import sys
    from postoffice.store import files
    lock = files.lock(sys.argv[1])
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(joe) -> subprocess.Popen:
    process = processes.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(joe)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=processes.environment(),
    )
    assert process.stdout.readline() == b"held\n"
    return process


def test_the_lock_holds_across_processes_and_dies_with_its_holder(joe):
    store = started(joe.parents[1])
    with holder(joe) as process:
        with pytest.raises(MaildropLocked):
            finish(store.maildrop(JOE).open())
        process.send_signal(signal.SIGKILL)
        process.wait()
        maildrop, _ = opened(store)
        maildrop.release()
        process.stdin.close()


def test_the_lock_is_of_the_maildrop_that_is_there_now(joe):
    lock = files.lock(str(joe))
    os.rename(joe, joe.with_name("aside"))
    other = files.lock(str(joe))
    os.close(lock)
    with pytest.raises(MaildropLocked):
        files.lock(str(joe))
    os.close(other)


def test_a_lost_client_frees_the_lock_when_its_mail_is_removed(joe):
    store = started(joe.parents[1])
    post(store, b"x\r\n", JOE)
    waiting = []

    class SlowWorkers(ImmediateExecutor):
        def run(self, function, *args):
            if function is maildir.remove:
                from twisted.internet.defer import Deferred

                waiting.append((Deferred(), function, args))
                return waiting[0][0]
            return super().run(function, *args)

    store._context = replace(store._context, executor=SlowWorkers())
    maildrop, entries = opened(store)
    from twisted.internet.defer import Deferred

    removing = Deferred.fromCoroutine(maildrop.remove(entries))
    removing.addErrback(lambda _: None)
    removing.cancel()
    maildrop.release()
    with pytest.raises(MaildropLocked):
        finish(store.maildrop(JOE).open())
    done, function, args = waiting[0]
    done.callback(function(*args))
    assert read_all(store) == []
