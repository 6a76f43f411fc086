"""What the queue manager does with what waits: when it sends, what it tells, what it keeps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from postoffice.interfaces.relay import Undeliverable
from postoffice.model.errors import TemporaryFailure
from postoffice.model.hop import PeerReply
from postoffice.model.queued_message import QueuedRecipient
from postoffice.outbound.schedule import DAY, HOUR, MINUTE
from postoffice.queue import manager
from postoffice.queue.outcomes import NOT_TRIED
from postoffice.queue.queue_db import QueueDB
from postoffice.queue.selection import Selection
from postoffice.testing import finish
from tests.queue.scripted import LATER, NEVER, NOON, WRONG, Office, Relay, message


def kinds(office):
    return [(letter.kind, letter.about) for letter in office.queue.letters]


def test_new_mail_is_sent_at_once(office):
    office.queue.commit("n1", message("bob@there.example"))
    assert office.relay.transactions == [("m", ["bob@there.example"])]
    assert not office.queue.there


def test_each_domain_has_a_transaction_of_its_own(office):
    office.queue.commit("n1", message("a@x.example", "b@y.example", "c@x.example"))
    sent = sorted(to for _, to in office.relay.transactions)
    assert sent == [["a@x.example", "c@x.example"], ["b@y.example"]]
    assert not office.queue.there


def test_a_connection_is_used_again_and_left_after_three_seconds(office):
    office.queue.commit("n1", message("a@x.example"))
    office.queue.commit("n2", message("b@x.example"))
    assert len(office.relay.connections) == 1
    assert not office.relay.connections[0].closed
    office.pass_time(4)
    assert office.relay.connections[0].closed


def test_domains_with_the_same_hosts_share_connections(office):
    office.relay.sites = {"x.example": "mx", "y.example": "mx"}
    office.queue.commit("n1", message("a@x.example", "b@y.example"))
    assert office.relay.tried == ["mx"]
    assert len(office.relay.transactions) == 2


def test_what_is_refused_for_now_comes_again_by_its_age(office):
    office.relay.answers["a@x.example"] = LATER
    office.queue.commit("n1", message("a@x.example"))
    office.pass_time(4 * HOUR, MINUTE)
    # 5, 10, 20, 40 minutes after one another, then each hour
    assert 7 <= len(office.relay.transactions) <= 8
    assert office.queue.there


def test_some_recipients_are_sent_some_wait_and_some_are_refused(office):
    office.relay.answers |= {"later@x.example": LATER, "never@x.example": NEVER}
    office.queue.commit("n1", message("a@x.example", "later@x.example", "never@x.example"))
    assert kinds(office) == [("failed", ["never@x.example"])]
    assert office.queue.there["n1"].left == [1]
    del office.relay.answers["later@x.example"]
    office.pass_time(6 * MINUTE)
    assert office.relay.transactions[-1] == ("m", ["later@x.example"])
    assert not office.queue.there


def test_the_sender_is_told_once_of_a_delay_and_at_the_end(office):
    office.relay.answers["a@x.example"] = LATER
    office.queue.commit("n1", message("a@x.example"))
    office.pass_time(3.9 * HOUR, MINUTE)
    assert kinds(office) == []
    office.pass_time(2 * DAY, 10 * MINUTE)
    assert kinds(office) == [("delayed", ["a@x.example"])]
    office.pass_time(2 * DAY, 10 * MINUTE)
    assert kinds(office) == [("delayed", ["a@x.example"]), ("failed", ["a@x.example"])]
    assert not office.queue.there


def test_a_bounce_is_given_up_after_a_day(office):
    office.relay.answers["a@x.example"] = LATER
    office.queue.commit("n1", message("a@x.example", sender="", login=""))
    office.pass_time(1.1 * DAY, 10 * MINUTE)
    assert not office.queue.there
    assert kinds(office) == [("failed", ["a@x.example"])]


def test_a_domain_that_does_not_exist_fails_at_once(office):
    why = PeerReply(550, "5.1.2", "no such domain", "dns")
    office.relay.nowhere["x.example"] = Undeliverable(why)
    office.queue.commit("n1", message("a@x.example"))
    assert kinds(office) == [("failed", ["a@x.example"])]
    assert not office.queue.there


def test_what_is_ours_to_mend_never_bounces(office, logged):
    why = PeerReply(535, "5.7.8", "wrong password", "auth")
    office.relay.nowhere["x.example"] = Undeliverable(why)
    office.queue.commit("n1", message("a@x.example"))
    office.pass_time(HOUR, MINUTE)
    assert office.queue.there
    assert kinds(office) == []
    lines = [line for line in logged if "535 5.7.8" in line]
    assert lines
    assert all(line.startswith("deferred ") for line in lines), "the log does not say bounced"


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


def test_a_login_that_is_demanded_in_a_transaction_is_ours_to_mend(office):
    wanted = PeerReply(530, "5.7.0", "Authentication required", "auth")
    office.relay.answers["a@x.example"] = wanted
    for number in range(50):
        office.queue.commit(f"n{number}", message("a@x.example", came=NOON + number))
    office.pass_time(HOUR, 5.0)
    assert len(office.relay.transactions) < 100
    assert office.logins_refused[0] == ("x.example", wanted)
    assert len(office.queue.there) == 50
    assert kinds(office) == []
    office.relay.answers.clear()
    office.use()
    office.pass_time(MINUTE)
    assert not office.queue.there


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


def test_senders_take_turns(office):
    office.relay.slow = True
    for number in range(20):
        facts = {"id": f"news{number}", "login": "news@here.example"}
        office.queue.commit(f"n{number:02}", message("a@x.example", **facts))
    office.queue.commit("z", message("a@x.example", id="letter"))
    for _ in range(8):
        office.relay.pauses.pop(0).callback(None)
    assert "letter" in [one for one, _ in office.relay.transactions]
    office.relay.slow = False


def test_what_the_server_postpones_goes_at_once_in_another_transaction(office):
    office.relay.takes = 2
    office.queue.commit("n1", message(*(f"{n}@x.example" for n in range(5))))
    assert [len(to) for _, to in office.relay.transactions] == [5, 3, 1]
    assert not office.queue.there


def test_fifty_recipients_at_most_in_a_transaction(office):
    office.queue.commit("n1", message(*(f"{n}@x.example" for n in range(120))))
    assert [len(to) for _, to in office.relay.transactions] == [50, 50, 20]
    assert not office.queue.there


def test_a_message_that_is_held_waits_until_somebody_lets_it_go(office):
    office.queue.commit("n1", message("a@x.example", held="too many recipients"))
    office.pass_time(5 * DAY, HOUR)
    assert not office.relay.transactions
    assert office.queue.there
    assert kinds(office) == []


def test_a_smarthost_gets_no_more_than_it_allows(office):
    office.relay.rate = (10, HOUR)
    for number in range(30):
        office.queue.commit(f"n{number:02}", message("a@x.example"))
    office.pass_time(10)
    assert len(office.relay.transactions) == 10
    office.pass_time(HOUR, MINUTE)
    assert 19 <= len(office.relay.transactions) <= 21


def test_a_reload_gives_a_smarthost_another_rate(office):
    office.relay.rate = (1, HOUR)
    for number in range(4):
        office.queue.commit(f"n{number}", message("a@x.example"))
    office.pass_time(2)
    assert len(office.relay.transactions) == 1
    office.relay.rate = (100, HOUR)
    office.use()
    office.pass_time(2)
    assert len(office.relay.transactions) == 4


def test_a_full_disk_repeats_no_message_and_no_letter(office):
    office.queue.full = True
    office.relay.answers["never@x.example"] = NEVER
    office.queue.commit("n1", message("a@x.example", "never@x.example"))
    office.pass_time(HOUR, 10.0)
    assert office.queue.there
    office.queue.full = False
    office.pass_time(10)
    assert len(office.relay.transactions) == 1
    assert kinds(office) == [("failed", ["never@x.example"])]
    assert not office.queue.there


def test_a_letter_that_cannot_be_written_sets_the_message_aside(office, failures):
    office.letters.broken = RuntimeError("a bug")
    office.relay.answers["never@x.example"] = NEVER
    office.queue.commit("n1", message("never@x.example"))
    office.pass_time(HOUR, MINUTE)
    assert "n1" in office.queue.aside
    assert len(office.relay.transactions) == 1
    assert len(failures) == 1
    failures.clear()


def test_a_letter_is_aborted_if_a_bug_keeps_the_queue_from_taking_it(office, failures, monkeypatch):
    async def finish(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(office.queue, "finish", finish)
    office.relay.answers["never@x.example"] = NEVER
    office.queue.commit("n1", message("never@x.example"))
    assert "n1" in office.queue.aside
    assert [letter.aborted for letter in office.letters.written] == [True]
    failures.clear()


def test_a_letter_that_cannot_be_written_now_is_written_later(office):
    office.letters.broken = TemporaryFailure("the directory is down")
    office.relay.answers["never@x.example"] = NEVER
    office.queue.commit("n1", message("never@x.example"))
    office.letters.broken = None
    office.pass_time(10)
    assert kinds(office) == [("failed", ["never@x.example"])]


def test_refused_recipients_are_counted_for_their_sender(office):
    office.relay.answers["never@x.example"] = NEVER
    office.queue.commit("n1", message("a@x.example", "never@x.example"))
    assert office.refused == [("ann@here.example", 1, 1)]


@pytest.mark.parametrize("killed", [False, True])
def test_a_restart_sends_what_waits_when_it_is_due(tmp_path, killed):
    office = Office(str(tmp_path))
    office.start()
    office.relay.answers["a@x.example"] = LATER
    office.queue.commit("n1", message("a@x.example"))
    office.pass_time(2)
    office.restart(killed=killed)
    office.queue.commit("n2", message("b@x.example"))
    office.relay.answers.clear()
    office.pass_time(6 * MINUTE)
    assert not office.queue.there
    office.stop()


def test_after_a_restart_little_is_read_of_what_waits_for_a_server_that_is_down(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(manager, "PAGE", 5)
    office = Office(str(tmp_path))
    office.start()
    office.relay.down.add("x.example")
    for number in range(100):
        office.queue.commit(f"n{number}", message(f"u{number}@x.example"))
    office.pass_time(2)
    read = []
    reading = office.queue.read

    def noted(names):
        read.extend(names)
        return reading(names)

    office.queue.read = noted
    office.restart()
    office.pass_time(5)
    assert 0 < len(read) <= 10
    assert len(office.queue.there) == 100
    office.relay.down.clear()
    office.pass_time(HOUR, 30)
    assert not office.queue.there
    office.stop()


def test_a_stop_waits_for_what_is_being_sent(tmp_path):
    office = Office(str(tmp_path))
    office.start()
    office.relay.slow = True
    office.queue.commit("n1", message("a@x.example"))
    stopped = Deferred.fromCoroutine(office.manager.stop())
    assert not stopped.called
    office.relay.pauses[0].callback(None)
    assert stopped.called
    assert not office.queue.there


def test_what_is_sent_while_the_rest_is_unreachable_is_not_forgotten(office):
    office.relay.down.add("x.example")
    office.queue.full = True
    office.queue.commit("n1", message("a@x.example", "b@y.example"))
    office.queue.full = False
    office.relay.down.clear()
    office.pass_time(HOUR, HOUR)
    assert not office.queue.there
    assert len(office.relay.transactions) == 2


ADDRESSES = [f"{who}@{domain}.example" for who in "abc" for domain in ("x", "y")]
STEPS = st.one_of(
    st.tuples(st.just("send"), st.sets(st.sampled_from(ADDRESSES), min_size=1)),
    st.tuples(st.just("answer"), st.sampled_from(ADDRESSES), st.sampled_from([LATER, NEVER, None])),
    st.tuples(st.just("down"), st.sampled_from(["x.example", "y.example"])),
    st.tuples(st.just("up"), st.sampled_from(["x.example", "y.example"])),
    st.tuples(st.just("pass"), st.sampled_from([1.0, 400.0, 7200.0])),
    st.tuples(st.just("full"), st.booleans()),
    st.tuples(st.just("restart"), st.booleans()),
)


@given(steps=st.lists(STEPS, max_size=25))
@settings(max_examples=20)
def test_every_recipient_ends_sent_or_told(tmp_path_factory, steps):
    office = Office(str(tmp_path_factory.mktemp("queue")))
    office.start()
    wanted = set()
    for number, (what, *facts) in enumerate(steps):
        if what == "send":
            came = NOON + office.clock.seconds()
            office.queue.commit(f"n{number:03}", message(*facts[0], id=f"{number}", came=came))
            wanted |= {(f"{number}", address) for address in facts[0]}
        elif what == "answer":
            office.relay.answers[facts[0]] = facts[1]
            if facts[1] is None:
                del office.relay.answers[facts[0]]
        elif what == "down":
            office.relay.down.add(facts[0])
        elif what == "up":
            office.relay.down.discard(facts[0])
        elif what == "full":
            office.queue.full = facts[0]
        elif what == "restart" and not office.queue.full:
            office.restart(killed=facts[0])
        elif what == "pass":
            office.pass_time(facts[0], max(1.0, facts[0] / 10))
    office.queue.full = False
    office.relay.down.clear()
    office.pass_time(5 * DAY, HOUR)
    assert not office.queue.there
    assert not office.queue.twice
    tried = [(one, address) for one, to in office.relay.transactions for address in to]
    told = [address for letter in office.queue.letters if letter.kind == "failed"
            for address in letter.about]  # fmt: skip
    assert set(tried) <= wanted
    assert len(told) <= len(wanted)
    for one, address in wanted:
        assert (one, address) in tried or address in told
    office.stop()


@pytest.mark.parametrize("killed", [False, True])
def test_a_restart_sends_also_what_was_in_memory_alone(tmp_path, killed):
    """One domain of a message has a row in ``queue.db``; others are being sent, or wait for it."""
    office = Office(str(tmp_path))
    office.start()
    office.relay.sites = dict.fromkeys(["x.example", "y.example", "z.example"], "mx")
    office.relay.answers = dict.fromkeys(["a@x.example", "b@y.example"], LATER)
    office.relay.slow = True
    office.queue.commit("n1", message("a@x.example", "b@y.example", "c@z.example"))
    stopped = None if killed else Deferred.fromCoroutine(office.manager.stop())
    for pause in office.relay.pauses[: 1 if killed else 2]:
        pause.callback(None)
    assert killed or stopped.called
    office.pass_time(2)
    office.relay.slow = False
    office.relay.answers.clear()
    office.restart(killed=True)
    office.pass_time(HOUR)
    assert not office.queue.there
    office.stop()


def test_a_kill_loses_no_letter_that_waits_for_room(tmp_path):
    """The store is full as a recipient is refused; another one of the message is to come later."""
    office = Office(str(tmp_path))
    office.start()
    office.relay.answers = {"a@x.example": NEVER, "b@y.example": LATER}
    office.queue.full = True
    office.queue.commit("n1", message("a@x.example", "b@y.example"))
    office.pass_time(2)
    office.queue.full = False
    office.restart(killed=True)
    office.relay.answers.clear()
    office.pass_time(HOUR)
    assert not office.queue.there
    office.stop()


@pytest.mark.parametrize("failing", ["read", "write"])
def test_a_disk_error_delays_what_is_due_and_no_more(office, monkeypatch, failing):
    """The store cannot be read, or ``queue.db`` not be written, as a message is due again."""
    office.relay.answers["a@x.example"] = LATER
    office.queue.commit("n1", message("a@x.example"))
    with monkeypatch.context() as broken:
        if failing == "read":
            broken.setattr(office.queue, "read", _fails)
            office.pass_time(6 * MINUTE)
        else:
            broken.setattr(QueueDB, "write", _fails)
            office.pass_time(2)
    office.relay.answers.clear()
    office.pass_time(2 * HOUR, MINUTE)
    assert not office.queue.there


def _fails(*_, **__):
    raise TemporaryFailure("no space left on device")


def test_what_is_too_old_is_given_up_after_a_disk_error(office, monkeypatch):
    office.relay.down.add("x.example")
    office.queue.commit("n1", message("a@x.example"))
    office.pass_time(4 * DAY - MINUTE, HOUR)
    with monkeypatch.context() as broken:
        broken.setattr(office.queue, "read", _fails)
        office.pass_time(5 * MINUTE, 10)
    office.pass_time(5 * MINUTE, 10)
    assert kinds(office)[-1] == ("failed", ["a@x.example"])


def test_a_reload_sends_at_once_what_waited_for_a_dead_destination(office):
    """An administrator has given the domain another route."""
    office.relay.down.add("x.example")
    for number in range(30):
        office.queue.commit(f"n{number:02}", message("a@x.example"))
    office.pass_time(30 * MINUTE, 10)
    office.relay.sites["x.example"] = "smarthost"
    office.use()
    office.pass_time(5)
    assert not office.queue.there


@pytest.mark.parametrize("found", [True, False])
def test_a_reload_that_ends_lookups_costs_no_attempt(office, found):
    """Of the lookups of before, neither the results count nor the failures."""
    before = office.relay
    before.looking_up = Deferred()
    before.sites["x.example"] = "old"
    office.queue.commit("n1", message("a@x.example"))
    office.relay = Relay()
    office.use()
    office.queue.commit("n2", message("b@x.example"))
    if found:
        before.looking_up.callback(None)
    else:
        before.looking_up.errback(Undeliverable(LATER))
    office.pass_time(2)
    assert sorted(to for _, to in office.relay.transactions) == [["a@x.example"], ["b@x.example"]]
    assert not before.transactions


def test_recipients_that_a_reload_brings_together_are_all_sent(office):
    office.relay.ways["b@x.example"] = "other"
    office.relay.answers = dict.fromkeys(["a@x.example", "b@x.example"], LATER)
    office.queue.commit("n1", message("a@x.example", "b@x.example"))
    finish(office.manager.admin.hold(Selection(to="b@x.example"), "because"))
    office.relay.ways.clear()
    office.use()
    office.pass_time(20 * MINUTE)
    finish(office.manager.admin.release(Selection()))
    office.pass_time(10)
    office.relay.answers.clear()
    office.pass_time(2 * HOUR, 10)
    assert not office.queue.there


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


def test_what_comes_while_the_queue_starts_is_sent(tmp_path):
    office = Office(str(tmp_path))
    names = office.queue.names

    async def meanwhile():
        there = await names()
        office.queue.commit("n1", message("a@x.example"))
        return there

    office.queue.names = meanwhile
    office.start()
    office.pass_time(2)
    assert not office.queue.there
    office.stop()


def test_a_failure_to_find_out_the_sender_delays_the_message_and_says_why(office, monkeypatch):
    """The secrets of rewritten senders (SRS) cannot be read."""
    office.queue.commit("n1", message("first@x.example"))
    with monkeypatch.context() as broken:
        broken.setattr(office.relay, "sender", _fails)
        office.queue.commit("n2", message("a@x.example"))
        office.pass_time(4.1 * HOUR, MINUTE)
    assert kinds(office) == [("delayed", ["a@x.example"])]
    [reply] = office.queue.letters[0].replies
    assert (reply.status, reply.text) == (
        "4.3.0",
        "preparing the message failed: no space left on device",
    )
    office.pass_time(2 * HOUR, MINUTE)
    assert not office.queue.there


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


def test_shares_are_counted_over_sending_removal_and_restart(office):
    shares = office.shares
    shares.limit(8, 8000, 25)  # 2 messages, 2000 octets
    mine = [QueuedRecipient(address="a@x.example")]
    office.relay.answers["a@x.example"] = LATER

    def is_full(login="ann@here.example"):
        return shares.refusal(login, mine) is not None

    assert not is_full()
    office.queue.commit("n1", message("a@x.example"))
    assert not is_full()
    office.queue.commit("n2", message("a@x.example"))
    assert is_full()
    assert not is_full("joe@here.example")
    for killed in (False, True):
        office.restart(killed=killed)
        assert is_full()
    finish(office.manager.admin.remove(Selection(ids=("m",), state="waiting")))
    assert not is_full()
    office.queue.commit("n3", message("a@x.example", size=3000))
    assert is_full(), "octets count, too"
    office.relay.answers.clear()
    office.pass_time(10 * MINUTE)
    assert not office.queue.there
    assert not is_full()
