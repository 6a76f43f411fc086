"""Large maildrops: how much is done, not how long it takes, and how much is kept."""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections import Counter
from contextlib import contextmanager

import pytest

from postoffice.model.listing import Entries, Entry, Listing
from postoffice.store.memory import MemoryMaildrop

LOGIN = b"USER joe@example.net\r\nPASS secret word\r\n"
MANY = 100_000


@contextmanager
def calls():
    """Counts all calls of functions, Python's and C's: the work, however fast it is done."""
    counted = Counter()

    def count(frame, event, what):
        if event == "call":
            counted[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            counted[what.__qualname__] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield counted
    finally:
        sys.setprofile(before)


def fill(folder, count: int) -> None:
    """Messages, as if they had come long ago."""
    for number in range(count):
        name = f"{1_700_000_000 + number}.M000000P1Q{number}R00000000.host,S=3,W=3"
        (folder / "new" / name).write_bytes(b"x\r\n")
    for box in ("new", "cur"):
        os.utime(folder / box, (1_700_000_000 + count,) * 2)


@pytest.fixture
def office(office_on_disk):
    office_on_disk.post(b"first\r\n")
    return office_on_disk


def logged_in(office):
    client = office.client("pop3")
    assert b" messages (" in client.say(LOGIN)
    return client


def test_no_message_is_opened_before_it_is_asked_for(office, monkeypatch):
    fill(office.folder, 500)
    really, opened = os.open, []

    def note(path, *args, **more):
        opened.append(os.fspath(path))
        return really(path, *args, **more)

    monkeypatch.setattr(os, "open", note)
    client = logged_in(office)
    assert client.say(b"STAT\r\n").startswith(b"+OK 501 ")
    assert client.say(b"LIST\r\n").count(b"\r\n") == 503
    assert client.say(b"UIDL\r\n").count(b"\r\n") == 503
    client.say(b"DELE 1\r\nRSET\r\nDELE 2\r\n")
    assert not [path for path in opened if "/new/" in path or "/cur/" in path]
    client.say(b"RETR 1\r\n")
    assert [path for path in opened if "/new/" in path]
    client.leave()


def test_the_next_login_is_no_more_work_for_a_thousand_messages_than_for_ten(office, monkeypatch):
    work = []
    for more in (10, 1000):
        fill(office.folder, more)
        logged_in(office).leave()  # which reads the folder
        with monkeypatch.context() as patch, calls() as counted:
            patch.setattr(os, "scandir", None)
            patch.setattr(os, "listdir", None)
            client = logged_in(office)
            assert client.say(b"STAT\r\n").startswith(b"+OK %d " % (more + 1))
            client.say(b"LIST 3\r\nUIDL 3\r\nQUIT\r\n")
            client.leave()
        del counted["setprofile"]
        work.append(counted)
    assert work[0] == work[1]


@pytest.fixture(scope="module")
def many() -> Entries:
    return Entries(Entry(f"uidl-of-some-length-{n:020d}", n) for n in range(MANY))


@pytest.fixture
def large_office(memory_office, monkeypatch, many):
    """An office where joe has many messages."""

    async def opened(maildrop, login_delay):
        return Listing(many)

    monkeypatch.setattr(MemoryMaildrop, "open", opened)
    return memory_office


@pytest.mark.parametrize("command", [b"LIST", b"UIDL"])
def test_long_lists_wait_for_the_client_and_take_no_room(large_office, command):
    client = logged_in(large_office)
    tracemalloc.start()
    client.connection.dataReceived(command + b"\r\n")
    octets = lines = 0
    heard = b""
    while b"\r\n.\r\n" not in heard:
        piece = client.hear()
        assert len(piece) < 300_000
        octets += len(piece)
        lines += piece.count(b"\n")
        heard = heard[-5:] + piece
        client.connection.resumeProducing()
        large_office.clock.advance(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lines == MANY + 2
    assert octets > 10 * peak or peak < 1_500_000
    client.leave()


def test_marks_are_made_and_taken_back_at_once(large_office):
    client = logged_in(large_office)
    client.say(b"DELE 1\r\n")
    work = []
    for number in (2, MANY):
        with calls() as counted:
            assert client.say(b"DELE %d\r\n" % number).startswith(b"+OK")
        work.append(counted)
    assert work[0] == work[1]
    for first in range(3, 10_003, 1000):
        client.say(b"".join(b"DELE %d\r\n" % (first + more) for more in range(1000)))
        large_office.clock.advance(0)
    client.hear()
    assert client.say(b"STAT\r\n").startswith(b"+OK %d " % (MANY - 10_003))
    with calls() as counted:
        assert b"+OK %d messages" % MANY in client.say(b"RSET\r\n")
    assert counted.total() < 200
    client.leave()


def test_a_session_with_marks_keeps_an_octet_for_each_message(many):
    tracemalloc.start()
    listing = Listing(many)
    for number in range(1, MANY, 10):
        listing.delete(number)
        listing.collect(number + 1)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 1.1 * MANY
    assert len(listing.collected()) == len(listing.marked()) == MANY // 10


def test_quit_removes_many_messages_without_a_look_at_the_others(office, monkeypatch):
    fill(office.folder, 400)
    client = logged_in(office)
    client.say(b"".join(b"DELE %d\r\n" % number for number in range(1, 301)))
    office.clock.advance(0)
    with monkeypatch.context() as patch, calls() as counted:
        patch.setattr(os, "scandir", None)
        assert b"+OK 300 deleted" in client.say(b"QUIT\r\n")
    assert counted["unlink"] + counted["rename"] == 300
    assert len(os.listdir(office.folder / "new")) == 101


@pytest.mark.parametrize("order", ["forwards", "backwards", "in steps"])
def test_messages_are_found_without_a_search(office, order):
    fill(office.folder, 300)
    numbers = {
        "forwards": range(1, 301),
        "backwards": range(300, 0, -1),
        "in steps": [(7 * n) % 300 + 1 for n in range(300)],
    }[order]
    client = logged_in(office)
    with calls() as counted:
        for number in numbers:
            assert client.say(b"RETR %d\r\n" % number).startswith(b"+OK ")
    assert counted["Entries._entry"] <= 2 * 300
    client.leave()
