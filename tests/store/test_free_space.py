"""A floor of free space: below it no mail comes in, and what is there can be had and deleted."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from postoffice.model.address import Account, Quota
from postoffice.model.errors import NoSpace
from postoffice.store.quota import admission
from postoffice.store.quota.admission import FreeSpace
from postoffice.testing import finish
from tests.store.journaled import JOE, Served, envelope

LEAST = 1 << 20


@pytest.fixture
def disk(monkeypatch):
    disk = SimpleNamespace(f_bavail=1000, f_frsize=4096, f_blocks=2000)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    return disk


@pytest.mark.parametrize("durability", ["journal", "files"])
@pytest.mark.usefixtures("machine")
def test_below_it_no_mail_comes_in_and_what_is_there_can_go(root, disk, durability):
    served = Served(root, durability=durability, free_space=LEAST, undelete=3600.0)
    for token in ("one", "two"):
        served.post(token)
    disk.f_bavail = LEAST // 4096 - 1
    served.clock.advance(FreeSpace.SECOND)
    with pytest.raises(NoSpace, match=r"fewer than store\.free_space"):
        finish(served.store.begin(envelope(JOE)))
    for quota in (Quota(), Quota(1000, 0, "make-room")):
        with pytest.raises(NoSpace):
            finish(served.store.admit(Account(JOE, JOE, quota=quota), 10))
    served.remove("one")
    assert served.listed() == ["two"]
    disk.f_bavail = LEAST // 4096
    served.clock.advance(FreeSpace.SECOND)
    served.post("three")
    assert served.listed() == ["three", "two"]
    served.stop()


def test_a_large_text_is_refused_before_it_comes(root, disk):
    disk.f_bavail = 0
    served = Served(root, durability="files", free_space=LEAST)
    with pytest.raises(NoSpace):
        finish(served.store.begin(envelope(JOE)))
    assert NoSpace.reply.code == 452
    served.stop()


def test_the_disk_is_asked_once_in_a_second(root, disk, monkeypatch):
    served = Served(root, durability="files", free_space=LEAST)
    served.post("one")
    monkeypatch.setattr(os, "statvfs", None)
    served.post("two")
    served.stop()


@pytest.mark.parametrize("blocks", [0, OSError(38, "Function not implemented")])
def test_a_disk_that_does_not_say_is_used(root, disk, monkeypatch, blocks):
    def fail(path):
        raise blocks

    disk.f_bavail = disk.f_blocks = 0
    if blocks:
        monkeypatch.setattr(os, "statvfs", fail)
    assert admission.free(str(root)) > 1 << 60
    served = Served(root, durability="files", free_space=LEAST)
    served.post("one")
    served.stop()


def test_without_a_floor_nobody_asks(root, disk, monkeypatch):
    monkeypatch.setattr(os, "statvfs", None)
    served = Served(root, durability="files")
    served.post("one")
    served.stop()
