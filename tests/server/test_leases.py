"""A second login, in every state of the first: refused, kept waiting, or taking over."""

from __future__ import annotations

from itertools import pairwise

import pytest
from twisted.internet.defer import Deferred

from postoffice.daemon.live_sessions import PATIENCE, Sessions
from postoffice.model.errors import MaildropLocked, TemporaryFailure
from postoffice.server.leases import ASK_AGAIN, TAKING_OVER
from postoffice.server.pop3 import GIVES_WAY
from postoffice.store.memory import MemoryMaildrop
from postoffice.testing import finish

LOGIN = b"USER joe@example.net\r\nPASS secret word\r\n"
POLICIES = {
    "refuse": {"in_use": "refuse"},
    "wait": {"in_use": "wait", "wait": 30},
    "take-over": {"in_use": "take-over"},
}
IN_USE = b"-ERR [IN-USE] "


@pytest.fixture
def office(memory_office):
    for number in range(3):
        memory_office.post(b"Subject: %d\r\n\r\nx\r\n" % number)
    return memory_office


def count(office) -> int:
    return finish(office.store.count("joe@example.net"))[0]


def pass_time(office, seconds: float) -> None:
    """Second by second, as it does."""
    office.clock.pump([0.5] * int(2 * seconds))


class First:
    """The first session, brought into a state; ``held`` is what a test lets go on."""

    def __init__(self, office, monkeypatch):
        self.office = office
        self.client = office.client("pop3")
        self.held = Deferred()
        self._patch = monkeypatch

    def hold(self, method: str) -> None:
        """What it asks of its maildrop takes its time."""
        really = getattr(MemoryMaildrop, method)

        async def late(maildrop, *args):
            self._patch.undo()  # for this session, and for no other
            await self.held
            return await really(maildrop, *args)

        self._patch.setattr(MemoryMaildrop, method, late)

    def greeted(self):
        pass

    def named(self):
        self.client.say(b"USER joe@example.net\r\n")

    def opening(self):
        self.hold("open")
        self.client.say(LOGIN)

    def logged_in(self):
        self.client.say(LOGIN)

    def deleting(self):
        self.client.say(LOGIN + b"DELE 1\r\nDELE 2\r\n")

    def half_a_command(self):
        self.client.say(LOGIN + b"DELE 1\r\nQUI")

    def fetching(self):
        self.client.say(LOGIN + b"DELE 2\r\n")
        self.hold("fetch")
        self.client.say(b"RETR 1\r\n")

    def not_reading(self):
        self.client.say(LOGIN + b"DELE 1\r\n")
        self.client.connection.pauseProducing()
        self.client.say(b"RETR 2\r\nQUIT\r\n")

    def updating(self):
        self.hold("remove")
        self.client.say(LOGIN + b"DELE 1\r\nQUIT\r\n")

    def quit(self):
        self.client.say(LOGIN + b"DELE 1\r\nQUIT\r\n")

    def logged_out(self):
        self.client.say(LOGIN + b"DELE 1\r\n")
        self.office.clock.advance(600)
        assert self.client.transport.disconnecting, "and the link is still there"

    def lost(self):
        self.client.say(LOGIN + b"DELE 1\r\n")
        self.client.leave()


FREE = ["greeted", "named", "opening", "quit", "logged_out", "lost"]
SILENT = ["logged_in", "deleting", "half_a_command", "not_reading"]
BUSY = ["fetching", "updating"]


def second_login(office):
    second = office.client("pop3")
    second.heard = second.say(LOGIN)
    return second


def is_in(client) -> bool:
    client.heard += client.hear()
    return b" messages (" in client.heard


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("state", FREE)
def test_nobody_waits_for_a_maildrop_that_is_free(office, monkeypatch, policy, state):
    office.serve(**POLICIES[policy])
    first = First(office, monkeypatch)
    getattr(first, state)()
    assert is_in(second_login(office))


@pytest.mark.parametrize("state", SILENT + BUSY)
def test_where_others_are_refused_they_are_at_once(office, monkeypatch, state):
    first = First(office, monkeypatch)
    getattr(first, state)()
    assert IN_USE in second_login(office).heard


@pytest.mark.parametrize("state", SILENT + BUSY)
def test_a_waiting_login_succeeds_as_soon_as_the_first_session_ends(office, monkeypatch, state):
    office.serve(**POLICIES["wait"])
    first = First(office, monkeypatch)
    getattr(first, state)()
    second = second_login(office)
    pass_time(office, 20)
    assert not is_in(second)
    if state == "updating":  # which goes on when its client has gone
        first.held.callback(None)
        assert count(office) == 2
    else:
        first.client.leave()
        assert count(office) == 3
    assert is_in(second)


@pytest.mark.parametrize("state", SILENT + BUSY)
def test_a_login_does_not_wait_for_ever(office, monkeypatch, state):
    office.serve(**POLICIES["wait"])
    first = First(office, monkeypatch)
    getattr(first, state)()
    second = second_login(office)
    pass_time(office, 30 - ASK_AGAIN)
    assert IN_USE not in second.heard + second.hear()
    pass_time(office, 2 * ASK_AGAIN)
    assert IN_USE in second.hear()
    assert not first.client.transport.aborted
    assert not first.client.transport.disconnecting
    first.client.leave()


@pytest.mark.parametrize("state", SILENT)
def test_a_silent_session_is_taken_over_and_removes_nothing(office, monkeypatch, state):
    office.serve(**POLICIES["take-over"])
    first = First(office, monkeypatch)
    getattr(first, state)()
    first.client.hear()
    second = second_login(office)
    pass_time(office, GIVES_WAY - ASK_AGAIN)
    assert not is_in(second)
    pass_time(office, 2 * ASK_AGAIN)
    assert is_in(second)
    assert b"+OK 3 messages" in second.heard
    said = first.client.hear()
    if state == "not_reading":
        assert first.client.transport.aborted, "a message that breaks off must not look whole"
    else:
        assert said.startswith(IN_USE)
        assert first.client.transport.disconnecting
    first.client.say(b"QUIT\r\nQUIT\r\n")
    first.client.leave()
    assert count(office) == 3
    assert second.say(b"STAT\r\n").startswith(b"+OK 3 ")


@pytest.mark.parametrize("state", BUSY)
def test_a_session_that_waits_for_us_is_not_taken_over(office, monkeypatch, state):
    office.serve(**POLICIES["take-over"])
    first = First(office, monkeypatch)
    getattr(first, state)()
    pass_time(office, 100)
    second = second_login(office)
    pass_time(office, TAKING_OVER + ASK_AGAIN)
    assert IN_USE in second.hear()
    first.held.callback(None)
    assert b"+OK 1 deleted, goodbye\r\n" in first.client.say(b"QUIT\r\n")
    assert count(office) == 2


def test_a_takeover_succeeds_when_the_update_ends(office, monkeypatch):
    office.serve(**POLICIES["take-over"])
    first = First(office, monkeypatch)
    first.updating()
    second = second_login(office)
    assert not is_in(second)
    first.held.callback(None)
    assert is_in(second)
    assert b"+OK 2 messages" in second.heard


def test_an_active_session_is_not_taken_over(office):
    office.serve(**POLICIES["take-over"])
    first = office.client("pop3")
    first.say(LOGIN)
    second = second_login(office)
    for _ in range(2 * int(TAKING_OVER)):
        office.clock.advance(1)
        assert first.say(b"NOOP\r\n") == b"+OK\r\n"
    assert IN_USE in second.hear()


def test_a_client_that_goes_on_receiving_is_not_taken_over(office, monkeypatch):
    office.serve(**POLICIES["take-over"])
    first = office.client("pop3")
    first.say(LOGIN + b"RETR 1\r\n")
    left = 10_000_000
    monkeypatch.setattr("postoffice.server.connection.unacknowledged", lambda transport: left)
    office.clock.advance(100)
    second = second_login(office)
    for _ in range(2 * int(TAKING_OVER)):
        left -= 100_000
        office.clock.advance(1)
    assert IN_USE in second.hear()
    second = second_login(office)
    pass_time(office, TAKING_OVER)
    assert is_in(second), "it takes nothing any more"


def test_a_login_that_is_too_soon_takes_nothing_over(office):
    office.serve(in_use="take-over", login_delay=600)
    first = office.client("pop3")
    first.say(LOGIN)
    office.clock.advance(100)
    assert b"-ERR [LOGIN-DELAY]" in second_login(office).heard
    assert first.say(b"NOOP\r\n") == b"+OK\r\n"


def test_a_password_is_needed_to_take_over(office):
    office.serve(**POLICIES["take-over"])
    first = office.client("pop3")
    first.say(LOGIN)
    office.clock.advance(100)
    assert b"-ERR [AUTH]" in office.client("pop3").say(LOGIN.replace(b"word", b"sword"))
    assert first.say(b"NOOP\r\n") == b"+OK\r\n"


@pytest.mark.parametrize("policy", ["wait", "take-over"])
def test_a_client_that_leaves_while_it_waits_leaves_no_wait_behind(office, policy):
    office.serve(**POLICIES[policy])
    first = office.client("pop3")
    first.say(LOGIN)
    second = second_login(office)
    second.leave()
    assert first.say(b"NOOP\r\n") == b"+OK\r\n"
    first.leave()
    assert b"+OK 3 messages" in office.client("pop3").say(LOGIN)
    assert not office.mailbox_context.leases._waiting


@pytest.mark.parametrize("policy", ["refuse", "wait", "take-over"])
@pytest.mark.parametrize("seconds", [0, 1, PATIENCE])
def test_a_waiting_login_ends_with_the_sessions_of_its_account(
    office, monkeypatch, policy, seconds
):
    """Its account may have been disabled behind its login."""
    office.serve(**POLICIES[policy])
    first = First(office, monkeypatch)
    first.hold("open")
    first.client.say(LOGIN)
    second = office.client("pop3")
    second.say(LOGIN)
    sessions = Sessions(lambda: [office.pop3], office.clock)
    assert list(sessions.end({"account": "joe@example.net"}))
    pass_time(office, seconds)
    first.held.callback(None)
    pass_time(office, 1)
    for client in (first.client, second):
        assert b"\r\n1 179\r\n" not in client.say(b"LIST\r\n")
    pass_time(office, PATIENCE)
    assert not office.mailbox_context.leases._waiting


@pytest.mark.parametrize("policy", ["wait", "take-over"])
def test_a_client_that_closed_its_side_neither_waits_nor_takes_over(office, policy):
    """It may have gone, for all that TCP tells: it has closed its side and left nothing to do."""
    office.serve(**POLICIES[policy])
    first = office.client("pop3")
    first.say(LOGIN + b"DELE 1\r\n")
    second = second_login(office)
    second.connection.readConnectionLost()
    pass_time(office, 2)
    assert IN_USE in second.transport.value()
    pass_time(office, 20)
    assert first.say(b"QUIT\r\n").startswith(b"+OK 1 deleted")


def test_commands_sent_before_the_close_are_carried_out(office):
    office.serve(**POLICIES["wait"])
    first = office.client("pop3")
    first.say(LOGIN)
    second = office.client("pop3")
    second.say(LOGIN + b"DELE 1\r\nQUIT\r\n")
    second.connection.readConnectionLost()
    pass_time(office, 5)
    first.say(b"QUIT\r\n")
    assert b"+OK 1 deleted" in second.transport.value()


def test_all_who_wait_have_their_turn(office):
    office.serve(**POLICIES["wait"])
    clients = [office.client("pop3")]
    clients[0].say(LOGIN)
    clients += [second_login(office) for _ in range(5)]
    for one, following in pairwise(clients):
        assert not is_in(following)
        one.say(b"DELE 1\r\n")
        one.leave()
        assert is_in(following), "in the order in which they came"
    clients[-1].leave()
    assert count(office) == 3


def test_an_opening_that_fails_is_no_reason_to_wait(office, monkeypatch):
    office.serve(**POLICIES["wait"])
    outcomes = iter([MaildropLocked(), MaildropLocked(), TemporaryFailure("disk on fire")])

    async def fail(maildrop, login_delay):
        raise next(outcomes)

    monkeypatch.setattr(MemoryMaildrop, "open", fail)
    second = second_login(office)
    assert b"-ERR" not in second.heard
    pass_time(office, ASK_AGAIN)
    assert b"-ERR [SYS/TEMP]" in second.hear()


def test_nobody_waits_in_an_office_that_closes(office):
    office.serve(**POLICIES["wait"])
    first = office.client("pop3")
    first.say(LOGIN)
    second = second_login(office)
    office.mailbox_context.leases.close()
    assert IN_USE in second.hear()
    assert IN_USE in second_login(office).heard
