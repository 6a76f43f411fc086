"""The queue manager and destinations: dead, slow, paused, limited, and with hosts in common."""

from __future__ import annotations

import pytest

from postoffice.outbound.schedule import DAY, HOUR, MINUTE
from postoffice.queue.outcomes import NOT_TRIED
from postoffice.queue.selection import Selection
from postoffice.testing import finish
from tests.queue.scripted import NOON, WRONG, Office, message


def kinds(office):
    return [(letter.kind, letter.about) for letter in office.queue.letters]


def test_domains_with_the_same_hosts_share_connections(office):
    office.relay.sites = {"x.example": "mx", "y.example": "mx"}
    office.queue.commit("n1", message("a@x.example", "b@y.example"))
    assert office.relay.tried == ["mx"]
    assert len(office.relay.transactions) == 2


def test_a_smarthost_that_refuses_our_login_is_told_of_and_its_mail_waits(office):
    office.relay.refusing.add("x.example")
    for number in range(50):
        office.queue.commit(f"n{number}", message("a@x.example", came=NOON + number))
    office.pass_time(HOUR, 5.0)
    assert 1 <= len(office.logins_refused) <= 10
    assert set(office.logins_refused) == {("x.example", WRONG)}
    assert len(office.queue.there) == 50
    assert kinds(office) == []
    office.relay.refusing.clear()
    office.use()
    office.pass_time(MINUTE)
    assert not office.queue.there


def test_what_a_destination_is_not_safe_enough_for_comes_back_at_once(office):
    """REQUIRETLS, and the hosts have no valid certificate; other mail for them is sent."""
    office.relay.unsafe.add("x.example+requiretls")
    office.relay.sites = {"x.example": "x.example+requiretls", "y.example": "x.example"}
    for number in range(5):
        office.queue.commit(f"n{number}", message("a@x.example"))
    office.queue.commit("n9", message("a@y.example"))
    assert not office.queue.there
    assert kinds(office) == [("failed", ["a@x.example"])] * 5
    assert office.relay.transactions == [("m", ["a@y.example"])]


def test_a_destination_that_does_not_answer_is_probed_and_the_rest_waits(office):
    office.relay.down.add("x.example")
    for number in range(200):
        office.queue.commit(f"n{number}", message("a@x.example", came=NOON + number))
    office.pass_time(HOUR, 5.0)
    assert len(office.relay.tried) <= 10
    office.relay.down.clear()
    office.pass_time(25 * MINUTE)
    assert not office.queue.there
    assert len(office.relay.transactions) == 200


def test_a_dead_destination_leaves_the_others_alone(tmp_path):
    office = Office(str(tmp_path), active=20)
    office.start()
    office.relay.down.add("dead.example")
    for number in range(100):
        office.queue.commit(f"n{number:03}", message("a@dead.example"))
    office.queue.commit("other", message("a@x.example"))
    office.pass_time(5)
    assert ("m", ["a@x.example"]) in office.relay.transactions
    office.stop()


def test_a_slow_destination_leaves_room_for_the_others(tmp_path):
    office = Office(str(tmp_path), active=100)
    office.start()
    office.relay.slow = True
    for number in range(300):
        office.queue.commit(f"n{number:03}", message("a@slow.example"))
    office.relay.slow = False
    office.queue.commit("other", message("a@x.example"))
    office.queue.commit("again", message("b@x.example", came=NOON))
    office.pass_time(5)
    assert ("m", ["a@x.example"]) in office.relay.transactions
    assert ("m", ["b@x.example"]) in office.relay.transactions
    for pause in office.relay.pauses:
        pause.callback(None)
    office.pass_time(60)
    assert not office.queue.there
    office.stop()


def test_silent_destinations_do_not_take_all_connections(tmp_path):
    office = Office(str(tmp_path))
    office.start()
    office.queue.commit("first", message("a@x.example"))  # it has answered before
    office.pass_time(5)
    for number in range(300):
        office.relay.silent.add(f"s{number}.example")
        office.queue.commit(f"n{number:03}", message(f"a@s{number}.example"))
    office.queue.commit("second", message("b@x.example"))
    assert len(office.relay.pauses) == 50
    assert office.relay.transactions[-1] == ("m", ["b@x.example"])
    office.relay.silent.clear()
    while office.relay.pauses:
        office.relay.pauses.pop().callback(None)
    office.pass_time(5)
    assert not office.queue.there
    office.stop()


def test_a_rate_holds_for_all_connections_that_are_being_made(office):
    office.relay.rate = (1, 10 * MINUTE)
    office.relay.silent.add("x.example")
    for number in range(4):
        office.queue.commit(f"n{number}", message("a@x.example"))
    assert office.relay.tried == ["x.example"]
    for _ in range(3):
        for pause in office.relay.pauses:
            if not pause.called:
                pause.callback(None)
        office.pass_time(10 * MINUTE)
    assert len(office.relay.transactions) in (3, 4)
    assert len(office.relay.tried) <= 4


def test_a_message_that_was_not_sent_does_not_count_for_the_rate(office):
    office.relay.rate = (1, DAY)
    office.relay.down.add("x.example")
    office.queue.commit("n1", message("a@x.example"))
    assert office.relay.tried == ["x.example"]
    office.relay.down.clear()
    office.pass_time(30 * MINUTE)
    assert not office.queue.there


def test_a_smarthost_gets_no_more_than_it_allows(office):
    office.relay.rate = (10, HOUR)
    for number in range(30):
        office.queue.commit(f"n{number:02}", message("a@x.example"))
    office.pass_time(10)
    assert len(office.relay.transactions) == 10
    office.pass_time(HOUR, MINUTE)
    assert 19 <= len(office.relay.transactions) <= 21


def test_a_paused_domain_does_not_keep_its_site_from_being_probed(office):
    office.relay.sites = dict.fromkeys(["a.example", "z.example"], "mx")
    office.relay.down.add("mx")
    office.queue.commit("n1", message("a@a.example"))
    office.queue.commit("n2", message("a@z.example"))
    finish(office.manager.pauses.pause("a.example", NOON))
    office.relay.down.clear()
    office.pass_time(HOUR, 10)
    assert list(office.queue.there) == ["n1"]


def test_a_pause_is_for_what_waits_in_memory_too(office):
    office.relay.slow = True
    for number in range(5):
        office.queue.commit(f"n{number}", message("a@x.example"))
    finish(office.manager.pause("x.example"))
    office.relay.slow = False
    for pause in office.relay.pauses:
        pause.callback(None)
    office.pass_time(5)
    assert len(office.relay.transactions) == 2


def test_probes_go_by_turns(office):
    """Of a destination that does not answer, not always the same domain's mail is tried."""
    office.relay.sites = dict.fromkeys(["a.example", "m.example", "z.example"], "mx")
    office.relay.down.add("mx")
    for domain in office.relay.sites:
        office.queue.commit(domain, message(f"joe@{domain}"))
    office.pass_time(2 * HOUR, 5.0)
    attempts = {row.name: row.attempts for row in finish(office.manager.admin.select(Selection()))}
    assert len(office.relay.tried) > 6
    assert max(attempts.values()) - min(attempts.values()) <= 1


@pytest.mark.parametrize("restarted", [True, False])
def test_senders_are_told_of_mail_that_a_pause_delays(office, restarted):
    finish(office.manager.pause("x.example"))
    office.queue.commit("n1", message("a@x.example"))
    office.pass_time(3 * HOUR, MINUTE)
    if restarted:
        office.restart()
    office.pass_time(2 * HOUR, MINUTE)
    assert kinds(office) == [("delayed", ["a@x.example"])]
    office.restart()
    office.pass_time(2 * HOUR, MINUTE)
    assert kinds(office) == [("delayed", ["a@x.example"])], "once"


@pytest.mark.parametrize("killed", [True, False])
def test_senders_are_told_of_mail_that_a_rate_delays(office, killed):
    office.relay.rate = (1, 2 * DAY)
    office.queue.commit("n1", message("a@x.example"))
    office.queue.commit("n2", message("b@x.example"))
    office.pass_time(3 * HOUR, MINUTE)
    office.relay.rate = None if killed else office.relay.rate
    office.pass_time(2 * HOUR, MINUTE)
    assert kinds(office) == [("delayed", ["b@x.example"])]
    assert office.queue.letters[0].replies == [NOT_TRIED]
    office.restart(killed=killed)
    office.pass_time(MINUTE)
    assert kinds(office) == [("delayed", ["b@x.example"])], "once"
