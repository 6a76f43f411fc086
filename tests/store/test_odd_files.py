"""Files in a maildrop that other programs made, moved or changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postoffice.model.errors import (
    MessageGone,
    TemporaryFailure,
)
from postoffice.store.text import Normalizer
from postoffice.testing import cut, finish
from tests.store.on_disk import JOE, opened, post, read, read_all, read_out, started


@pytest.mark.parametrize(
    ("octets", "sent"),
    [
        (b"", b""),
        (b"A: b\n\nx\n", b"A: b\r\n\r\nx\r\n"),
        (b"A: b\n\nno end", b"A: b\r\n\r\nno end\r\n"),
        (b"A: b\r\n\r\nmixed\nends\r\n", b"A: b\r\n\r\nmixed\r\nends\r\n"),
        (b"\n", b"\r\n"),
        (b"lone\rcr\n", b"lone\rcr\r\n"),
        (b"cr at the end\r", b"cr at the end\r\r\n"),
        (b".\n..\n", b".\r\n..\r\n"),
        (b"x" * 300_000 + b"\n" + b"y\n" * 100_000, b"x" * 300_000 + b"\r\n" + b"y\r\n" * 100_000),
    ],
)
@pytest.mark.parametrize(
    "name", ["1700000000.x.h", "1700000000.x.h:2,S", "odd", "1.x,S=7777,W=7777"]
)
def test_files_of_others_are_sent_with_crlf(joe, octets, sent, name):
    (joe / ("cur" if ":" in name else "new") / name).write_bytes(octets)
    assert read_all(started(joe.parents[1])) == [sent]


@pytest.mark.parametrize(
    "name",
    [f"1.x,S={s},W={w}" for s in (0, 8, 9, 99) for w in (0, 8, 9, 11, 99)]
    + ["1.x,S=8", "1.x,W=8", "1.x,S=,W="],
)
def test_a_name_that_lies_costs_that_entry_at_most(joe, name):
    store = started(joe.parents[1])
    (joe / "new" / name).write_bytes(b"A: b\n\nx\n")  # 8 octets, 11 on the wire
    (joe / "new" / "2.good").write_bytes(b"good\n")
    for _ in range(2):  # what is found out is known at the next login
        maildrop, entries = opened(store)
        assert len(entries) == 2
        failed = 0
        for entry in entries:
            try:
                assert len(read(maildrop, entry)) == entry.size
            except MessageGone:
                failed += 1
                assert entry.uidl == "1.x"
        maildrop.release()
    assert failed == 0


def test_a_message_that_lies_there_twice_is_listed_once(joe):
    (joe / "new" / "1.x").write_bytes(b"new\n")
    (joe / "cur" / "1.x:2,S").write_bytes(b"cur\n")
    assert read_all(started(joe.parents[1])) == [b"cur\r\n"]


def test_what_moves_while_it_is_listed_is_not_missed(joe, monkeypatch):
    (joe / "new" / "1.x").write_bytes(b"x\n")
    scandir = os.scandir

    def moving(path):
        found = list(scandir(path))
        if os.path.exists(joe / "new" / "1.x"):
            os.rename(joe / "new" / "1.x", joe / "cur" / "1.x:2,S")
        return _Items(found)

    class _Items(list):
        def __enter__(self):
            return iter(self)

        def __exit__(self, *why):
            pass

    store = started(joe.parents[1])
    monkeypatch.setattr(os, "scandir", moving)
    assert read_all(store) == [b"x\r\n"]


@pytest.mark.parametrize("box", ["new", "cur", "tmp"])
def test_a_missing_folder_is_an_empty_one_and_made_again(joe, box):
    store = started(joe.parents[1])
    post(store, b"one\r\n", JOE)
    os.rename(joe / box, joe / "away")
    there = [] if box == "new" else [b"one\r\n"]
    assert read_all(store) == there
    if box != "cur":
        with pytest.raises(TemporaryFailure):
            post(store, b"two\r\n", JOE)
    post(store, b"two\r\n", JOE)
    assert read_all(store) == [*there, b"two\r\n"]


def test_a_text_that_changes_while_it_is_read_breaks_off(joe):
    store = started(joe.parents[1])
    post(store, b"x" * 1_000_000 + b"\r\n", JOE)
    maildrop, [entry] = opened(store)
    for change in (500_000, 1_500_000):
        text = finish(maildrop.fetch(entry))
        os.truncate(joe / entry.name, change)
        with pytest.raises(MessageGone):
            read_out(text)
        text.close()
        os.truncate(joe / entry.name, entry.size - 2)
        with open(joe / entry.name, "ab") as file:
            file.write(b"\r\n")
    maildrop.release()


OCTETS = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b".", b""])).map(b"".join)


@given(OCTETS, st.lists(st.integers(0, 100)))
def test_line_ends_are_made_the_same_in_pieces_as_whole(octets, places):
    def sent(parts):
        normalizer = Normalizer()
        text = b"".join(map(normalizer.feed, parts)) + normalizer.end()
        assert normalizer.size == len(text)
        return text

    text = sent([octets])
    assert text == sent(cut(octets, places))
    assert text.count(b"\n") == text.count(b"\r\n")
    assert not text or text.endswith(b"\r\n")
    assert text.replace(b"\r\n", b"\n").removesuffix(b"\n") == octets.replace(
        b"\r\n", b"\n"
    ).removesuffix(b"\n")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(OCTETS, st.integers(0, 30), st.integers(0, 30))
def test_any_file_under_any_name_is_sent_in_the_octets_that_were_listed(joe, octets, s, w):
    for old in (joe / "new").iterdir():
        old.unlink()
    (joe / "new" / f"1.x,S={s},W={w}").write_bytes(octets)
    store = started(joe.parents[1])
    maildrop, [entry] = opened(store)
    try:
        assert len(read(maildrop, entry)) == entry.size
    except MessageGone:
        maildrop.release()
        maildrop, [entry] = opened(store)
        assert len(read(maildrop, entry)) == entry.size
    maildrop.release()


def test_what_is_no_plain_file_is_not_listed(joe):
    store = started(joe.parents[1])
    secret = joe.parents[2] / "secret"
    secret.write_bytes(b"secret\n")
    (joe / "new" / "1.folder").mkdir()
    os.mkfifo(joe / "new" / "2.fifo")
    (joe / "new" / "3.link").symlink_to(secret)
    (joe / "new" / "4.dangling").symlink_to("nowhere")
    (joe / "new" / ".hidden").write_bytes(b"x\n")
    (joe / "new" / "5.good").write_bytes(b"good\n")
    assert read_all(store) == [b"good\r\n"]


@pytest.mark.parametrize("what", ["link", "fifo", "folder"])
def test_what_becomes_something_else_under_a_session_is_not_read(joe, what):
    store = started(joe.parents[1])
    path = joe / "new" / "1.x"
    path.write_bytes(b"x\n")
    maildrop, [entry] = opened(store)
    path.unlink()
    if what == "link":
        path.symlink_to("/etc/passwd")
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(MessageGone):
        finish(maildrop.fetch(entry))
    maildrop.release()


def test_odd_names_have_uidls_that_stay(joe):
    names = [b"1.\xff\xfe", b"2. with spaces", "3.ünï".encode(), b"4." + b"x" * 200, b"\n\r5"]
    for name in names:
        Path(os.fsdecode(bytes(joe / "new") + b"/" + name)).write_bytes(b"x\n")
    store = started(joe.parents[1])
    maildrop, entries = opened(store)
    assert len({entry.uidl for entry in entries}) == len(names)
    assert all(read(maildrop, entry) == b"x\r\n" for entry in entries)
    maildrop.release()
    for name in names:
        place = bytes(joe / "new") + b"/" + name
        os.rename(place, bytes(joe / "cur") + b"/" + name + b":2,S")
    maildrop, again = opened(store)
    assert [entry.uidl for entry in again] == [entry.uidl for entry in entries]
    finish(maildrop.remove(again))
    maildrop.release()
    assert read_all(store) == []


def test_a_message_that_another_program_renames_is_found_again(joe):
    store = started(joe.parents[1])
    for number in range(3):
        post(store, b"%d\r\n" % number, JOE)
    maildrop, entries = opened(store)
    for path in list((joe / "new").iterdir()):
        path.rename(joe / "cur" / f"{path.name}:2,S")
    assert [read(maildrop, entry) for entry in reversed(entries)] == [b"2\r\n", b"1\r\n", b"0\r\n"]
    finish(maildrop.remove(entries[:2]))
    maildrop.release()
    assert read_all(store) == [b"2\r\n"]


def test_a_message_that_vanishes_costs_itself(joe):
    store = started(joe.parents[1])
    for number in range(3):
        post(store, b"%d\r\n" % number, JOE)
    maildrop, entries = opened(store)
    (joe / entries[1].name).unlink()
    assert read(maildrop, entries[0]) == b"0\r\n"
    with pytest.raises(MessageGone):
        finish(maildrop.fetch(entries[1]))
    assert read(maildrop, entries[2]) == b"2\r\n"
    finish(maildrop.remove(entries))
    maildrop.release()
