"""A maildrop that another process holds: two offices over one store, which talk by sockets."""

from __future__ import annotations

import os
import socket

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock

from postoffice.server.leases import ASK_AGAIN
from postoffice.server.neighbour_processes import Neighbours
from postoffice.server.pop3 import GIVES_WAY
from postoffice.store.maildir_store import MaildirStore
from postoffice.testing import ImmediateExecutor, finish
from tests.conftest import MemoryOffice, turn_until

LOGIN = b"USER joe@example.net\r\nPASS secret word\r\n"


@pytest.fixture
def folder(tmp_path):
    """Where the sockets are: longer than the name of a socket may be."""
    return str(tmp_path / ("long" * 30) / "neighbours")


@pytest.fixture
def offices(secrets, tmp_path, folder):
    """As many as are asked for, each as if in a process of its own."""
    made = []

    def offices(count: int, **serving) -> list[MemoryOffice]:
        for _ in range(count):
            store = MaildirStore(
                str(tmp_path / "store"),
                ImmediateExecutor(),
                hostname="mail.example.net",
                clock=Clock(),
                durability="files",
            )
            finish(store.start())
            made.append(MemoryOffice(secrets, store, Neighbours(folder, reactor)))
            made[-1].mailbox_context.leases.start()
            made[-1].serve(**serving)
        for number in range(3):
            made[0].post(b"Subject: %d\r\n\r\nx\r\n" % number)
        return made

    yield offices
    for office in made:
        office.mailbox_context.leases.close()
        office.mailbox_context.leases.stop()
        finish(office.store.stop())
    reactor.iterate(0)


class Client:
    def __init__(self, office):
        self._client = office.client("pop3")
        self.heard = b""

    def say(self, octets: bytes) -> None:
        self.heard += self._client.say(octets)

    def hears(self, octets: bytes) -> bool:
        self.heard += self._client.hear()
        return octets in self.heard

    def leave(self) -> None:
        self._client.leave()


def client(office, octets: bytes = LOGIN) -> Client:
    client = Client(office)
    client.say(octets)
    return client


@pytest.mark.parametrize("ends", [b"QUIT\r\n", None])
def test_a_waiting_login_is_told_when_a_session_elsewhere_ends(offices, ends):
    here, there, third = offices(3, in_use="wait", wait=30)
    first = client(there)
    seconds = [client(here), client(third)]
    # that it is waited for is told before the end is
    turn_until(lambda: len(there.mailbox_context.leases._wanted.get("joe@example.net", ())) == 2)
    if ends:
        first.say(b"DELE 1\r\n" + ends)
    else:
        first.leave()
    turn_until(lambda: any(second.hears(b"octets)") for second in seconds))
    left = b"+OK 2 messages" if ends else b"+OK 3 messages"
    assert sum(second.hears(left) for second in seconds) == 1


def test_a_silent_session_elsewhere_is_taken_over(offices):
    here, there = offices(2, in_use="take-over")
    first = client(there, LOGIN + b"DELE 1\r\n")
    there.clock.advance(GIVES_WAY - 1)
    second = client(here)
    turn_until(lambda: there.mailbox_context.leases._wanted)
    assert not second.hears(b"octets)")
    there.clock.advance(1)
    here.clock.advance(ASK_AGAIN)
    turn_until(lambda: second.hears(b"+OK 3 messages"))
    assert first.hears(b"-ERR [IN-USE]")
    first.say(b"QUIT\r\n")
    first.leave()
    assert finish(here.store.count("joe@example.net"))[0] == 3


def test_a_session_elsewhere_that_does_not_answer_stays(offices):
    here, there = offices(2, in_use="take-over")
    there.mailbox_context.leases.stop()
    first = client(there, LOGIN + b"DELE 1\r\n")
    second = client(here)
    here.clock.pump([ASK_AGAIN] * 20)
    assert second.hears(b"-ERR [IN-USE]")
    first.say(b"QUIT\r\n")
    assert first.hears(b"+OK 1 deleted")


def test_what_a_dead_neighbour_leaves_behind_is_removed(offices, folder):
    here, there = offices(2, in_use="wait", wait=30)
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    held = os.open(folder, os.O_RDONLY)
    dead.bind(f"/proc/self/fd/{held}/1.dead")
    os.close(held)
    dead.close()
    first = client(there)
    client(here)
    assert "1.dead" not in os.listdir(folder)
    first.leave()


def test_an_office_that_stops_leaves_no_socket(offices, folder):
    [office] = offices(1)
    assert len(os.listdir(folder)) == 1
    office.mailbox_context.leases.stop()
    assert os.listdir(folder) == []


def test_without_a_folder_there_are_no_neighbours(tmp_path, logged):
    (tmp_path / "file").write_text("")
    neighbours = Neighbours(str(tmp_path / "file" / "folder"), reactor)
    neighbours.start(lambda *words: None)
    neighbours.say("wait", "joe@example.net")
    neighbours.stop()
    assert any("other processes cannot ask" in line for line in logged)
