"""Where folders' times are whole seconds, or every other: mail is seen at once."""

from __future__ import annotations

import os
import time

import pytest
from twisted.internet.task import Clock

from postoffice.store import listing_cache, maildir
from postoffice.store.maildir_store import MaildirStore
from postoffice.testing import ImmediateExecutor, finish
from postoffice.util import file_times
from tests.store.journaled import JOE, Served, folder_of

SECOND = 10**9
NOW = 1_900_000_000 * SECOND


class Coarse:
    """A store on such a file system, at a time that a test says."""

    def __init__(self, root, patch, step: int) -> None:
        self.now, self.step = NOW, step
        patch.setattr(file_times.time, "time_ns", lambda: self.now)
        self.served = Served(root, durability="files")
        self.folder = folder_of(root)
        self.served.listed()
        self.stamped()

    def stamped(self) -> None:
        """Folders have the times that they would have there."""
        coarse = self.now // self.step * self.step
        for box in ("new", "cur"):
            os.utime(self.folder / box, ns=(coarse, coarse))

    def brought(self, token: str) -> None:
        """By another program."""
        (self.folder / "new" / token).write_bytes(b"Subject: %b\r\n\r\n" % token.encode())
        self.stamped()

    def listed(self) -> list[str]:
        maildrop = self.served.store.maildrop(JOE)
        try:
            return [entry.uidl for entry in finish(maildrop.open()).entries]
        finally:
            maildrop.release()


@pytest.mark.parametrize("step", [SECOND, 2 * SECOND], ids=["whole seconds", "every other"])
@pytest.mark.parametrize("after", [0, SECOND // 50, SECOND // 3, SECOND - 1])
def test_what_comes_in_the_second_of_a_login_is_seen(root, monkeypatch, step, after):
    coarse = Coarse(root, monkeypatch, step)
    coarse.brought("one")
    coarse.now += after
    assert coarse.listed() == ["one"]
    coarse.brought("two")
    assert coarse.listed() == ["one", "two"]
    coarse.now += 10 * SECOND
    assert coarse.listed() == ["one", "two"]


def test_what_goes_in_that_second_is_seen(root, monkeypatch):
    coarse = Coarse(root, monkeypatch, SECOND)
    coarse.brought("one")
    coarse.brought("two")
    coarse.now += SECOND // 2
    assert coarse.listed() == ["one", "two"]
    (coarse.folder / "new" / "one").unlink()
    coarse.stamped()
    assert coarse.listed() == ["two"]


def test_there_too_an_old_maildrop_is_not_read_again(root, monkeypatch):
    coarse = Coarse(root, monkeypatch, 2 * SECOND)
    coarse.brought("one")
    coarse.now += 2 * SECOND
    assert coarse.listed() == ["one"]
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", None)
        assert coarse.listed() == ["one"]


def test_own_mail_is_seen_however_wrong_the_folders_times_are(root, monkeypatch):
    served = Served(root, durability="files")
    served.post("one")
    for token, seen in (("two", 2), ("three", 3)):
        for box in ("new", "cur"):  # the clock of a server of files that is late, or stands still
            os.utime(folder_of(root) / box, (1_700_000_000, 1_700_000_000))
        assert len(served.listed()) == seen - 1
        served.post(token)
        for box in ("new", "cur"):
            os.utime(folder_of(root) / box, (1_700_000_000, 1_700_000_000))
        assert len(served.listed()) == seen
    served.remove("one")
    for box in ("new", "cur"):
        os.utime(folder_of(root) / box, (1_700_000_000, 1_700_000_000))
    assert served.listed() == ["three", "two"]


def snapshot(stamp=(1, 2)):
    return listing_cache.Snapshot(maildir.Entries(), stamp)


def test_what_was_listed_while_something_came_is_not_believed(monkeypatch):
    monkeypatch.setattr(listing_cache.ListingCache, "CHANGES", 2)
    listings = listing_cache.ListingCache()
    since = listings.moment
    listings.changed("a")
    listings.remember("a", snapshot(), since)
    assert listings.get("a").stamp is None
    listings.remember("a", snapshot(), listings.moment)
    assert listings.get("a").stamp == (1, 2)
    since = listings.moment
    for other in ("a", "b", "c", "d"):  # more than are known: nobody can say
        listings.changed(other)
    listings.remember("a", snapshot(), since)
    assert listings.get("a").stamp is None


# -- for real ------------------------------------------------------------------------------


def test_it_is_so_on_ext4_with_small_inodes(disk, monkeypatch):
    small_inodes = disk("-I", "128")
    now = time.time_ns
    monkeypatch.setattr(file_times.time, "time_ns", lambda: now() + SECOND // 20)
    store = MaildirStore(
        str(small_inodes / "store"),
        ImmediateExecutor(),
        hostname="mail.example.net",
        clock=Clock(),
        durability="files",
    )
    finish(store.start())
    folder = folder_of(small_inodes / "store")
    maildrop = store.maildrop(JOE)
    for number in range(60):
        finish(maildrop.open())
        maildrop.release()
        (folder / "new" / f"m{number}").write_bytes(b"x\r\n")
        assert len(finish(maildrop.open()).entries) == number + 1
        maildrop.release()
    assert not (folder / "new").stat().st_mtime_ns % SECOND, "its times are coarse"
    finish(store.stop())
