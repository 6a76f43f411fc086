"""How much of everything one client may have: the rules of a session's limits."""

from __future__ import annotations

import pytest

from postoffice.model import reply
from postoffice.model.reply import Reply
from postoffice.smtp.questions import Abort, Pause

ENVELOPE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n"
ERROR = "500 5.5.1"


# -- errors -----------------------------------------------------------------------


@pytest.mark.parametrize("errors", [0, 1, 7])
def test_the_error_after_the_last_is_the_end(office, errors):
    client = office.greeted(limits={"errors": errors})
    assert client.told(b"X\r\n" * errors) == [ERROR] * errors
    assert client.told(b"NOOP\r\nX\r\nNOOP\r\n") == ["250 2.0.0", "421 4.7.0"]
    assert client.session.closed


@pytest.mark.parametrize(
    "error",
    [
        b"X\r\n",
        b"DATA\r\n",
        b"NOOP\nRSET\r\n",
        b"\xff\r\n",
        b"MAIL FROM:<>x\r\n",
        b"x" * 5000 + b"\r\n",
        b"AUTH PLAIN\r\n",
        b"BDAT 2\r\nhi",
        b"XCLIENT ADDR=192.0.2.7\r\n",
    ],
)
def test_all_that_is_wrong_is_an_error(office, error):
    client = office.greeted(limits={"errors": 2})
    said = client.told(error * 3)
    assert [one[0] for one in said] == ["5", "5", "4"]
    assert said[2] == "421 4.7.0"


def test_a_refused_message_is_one_error(office):
    client = office.addressed(limits={"errors": 2})
    client.hear(b"DATA\r\na\nb\nc\r\n.\r\n")
    assert client.told(b"X\r\nX\r\n") == [ERROR, "421 4.7.0"]


def test_what_is_to_be_tried_again_is_no_error_of_the_client(office):
    later = {"Mail": reply.TRY_LATER}
    client = office.greeted(limits={"errors": 1}, answers=later)
    assert client.told(b"MAIL FROM:<>\r\n" * 5 + b"X\r\n") == ["451 4.3.0"] * 5 + [ERROR]


def test_a_message_does_not_buy_errors(office):
    client = office.addressed(limits={"errors": 2})
    assert client.told(b"X\r\nX\r\nDATA\r\n.\r\nX\r\n") == [
        ERROR,
        ERROR,
        "354",
        "250 2.0.0",
        "421 4.7.0",
    ]


def test_what_was_begun_is_given_up_at_the_end(office):
    client = office.addressed(limits={"errors": 0})
    assert client.told(b"X\r\n") == ["421 4.7.0"]
    assert client.kinds == [Abort]


# -- what is to be tried again ------------------------------------------------------


@pytest.mark.parametrize("question", ["Mail", "Recipient"])
def test_nobody_is_told_for_ever_to_try_again(office, question):
    """As many recipients as a message may have, and as many commands as bring none."""
    limits = {"errors": 0, "recipients": 3, "commands": 4}
    client = office.greeted(limits=limits, answers={question: reply.POLICY_LATER})
    again = b"MAIL FROM:<>\r\n"
    if question == "Recipient":
        client.hear(again)
        again = b"RCPT TO:<b@example.net>\r\n"
    assert client.told(again * 9) == ["451 4.7.1"] * 7 + ["421 4.7.0"]
    assert client.session.closed


def test_recipients_beyond_the_limit_are_not_refused_for_ever(office):
    client = office.addressed(limits={"recipients": 2, "commands": 1})
    said = client.told(b"RCPT TO:<c@example.net>\r\n" * 5)
    assert said == ["452 4.5.3"] * 3 + ["421 4.7.0"]


def test_a_message_buys_more_tries(office):
    client = office.addressed(limits={"recipients": 2, "commands": 1})
    again = b"RCPT TO:<c@example.net>\r\n"
    assert client.told(again * 2 + b"DATA\r\n.\r\n")[2:] == ["354", "250 2.0.0"]
    assert client.told(ENVELOPE + again * 3)[-1] == "452 4.5.3"


# -- the tarpit -------------------------------------------------------------------


def test_after_half_of_its_errors_a_client_is_slowed(office):
    client = office.greeted(limits={"errors": 6, "tarpit": 5})
    assert client.told(b"X\r\n" * 7) == [ERROR] * 6 + ["421 4.7.0"]
    assert client.asked == [Pause(5)] * 3


def test_what_is_no_error_is_not_slowed(office):
    client = office.greeted(limits={"errors": 1, "tarpit": 5}, answers={"Mail": reply.TRY_LATER})
    client.hear(b"X\r\n")
    client.asked.clear()
    client.hear(b"NOOP\r\nMAIL FROM:<>\r\n")
    assert Pause not in client.kinds


def test_a_tarpitted_client_gets_all_replies_in_order_afterwards(office):
    session = office(limits={"errors": 1, "tarpit": 5}).session
    session.receive(b"X\r\nNOOP\r\n")
    assert session.next_question() == Pause(5)
    assert session.take_output() == b""
    session.receive(b"NOOP\r\n")
    session.answer(None)
    assert session.next_question() is None
    codes = [line[:3] for line in session.take_output().splitlines()]
    assert codes == [b"500", b"250", b"250"]


def test_a_goodbye_does_not_wait_for_the_pause(office):
    session = office(limits={"errors": 1, "tarpit": 5}).session
    session.receive(b"X\r\n")
    assert session.next_question() == Pause(5)
    session.dismiss(reply.SHUTTING_DOWN)
    session.answer(None)
    assert session.next_question() is None
    assert session.take_output() == reply.SHUTTING_DOWN.wire


# -- commands -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "idle", [b"NOOP", b"RSET", b"VRFY x", b"HELP", b"EHLO pc", b"HELO pc", b"AUTH PLAIN *", b"noop"]
)
def test_commands_that_bring_no_mail_are_limited(office, idle):
    login = {"mechanisms": ("PLAIN",), "passwords": True}
    client = office(limits={"commands": 3, "errors": 100}, **login)
    said = client.told((idle + b"\r\n") * 5)
    assert "421 4.7.0" not in said[:3]
    assert said[3:] == ["421 4.7.0"]
    assert client.session.closed


def test_so_are_chunks_of_nothing(office):
    client = office.addressed(limits={"commands": 3})
    assert client.told(b"BDAT 0\r\n" * 3) == ["250 2.0.0"] * 2 + ["421 4.7.0"], "EHLO was one"
    client = office.addressed(limits={"commands": 2})
    assert client.told(b"BDAT 0\r\nBDAT 0 LAST\r\n") == ["250 2.0.0"] * 2


def test_so_is_lhlo(office):
    client = office(lmtp=True, limits={"commands": 1})
    assert client.told(b"LHLO pc\r\nLHLO pc\r\n") == ["250", "421 4.7.0"]


def test_a_message_buys_more_commands(office):
    client = office(limits={"commands": 2})
    talk = b"EHLO pc\r\nNOOP\r\n" + ENVELOPE + b"DATA\r\n.\r\n"
    assert client.told(talk * 3)[-1] == "250 2.0.0"
    assert client.told(b"NOOP\r\n" * 3) == ["250 2.0.0", "250 2.0.0", "421 4.7.0"]


def test_a_message_that_was_refused_buys_none(office):
    never = {"End": Reply(550, "5.7.1", "Spam")}
    client = office(limits={"commands": 2}, answers=never)
    talk = b"EHLO pc\r\n" + ENVELOPE + b"DATA\r\n.\r\n"
    assert client.told(talk * 3)[-1] == "421 4.7.0"


def test_rset_does_not_make_endless_transactions(office):
    client = office.greeted(limits={"commands": 5})
    assert client.told((ENVELOPE + b"RSET\r\n") * 10)[-1] == "421 4.7.0"


def test_commands_within_a_message_are_not_counted(office):
    client = office.addressed(limits={"commands": 1, "recipients": 1000})
    assert client.told(b"RCPT TO:<b@example.net>\r\n" * 500) == ["250 2.1.5"] * 500


# -- recipients -----------------------------------------------------------------------


def test_recipients_that_were_refused_take_no_place(office):
    never = {"Recipient": lambda asked: reply.UNKNOWN_RECIPIENT if not asked.address else reply.OK}
    client = office.greeted(limits={"recipients": 1}, answers=never)
    talk = b"RCPT TO:<Postmaster>\r\n" * 2 + b"RCPT TO:<b@example.net>\r\n" * 2
    assert client.told(b"MAIL FROM:<>\r\n" + talk)[1:] == [
        "550 5.1.1",
        "550 5.1.1",
        "250 2.0.0",
        "452 4.5.3",
    ]


def test_each_message_has_room_for_as_many(office):
    client = office.greeted(limits={"recipients": 1})
    talk = ENVELOPE + b"RCPT TO:<c@example.net>\r\n"
    told = ["250 2.1.0", "250 2.1.5", "452 4.5.3"]
    assert client.told(talk + b"RSET\r\n" + talk) == [*told, "250 2.0.0", *told]


def test_as_many_are_promised_as_are_taken(office):
    client = office(limits={"recipients": 2})
    assert b"250-LIMITS RCPTMAX=2\r\n" in client.hear(b"EHLO pc\r\n")
    assert client.told(ENVELOPE + b"RCPT TO:<c@example.net>\r\n" * 2)[1:] == [
        "250 2.1.5",
        "250 2.1.5",
        "452 4.5.3",
    ]


def test_one_refusal_may_end_it(office):
    client = office.addressed(answers={"Recipient": reply.RECIPIENT_OK})
    client.answers["Recipient"] = reply.TOO_MANY_UNKNOWN
    assert client.told(b"RCPT TO:<x@example.net>\r\nNOOP\r\n") == ["421 4.7.1"]
    assert client.session.closed
    assert client.kinds[-1] is Abort


# -- signs of life ----------------------------------------------------------------------


def test_commands_and_enough_of_a_text_are_signs_of_life(office):
    client = office.addressed(limits={"pace": 100, "text_line": 10_000})

    def grows(octets):
        before = client.session.progress
        client.hear(octets)
        return client.session.progress - before

    assert grows(b"NOOP\r\n") == 1
    assert grows(b"NO") == 0
    assert grows(b"OP\r\nDATA\r\n") == 2
    assert grows(b"x" * 99) == 0
    assert grows(b"x") == 1
    assert [grows(b"x") for _ in range(100)] == [0] * 99 + [1]
    assert grows(b"\n") == 0
