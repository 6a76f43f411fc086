"""The real daemon sends what waits, whatever became of the files that it needs."""

from __future__ import annotations

import os
from random import Random

import pytest
from faults.daemon import Daemon, furnish
from faults.departures import Departures
from faults.finding import found
from faults.ledger import Ledger
from faults.peer import Peer
from faults.settling import OUTBOUND, drain

from postoffice.store.queue_files import ASIDE, MESSAGES
from tests import processes

TOKENS = [f"t{number}.300" for number in range(3)]
FULL = "  queue: {messages: 2, account_share: 100}\n"


class Always(Random):
    """The peer takes whatever it gets."""

    def random(self):
        return 1.0


@pytest.fixture
def peer():
    with Peer(Always()).running() as peer:
        yield peer


@pytest.fixture
def office(tmp_path, peer):
    """Starts daemons in one folder; what is submitted to the first waits there."""
    running = []

    def start(more=""):
        if not running:
            furnish(tmp_path, "files", ["sam", "ann"], OUTBOUND.format(port=peer.port) + more)
        running.append(Daemon(tmp_path, popen=processes.Popen))
        return running[-1].open()

    yield start
    for daemon in running:
        daemon.kill()


def late(token: str) -> str:
    return f"later-{token}_0@there0.example"


def submit(daemon, peer, *tokens: str, here=(), by="sam") -> list[bytes]:
    departures, client = (
        Departures(Ledger(atomic=False), peer, atomic=False),
        daemon.submission(by),
    )
    said = [client.submit(departures, token, here, [late(token)])[-1] for token in tokens]
    client.close()
    return said


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def point_nowhere(path):
    path.unlink()
    path.symlink_to("/nowhere")


@pytest.mark.parametrize(("damage", "schedule"), [(cut, True), (point_nowhere, False)])
def test_a_message_that_cannot_be_read_is_set_aside_and_others_are_sent(
    office, peer, tmp_path, damage, schedule
):
    daemon = office()
    submit(daemon, peer, *TOKENS)
    daemon.stop()
    store = tmp_path / "state" / "maildrops"
    damaged = sorted((store / MESSAGES / "new").iterdir())[1]
    damage(damaged)
    if not schedule:
        (tmp_path / "state" / "queue.db").unlink()
    daemon = office()
    assert drain(tmp_path) == []
    assert sorted(peer.arrived) == [late(TOKENS[0]), late(TOKENS[2])]
    assert all(len(arrived) == 1 for arrived in peer.arrived.values())
    assert damaged.name in os.listdir(store / ASIDE)
    daemon.stop()
    assert daemon.said(rf"{damaged.name[:20]}.* set aside")
    assert daemon.complaints() == []


def test_beyond_the_limit_of_the_queue_mail_is_refused_whole_for_now(office, peer, tmp_path):
    daemon = office(FULL)
    said = submit(daemon, peer, *TOKENS[:2], here=["ann"])
    said += submit(daemon, peer, TOKENS[2], here=["ann"], by="ann")  # beyond the share of nobody
    assert [one[:3] for one in said] == [b"250", b"250", b"452"]
    assert len(found(daemon, ["ann"])["ann"]) == 2
    assert drain(tmp_path) == []
    assert submit(daemon, peer, TOKENS[2], here=["ann"])[0].startswith(b"250")
    assert drain(tmp_path) == []
    assert sorted(peer.arrived) == [late(token) for token in TOKENS]
    daemon.stop()
    assert daemon.complaints() == []
