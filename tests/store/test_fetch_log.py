"""Who has collected what: remembered, and never more than was so."""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postoffice.model.listing import Entry
from postoffice.model.mail_policy import LAPSE
from postoffice.store import fetch_log
from postoffice.store.fetch_log import OWN, FetchRecord

A, B, C = (Entry(uidl, 1, f"new/{uidl}") for uidl in "abc")
NOW = 1_800_000_000.0


@pytest.fixture
def folder(tmp_path):
    for box in ("tmp", "new", "cur"):
        (tmp_path / box).mkdir()
    return str(tmp_path)


def add(folder, entries, device=OWN, now=NOW, living=(A, B, C)) -> FetchRecord:
    return fetch_log.add(folder, entries, device, now, lambda: living)


def test_nothing_is_known_of_a_maildrop_that_nobody_has_collected_from(folder):
    assert fetch_log.read(folder) == FetchRecord()
    assert fetch_log.read(f"{folder}/nowhere") == FetchRecord()


def test_the_first_time_counts(folder):
    add(folder, [A])
    add(folder, [A, B], now=NOW + 5)
    record = fetch_log.read(folder)
    assert record.collected("a") == NOW
    assert record.collected("b") == NOW + 5
    assert record.collected("c") is None


def test_each_device_is_remembered_by_itself(folder):
    add(folder, [A, B], "my phone")
    add(folder, [A], "Laptop ü=%", now=NOW + 9)
    record = fetch_log.read(folder)
    both = frozenset(("my phone", "Laptop ü=%"))
    assert record.times["a"] == {"my phone": NOW, "Laptop ü=%": NOW + 9}
    assert record.collected("a", both) == NOW + 9
    assert record.collected("b", both) is None
    assert record.collected("b") == NOW


def test_the_own_password_counts_as_long_as_somebody_collects_by_it(folder):
    phone = frozenset(("phone",))
    assert FetchRecord().every(frozenset(), NOW) == {OWN}
    assert FetchRecord().every(phone, NOW) == phone
    record = add(folder, [A])
    assert record.every(phone, NOW + LAPSE) == {"phone", OWN}
    assert record.every(phone, NOW + LAPSE + 1) == phone
    assert record.every(None, NOW) is None


def test_what_comes_back_was_not_collected_yet(folder):
    add(folder, [A, B])
    fetch_log.came_back(folder, ["a"], NOW + 10)
    assert fetch_log.read(folder).collected("a") is None
    assert fetch_log.read(folder).back == {"a": NOW + 10}
    add(folder, [A, B], now=NOW + 20)
    record = fetch_log.read(folder)
    assert (record.collected("a"), record.collected("b")) == (NOW + 20, NOW)


def test_lines_of_what_is_gone_go_when_they_are_many(folder, monkeypatch):
    monkeypatch.setattr(fetch_log, "SPARE", 3)
    many = [Entry(f"m{number}", 1, "") for number in range(5)]
    add(folder, many, "phone", living=many)
    fetch_log.came_back(folder, ["m1", "m2"], NOW + 1)
    record = add(folder, [A], now=NOW + 2, living=[A, many[1]])
    assert len(record.times) == 6
    kept = fetch_log.read(folder)
    assert kept.times == {"a": {OWN: NOW + 2}, "m1": {"phone": NOW}}
    assert kept.back == {"m1": NOW + 1}
    assert kept.seen == {"phone": NOW, OWN: NOW + 2}
    assert os.listdir(f"{folder}/tmp") == []


def test_the_file_is_ours_alone(folder):
    add(folder, [A])
    path = f"{folder}/{fetch_log.FILE}"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    os.rename(path, f"{folder}/elsewhere")
    os.symlink(f"{folder}/elsewhere", path)
    assert fetch_log.read(folder) == FetchRecord()
    with pytest.raises(OSError, match="symbolic links"):
        add(folder, [B])


def test_a_fifo_in_its_place_is_no_record(folder):
    os.mkfifo(f"{folder}/{fetch_log.FILE}")
    assert fetch_log.read(folder) == FetchRecord()


def test_a_line_behind_one_that_was_cut_is_read(folder):
    add(folder, [A])
    path = f"{folder}/{fetch_log.FILE}"
    os.truncate(path, os.path.getsize(path) - 3)
    add(folder, [B])
    assert fetch_log.read(folder).times == {"b": {OWN: NOW}}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_damaged_record_never_says_more_than_was_so(folder, data):
    """Cut, or with zeros or other octets in it: mail stays longer, and never goes early."""
    with open(f"{folder}/{fetch_log.FILE}", "wb"):
        pass
    add(folder, [A, B], "phone")
    fetch_log.came_back(folder, ["b"], NOW + 1)
    add(folder, [C], now=NOW + 2)
    path = f"{folder}/{fetch_log.FILE}"
    with open(path, "rb") as file:
        text = bytearray(file.read())
    start = data.draw(st.integers(0, len(text)))
    if data.draw(st.booleans()):
        del text[start:]
    else:
        piece = data.draw(st.binary(min_size=1, max_size=20) | st.just(bytes(512)))
        text[start : start + len(piece)] = piece
    with open(path, "wb") as file:
        file.write(text)
    record = fetch_log.read(folder)
    assert record.times.get("a", {}) in ({}, {"phone": NOW})
    assert record.times.get("b", {}) in ({}, {"phone": NOW})
    assert record.times.get("c", {}) in ({}, {OWN: NOW + 2})
    assert record.times.keys() <= {"a", "b", "c"}


def test_a_disk_without_room_leaves_what_was_known(folder, monkeypatch):
    add(folder, [A])

    def full(fd, data):
        raise OSError(28, "no space")

    monkeypatch.setattr(fetch_log, "write_all", full)
    with pytest.raises(OSError, match="no space"):
        add(folder, [B])
    with pytest.raises(OSError, match="no space"):
        fetch_log.rewrite(folder, FetchRecord(), ())
    assert fetch_log.read(folder).times == {"a": {OWN: NOW}}
    assert os.listdir(f"{folder}/tmp") == []
