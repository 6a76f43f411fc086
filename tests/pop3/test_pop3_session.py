"""The rules of a POP3 dialogue, without sockets, clocks or Twisted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postoffice import __version__
from postoffice.model.errors import (
    LoginTooSoon,
    MaildropLocked,
    MessageGone,
    NotAllRemoved,
    TemporaryFailure,
)
from postoffice.model.listing import Entry
from postoffice.pop3.options import POP3Limits, POP3Options
from postoffice.pop3.questions import Announce, Enough, Fetch, More, Update
from postoffice.pop3.session import (
    ANYWHERE,
    AUTHORIZATION,
    COMMANDS,
    TRANSACTION,
    POP3Session,
)
from postoffice.protocol.questions import Yield
from postoffice.protocol.wire import OUTPUT_QUANTUM
from tests.pop3.drop import CLEAR, Drop


def logged_in(*args, **named) -> Drop:
    drop = Drop(*args, **named)
    assert drop.hear(b"USER joe\r\nPASS secret word\r\n").startswith(b"+OK\r\n+OK 4 messages (")
    return drop


def test_a_greeting_holds_no_stamp():
    assert Drop().greeting == b"+OK postoffice ready\r\n"


def test_capa_is_the_same_before_and_after_login():
    expected = [
        b"TOP",
        b"UIDL",
        b"USER",
        b"SASL PLAIN LOGIN",
        b"PIPELINING",
        b"RESP-CODES",
        b"AUTH-RESP-CODE",
        b"UTF8 USER",
        b"LANG",
        b"EXPIRE NEVER",
        b"IMPLEMENTATION postoffice-" + __version__.encode(),
        b".",
    ]
    assert Drop().hear(b"CAPA\r\n").splitlines()[1:] == expected
    assert logged_in().hear(b"capa\r\n").splitlines()[1:] == expected


def test_what_is_not_known_of_a_stranger_is_asked_each_time_it_must_be_told():
    options = replace(CLEAR, known=False, expire="", login_delay="")
    drop = Drop(options=options)
    for expire, login_delay in (("30 USER", "300 USER"), ("30", "")):
        drop.announced = replace(options, expire=expire, login_delay=login_delay)
        said = drop.hear(b"CAPA\r\nCAPA\r\n").splitlines()
        assert drop.asked[-2:] == [Announce(), Announce()]
        assert said.count(b"EXPIRE " + expire.encode()) == 2
        assert said.count(b"LOGIN-DELAY 300 USER") == (2 if login_delay else 0)
    drop.failure = TemporaryFailure()
    assert drop.hear(b"CAPA\r\n").startswith(b"-ERR [SYS/TEMP] ")
    drop.hear(b"USER joe\r\nPASS secret word\r\n")
    drop.asked.clear()
    assert b"\r\nEXPIRE" not in drop.hear(b"CAPA\r\n"), "as the answer to Enter says"
    assert not drop.asked


def test_passwords_are_not_taken_on_a_link_that_others_hear():
    drop = Drop(options=POP3Options())
    assert b"USER" not in drop.hear(b"CAPA\r\n").splitlines()
    assert drop.hear(b"USER joe\r\n").startswith(b"-ERR [SYS/PERM]")
    assert drop.hear(b"PASS secret word\r\n").startswith(b"-ERR [SYS/PERM]")
    assert not drop.asked


def test_stat_list_and_uidl():
    drop = logged_in()
    assert drop.hear(b"STAT\r\n") == b"+OK 4 134\r\n"
    assert (
        drop.hear(b"LIST\r\n")
        == b"+OK 4 messages (134 octets)\r\n1 26\r\n2 8\r\n3 100\r\n4 0\r\n.\r\n"
    )
    assert drop.hear(b"LIST 3\r\n") == b"+OK 3 100\r\n"
    assert drop.hear(b"UIDL\r\n") == b"+OK\r\n1 u1\r\n2 u2\r\n3 u3\r\n4 u4\r\n.\r\n"
    assert drop.hear(b"UIDL 2\r\n") == b"+OK 2 u2\r\n"


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 1000])
def test_retr_sends_the_text_with_its_dots_stuffed(piece):
    drop = logged_in(piece=piece)
    assert drop.hear(b"RETR 1\r\n") == (
        b"+OK 26 octets\r\nA: 1\r\n\r\none\r\n..dot\r\nthree\r\n.\r\n"
    )
    assert drop.hear(b"RETR 4\r\n") == b"+OK 0 octets\r\n.\r\n"
    assert (Enough() in drop.asked) is (piece < 26), "not asked where all came at once"
    assert drop.session.transaction.retrieved == 2


def test_texts_that_came_with_another_are_not_asked_for():
    drop = logged_in()
    drop.session.receive(b"RETR 1\r\n" + b"TOP 2 0\r\nRETR 3\r\nRETR 3\r\nDELE 4\r\nRETR 4\r\n")
    assert drop.session.next_question() == Fetch(Entry("u1", 26))
    drop.session.answer(list(drop.texts.values()))
    assert drop.session.next_question() == Fetch(Entry("u3", 100)), "once only"
    drop.session.answer([drop.texts["u3"]])
    assert drop.session.next_question() is None
    said = drop.session.take_output()
    assert said.count(b"+OK 100 octets\r\n" + b"\r\n" * 50 + b".\r\n") == 2
    assert said.endswith(b"+OK message 4 deleted\r\n-ERR no such message\r\n")
    assert b"+OK\r\nA: 2\r\n\r\n.\r\n" in said
    assert drop.session.transaction.retrieved == 3


def test_texts_are_forgotten_when_the_maildrop_is_closed():
    drop = logged_in()
    drop.session.receive(b"RETR 1\r\n")
    assert isinstance(drop.session.next_question(), Fetch)
    drop.session.answer(list(drop.texts.values()))
    drop.session.transaction.end()
    drop.session.receive(b"RETR 2\r\n")
    assert isinstance(drop.session.next_question(), Fetch)


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 1000])
def test_top_sends_the_header_and_that_many_lines(piece):
    drop = logged_in(piece=piece)
    assert drop.hear(b"TOP 1 0\r\n") == b"+OK\r\nA: 1\r\n\r\n.\r\n"
    assert drop.hear(b"TOP 1 2\r\n") == b"+OK\r\nA: 1\r\n\r\none\r\n..dot\r\n.\r\n"
    assert drop.hear(b"TOP 1 99\r\n").endswith(b"three\r\n.\r\n")
    assert drop.session.transaction.retrieved == 0


def test_deleted_mail_leaves_the_listing():
    drop = logged_in()
    assert drop.hear(b"DELE 1\r\n") == b"+OK message 1 deleted\r\n"
    assert drop.hear(b"STAT\r\n") == b"+OK 3 108\r\n"
    assert drop.hear(b"LIST\r\n").splitlines()[1:] == [b"2 8", b"3 100", b"4 0", b"."]
    assert drop.hear(b"UIDL\r\n").splitlines()[1:] == [b"2 u2", b"3 u3", b"4 u4", b"."]
    for command in (b"LIST 1", b"UIDL 1", b"RETR 1", b"TOP 1 0", b"DELE 1"):
        assert drop.hear(command + b"\r\n") == b"-ERR no such message\r\n"
    assert drop.hear(b"RSET\r\n") == b"+OK 4 messages (134 octets)\r\n"
    assert drop.hear(b"LIST 1\r\n") == b"+OK 1 26\r\n"


def test_mail_is_removed_at_quit_and_only_then():
    drop = logged_in()
    drop.hear(b"DELE 1\r\nDELE 3\r\n")
    assert len(drop.texts) == 4
    assert drop.hear(b"QUIT\r\n") == b"+OK 2 deleted, goodbye\r\n"
    assert list(drop.texts) == ["u2", "u4"]
    assert drop.session.closed


def test_an_update_that_fails_says_so():
    drop = logged_in()
    drop.hear(b"DELE 1\r\n")
    drop.failure = TemporaryFailure("disk")
    said = drop.hear(b"QUIT\r\n")
    assert said.startswith(b"-ERR [SYS/TEMP] 0 deleted; ")
    assert drop.session.closed


def test_quit_before_login_asks_nothing():
    drop = Drop()
    assert drop.hear(b"QUIT\r\n") == b"+OK goodbye\r\n"
    assert not drop.asked


def test_a_wrong_password_and_a_taken_maildrop_leave_authorization():
    drop = Drop()
    assert drop.hear(b"USER joe\r\nPASS no\r\n") == b"+OK\r\n-ERR [AUTH] wrong name or password\r\n"
    assert drop.hear(b"PASS secret word\r\n") == b"-ERR USER first\r\n"
    drop.failure = MaildropLocked()
    assert drop.hear(b"USER joe\r\nPASS secret word\r\n").startswith(b"+OK\r\n-ERR [IN-USE] ")
    drop.failure = LoginTooSoon()
    assert drop.hear(b"USER joe\r\nPASS secret word\r\n").startswith(b"+OK\r\n-ERR [LOGIN-DELAY]")
    drop.failure = TemporaryFailure()
    assert drop.hear(b"USER joe\r\nPASS secret word\r\n").startswith(b"+OK\r\n-ERR [SYS/TEMP] ")
    assert drop.hear(b"STAT\r\n") == b"-ERR not in this state\r\n"
    assert drop.hear(b"USER joe\r\nPASS secret word\r\n").startswith(b"+OK\r\n+OK 4 messages")


def test_wrong_passwords_end_the_session():
    drop = Drop()
    said = drop.hear(b"USER joe\r\nPASS no\r\n" * 6)
    assert said.count(b"-ERR [AUTH]") == 5
    assert drop.session.closed


def test_what_is_pipelined_behind_pass_waits_for_it():
    said = Drop().hear(b"USER joe\r\nPASS secret word\r\nSTAT\r\nDELE 1\r\nQUIT\r\n")
    assert said.splitlines()[1:] == [
        b"+OK 4 messages (134 octets)",
        b"+OK 4 134",
        b"+OK message 1 deleted",
        b"+OK 1 deleted, goodbye",
    ]


def commands_of(states):
    """The commands that are allowed in exactly these states."""
    return [verb for verb, (where, _) in COMMANDS.items() if where == states]


@pytest.mark.parametrize("verb", commands_of(TRANSACTION))
def test_mail_is_out_of_reach_before_login(verb):
    assert Drop().hear(verb + b" 1\r\n") == b"-ERR not in this state\r\n"


@pytest.mark.parametrize("verb", commands_of(AUTHORIZATION))
def test_nobody_logs_in_twice(verb):
    assert logged_in().hear(verb + b" x\r\n") == b"-ERR not in this state\r\n"


def test_every_command_has_its_states():
    assert set(commands_of(ANYWHERE)) == {b"CAPA", b"LANG", b"QUIT"}


@pytest.mark.parametrize(
    "line",
    [
        b"RETR",
        b"RETR x",
        b"RETR 0",
        b"RETR 5",
        b"RETR -1",
        b"RETR 1.0",
        b"RETR 99999999999999999999",
        b"RETR \xb2",
        b"LIST x",
        b"LIST 1 2",
        b"UIDL 9",
        b"TOP 1",
        b"TOP",
        b"TOP 1 x",
        b"TOP 1 -1",
        b"DELE",
        b"STAT 1",
        b"NOOP x",
        b"RSET x",
        b"CAPA x",
        b"QUIT x",
        b"LAST",
        b"",
        b"\x00",
        b"STAT\r",
        b"NOOP " + b"x" * 5000,
    ],
)
def test_wrong_commands_cost_one_reply(line):
    drop = logged_in()
    assert drop.hear(line + b"\r\nNOOP\r\n").startswith(b"-ERR ")
    assert drop.hear(b"NOOP\r\n") == b"+OK\r\n"


def test_a_line_may_end_with_lf_alone():
    drop = logged_in()
    assert drop.hear(b"DELE 1\n") == b"+OK message 1 deleted\r\n"
    assert drop.hear(b"STAT\nNOOP\r\n").startswith(b"+OK 3 ")


def test_the_log_does_not_blame_the_command_before_for_too_many():
    drop = Drop()
    drop.hear(b"CAPA\r\n" * 201)
    (refusal,) = drop.session.refusals.take()
    assert (refusal.command, refusal.reply) == ("", "-ERR too many commands without a login")


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nQUIT\r\n",
        b"\x16\x03\x01\x00\n",
        b"post /x",
        b"REPORT / HTTP/1.1\r\nQUIT\r\n",
        b"host: x\nQUIT\r\n",
    ],
)
def test_a_client_of_another_protocol_is_disconnected(said):
    drop = Drop()
    assert drop.hear(said) == b"-ERR this is POP3, and nothing else; closing the connection\r\n"
    assert drop.session.closed


def test_errors_end_the_session():
    drop = logged_in()
    said = drop.hear(b"FROBNICATE\r\n" * 30)
    assert said.splitlines()[-1] == b"-ERR too many errors"
    assert said.count(b"\r\n") == 21
    assert drop.session.closed


def test_a_message_that_cannot_be_read_costs_itself():
    drop = logged_in()
    drop.failure = MessageGone("gone")
    assert drop.hear(b"RETR 1\r\n").startswith(b"-ERR [SYS/TEMP] ")
    assert drop.hear(b"RETR 2\r\n") == b"+OK 8 octets\r\nA: 2\r\n\r\n.\r\n"


@pytest.mark.parametrize("text", [b"A: 1\r\n\r\nshort\r\n", b"A: 1\r\n\r\n" + b"long\r\n" * 20])
def test_octets_that_list_did_not_promise_break_the_link(text):
    drop = logged_in(piece=10)
    drop.texts["u1"] = text
    said = drop.hear(b"RETR 1\r\nNOOP\r\n")
    assert not said.endswith(b".\r\n")
    assert drop.session.broken
    assert drop.session.closed


def test_a_text_that_breaks_off_breaks_the_link():
    drop = logged_in(piece=10)
    drop.session.receive(b"RETR 3\r\n")
    assert isinstance(drop.session.next_question(), Fetch)
    drop.session.answer([b"\r\n" * 5])
    assert isinstance(drop.session.next_question(), More)
    drop.session.answer(MessageGone("gone"))
    assert drop.session.broken


def test_a_long_listing_takes_breath():
    drop = Drop([b"x\r\n"] * 25_000)
    drop.hear(b"USER joe\r\nPASS secret word\r\n")
    for command in (b"LIST", b"UIDL"):
        drop.asked.clear()
        lines = drop.hear(command + b"\r\n").splitlines()
        assert len(lines) == 25_002
        assert len(drop.asked) >= 2
        assert {type(asked) for asked in drop.asked} == {Yield}


def test_many_replies_take_breath():
    session = POP3Session(CLEAR, POP3Limits(commands=10_000))
    session.receive(b"CAPA\r\n" * 10_000)
    said = 0
    while session.next_question() is not None:
        assert session.unsent < 2 * OUTPUT_QUANTUM
        said += len(session.take_output())
        session.answer(None)
    assert said + session.unsent > 1_000_000


def test_what_was_sent_whole_and_stays_is_told_at_the_end():
    drop = logged_in()
    drop.hear(b"RETR 1\r\nRETR 2\r\nTOP 3 0\r\nDELE 2\r\nRETR 9\r\nQUIT\r\n")
    update = drop.asked[-1]
    assert [entry.uidl for entry in update.entries] == ["u2"]
    assert [entry.uidl for entry in update.collected] == ["u1"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (2, b"+OK 2 deleted, goodbye"),
        (3, b"+OK 3 deleted, goodbye"),  # one had only been collected
        (TemporaryFailure(), b"-ERR [SYS/TEMP] 0 deleted; not all could be removed"),
        (NotAllRemoved("", 1), b"-ERR [SYS/TEMP] 1 deleted; not all could be removed"),
    ],
    ids=repr,
)
def test_quit_says_how_many_are_gone(answer, said):
    drop = logged_in()
    drop.hear(b"RETR 3\r\nDELE 1\r\nDELE 2\r\n")
    drop.session.receive(b"QUIT\r\n")
    assert isinstance(drop.session.next_question(), Update)
    drop.session.answer(answer)
    assert drop.session.take_output() == said + b"\r\n"
    assert drop.session.closed
