"""What the queue manager does with a message: when it sends, what it tells, what it keeps."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from postoffice.interfaces.relay import Undeliverable
from postoffice.model.errors import TemporaryFailure
from postoffice.model.hop import PeerReply
from postoffice.outbound.schedule import DAY, HOUR, MINUTE
from tests.queue.scripted import LATER, NEVER, NOON, Office, message


def kinds(office):
    return [(letter.kind, letter.about) for letter in office.queue.letters]


def _fails(*_, **__):
    raise TemporaryFailure("no space left on device")


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


def test_a_message_is_set_aside_later_if_the_disk_is_full(office, failures, monkeypatch):
    set_aside, full = office.queue.set_aside, [True]

    async def may_fail(name, why):
        if full:
            full.clear()
            raise TemporaryFailure("no space")
        await set_aside(name, why)

    monkeypatch.setattr(office.queue, "set_aside", may_fail)
    office.letters.broken = RuntimeError("a bug")
    office.relay.answers["never@x.example"] = NEVER
    office.queue.commit("n1", message("never@x.example"))
    assert "n1" in office.queue.there
    office.pass_time(10)
    assert "n1" in office.queue.aside
    assert len(office.relay.transactions) == 1
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
