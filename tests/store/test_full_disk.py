"""Disks that are full, or that nothing can be written to: mail can be collected, and deleted."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import suppress

import pytest

from postoffice.model.errors import MaildropLocked, NoSpace, TemporaryFailure
from postoffice.store import vault
from postoffice.testing import finish
from tests.store.journaled import JOE, Served, folder_of, messages


def fill(place) -> None:
    """To the last octet, and the last name."""
    with open(place / "filling", "wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 65536):
            pass
    with suppress(OSError):
        for number in range(100_000):
            (place / f"f{number}").write_bytes(b"x")


@pytest.mark.parametrize("durability", ["journal", "files"])
def test_what_is_deleted_from_a_full_disk_goes(disk, durability):
    place = disk("-N", "600")
    served = Served(place / "store", durability=durability, undelete=3600.0)
    for token in ("one", "two", "three"):
        served.post(token)
    fill(place)
    with pytest.raises(NoSpace):
        served.post("large")
    assert served.listed() == ["one", "three", "two"]
    served.remove("one", "two")
    assert served.listed() == ["three"]
    assert len(messages(place / "store")) == 1
    served.stop()


def test_where_only_its_name_has_no_room_in_the_vault_it_goes_too(root, monkeypatch):
    served = Served(root, durability="files", undelete=3600.0)
    for token in ("one", "two"):
        served.post(token)
    real = os.rename

    def rename(source, target, **named):
        if "/.vault/" in target:
            raise OSError(errno.ENOSPC, "No space left on device", target)
        real(source, target, **named)

    monkeypatch.setattr(os, "rename", rename)
    served.remove("one")
    assert served.listed() == ["two"]
    served.stop()


def test_what_is_wrong_otherwise_with_a_vault_is_no_reason_to_let_mail_go(tmp_path, monkeypatch):
    def make(path, *, sync):
        raise OSError(errno.EIO, "Input/output error", path)

    monkeypatch.setattr(vault, "make", make)
    with pytest.raises(OSError, match="Input/output"):
        vault.ready(str(tmp_path / "vault"), sync=False)


@pytest.mark.parametrize("locked", [True, False], ids=["lock", "no lock"])
def test_mail_can_be_collected_where_nothing_can_be_written(disk, locked):
    place = disk()
    store = place / "store"
    served = Served(store, durability="files")
    served.post("one")
    served.listed()
    if not locked:
        (folder_of(store) / "postoffice.lock").unlink()
    remounted = subprocess.run(["mount", "-o", "remount,ro", str(place)], check=False)
    if remounted.returncode:
        pytest.skip("this disk cannot be made read-only")
    assert served.listed() == ["one"]
    first, second = served.store.maildrop(JOE), served.store.maildrop(JOE)
    listing = finish(first.open()).entries
    with pytest.raises(MaildropLocked):
        finish(second.open())
    assert finish(finish(first.fetch(listing[0])).read()).startswith(b"Subject: one\r\n")
    with pytest.raises(TemporaryFailure):
        finish(first.remove(listing))
    first.release()
    assert served.listed() == ["one"]
