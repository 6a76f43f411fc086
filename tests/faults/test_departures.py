"""What the campaign with submissions must find."""

from __future__ import annotations

from random import Random

import pytest
from faults.departures import Departures, recipients
from faults.ledger import Ledger, text_of
from faults.peer import Arrival, Peer

TOKEN = "m1.s0.1.300"
FINE, NEVER = f"accepted-{TOKEN}_0@there0.example", f"refused-{TOKEN}_1@there1.example"
LETTER = f"Final-Recipient: rfc822; {NEVER}\r\nAction: failed\r\n".encode()
COPY = Arrival(0, cut=False, id="i1")


@pytest.fixture
def departures():
    """One submission: it was sent, it is here, and its sender was told who refused it."""
    peer = Peer(Random(1))
    departures = Departures(Ledger(atomic=True), peer, atomic=True)
    departures.submitting(TOKEN, ["ann"], [FINE, NEVER])
    peer.asked = {TOKEN, FINE, NEVER}
    peer.arrived[FINE].append(COPY)
    yield departures
    peer.server_close()


def test_what_was_taken_is_here_and_there_and_told_once(departures):
    departures.submitted(TOKEN)
    assert departures.missing([]) == [NEVER]
    assert departures.missing([LETTER]) == []
    assert departures.check([LETTER]) == []
    assert (departures.taken, departures.arrived, departures.told) == (1, 1, 1)


def test_what_was_not_taken_may_be_nowhere(departures):
    departures.peer.asked.clear()
    assert departures.check([]) == []


def test_what_was_not_taken_is_not_there_alone(departures):
    assert departures.check([LETTER]) == [f"{TOKEN} was sent, and is not here"]


def test_what_was_not_taken_is_not_here_alone(departures):
    departures.ledger.posted(TOKEN, "ann")
    departures.peer.asked.clear()
    assert departures.check([]) == [f"{TOKEN} is here, and was never sent"]


def test_what_was_never_sent_is_found(departures):
    departures.submitted(TOKEN)
    departures.peer.asked.clear()
    assert departures.check([]) == [f"{TOKEN} was taken, and never sent"]


def test_a_recipient_who_got_nothing_is_found(departures):
    departures.submitted(TOKEN)
    departures.peer.arrived.clear()
    assert departures.check([LETTER]) == [f"{FINE}: 0 messages came"]


@pytest.mark.parametrize("letters", [[], [LETTER, LETTER]])
def test_a_refusal_that_is_not_told_once_is_found(departures, letters):
    departures.submitted(TOKEN)
    assert departures.check(letters) == [f"{len(letters)} letters tell of {NEVER}"]


@pytest.mark.parametrize(
    ("first", "later"),
    [(COPY._replace(cut=True), COPY), (COPY, COPY._replace(epoch=1))],
    ids=["the connection was cut", "the daemon was killed"],
)
def test_where_250_was_lost_it_may_come_again(departures, first, later):
    departures.submitted(TOKEN)
    departures.peer.arrived[FINE][:] = [first, later]
    assert departures.check([LETTER]) == []
    assert departures.repeated == 1


def test_what_comes_again_after_250_is_found(departures):
    departures.submitted(TOKEN)
    departures.peer.arrived[FINE].append(COPY)
    assert departures.check([LETTER]) == [f"{FINE}: sent again after 250"]


def test_what_comes_again_after_it_has_left_the_queue_is_found(departures):
    departures.submitted(TOKEN)
    departures.left(0, ["… left-queue id=i1 size=3 age=0.1\n"])
    departures.peer.arrived[FINE].append(COPY._replace(epoch=1))
    assert departures.check([LETTER]) == [f"{FINE}: sent again after it had left the queue"]


def test_what_comes_when_all_had_settled_is_found(departures):
    departures.submitted(TOKEN)
    assert departures.check([LETTER]) == []
    departures.peer.asks_for(FINE)
    assert departures.check([]) == [f"{TOKEN} was sent after all had settled"]


def test_a_changed_text_is_found(departures):
    departures.submitted(TOKEN)
    for _ in range(20):  # sometimes the peer takes nothing
        departures.peer.gets([FINE], text_of(TOKEN)[:-3])
    assert "nobody sent" in departures.check([LETTER])[0]


def test_too_few_are_refused_for_a_suspicion():
    found = recipients(TOKEN, 3, 160)
    assert sum(one.startswith("refused-") for one in found) == 10
