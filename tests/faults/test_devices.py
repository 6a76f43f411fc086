"""A device that fails, and what the real daemon makes of it; a device that lies must be found."""

from __future__ import annotations

import os

import pytest
from devices import play
from faults.device import FAILS, FULL, LIES, TEXTS, WELL, device, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

TEXT = b"Subject: a letter\r\n" * 1000


@pytest.fixture
def disk(tmp_path):
    with device(tmp_path, 1) as disk:
        yield disk


def write(disk, name, text=TEXT):
    with open(disk.root / name, "wb", buffering=0) as file:
        file.write(text)
        os.fsync(file.fileno())


def test_what_was_synced_outlives_a_power_cut(disk):
    write(disk, "synced")
    disk.hold()
    disk.cut_power()
    assert (disk.root / "synced").read_bytes() == TEXT


def test_what_is_written_behind_a_power_cut_is_lost(disk):
    write(disk, "synced")
    disk.hold()
    (disk.root / "late").write_bytes(TEXT)
    disk.cut_power()
    assert not (disk.root / "late").exists()


@pytest.mark.parametrize("how", [FAILS, FULL])
def test_an_error_of_the_device_is_told_once(disk, how):
    """It is why a sync that failed must never be tried again."""
    disk.be(how, only=TEXTS)
    with open(disk.root / "lost", "wb", buffering=0) as file:
        file.write(TEXT)
        with pytest.raises(OSError, match=r"Input/output|No space"):
            os.fsync(file.fileno())
        os.fsync(file.fileno())
    assert disk.be(WELL) == 1
    assert (disk.root / "lost").read_bytes() == TEXT  # so says the system's memory
    disk.hold()
    disk.cut_power()
    path = disk.root / "lost"
    assert not path.exists() or path.read_bytes() != TEXT


def test_a_device_that_lies_loses_what_was_synced(disk):
    disk.be(LIES)
    write(disk, "lost")
    disk.hold()
    disk.cut_power()
    path = disk.root / "lost"
    assert not path.exists() or path.read_bytes() != TEXT


@pytest.mark.parametrize("durability", ["journal", "files"])
def test_nothing_is_lost_on_a_device_that_tells(durability):
    outcome = play("some texts fail", durability, seed=1, rounds=1)
    assert outcome.problems == []
    assert outcome.ledger.taken
