"""LMTP as the rules see it (RFC 2033)."""

from __future__ import annotations

import pytest

from postoffice.model import reply
from postoffice.model.errors import NoSpace, TemporaryFailure
from postoffice.model.reply import Reply
from postoffice.smtp.questions import Abort, Begin, End, Pause

TAKEN = Reply(250, "2.0.0", "Taken")
FULL = Reply(452, "4.2.2", "Full")
NEVER = Reply(550, "5.7.1", "Not this")

#: The two ways in which a text comes to its end.
WAYS = {"DATA": b"DATA\r\nhi\r\n.\r\n", "BDAT": b"BDAT 4 LAST\r\nhi\r\n"}


@pytest.fixture(params=WAYS)
def way(request):
    """A text, and what is said before its end."""
    return WAYS[request.param], ["354"] * (request.param == "DATA")


def test_the_greeting_says_which_protocol_it_is(office):
    assert office(lmtp=True).greeting == b"220 mail.example.net LMTP postoffice\r\n"


def test_lhlo_says_what_it_can(office):
    assert office(lmtp=True).hear(b"LHLO pc.example.org\r\n").decode().splitlines() == [
        "250-mail.example.net at your service",
        "250-PIPELINING",
        "250-SIZE 10000",
        "250-8BITMIME",
        "250-ENHANCEDSTATUSCODES",
        "250-SMTPUTF8",
        "250-CHUNKING",
        "250 LIMITS RCPTMAX=3",
    ]


@pytest.mark.parametrize("hello", [b"EHLO pc", b"HELO pc", b"EHLO", b"ehlo pc"])
def test_ehlo_and_helo_are_of_another_protocol(office, hello):
    client = office(lmtp=True)
    assert client.told(hello + b"\r\nMAIL FROM:<>\r\n") == ["500 5.5.1", "503 5.5.1"]


def test_lhlo_is_of_another_protocol_than_smtp(office):
    assert office().told(b"LHLO pc\r\nMAIL FROM:<>\r\n") == ["500 5.5.1", "250 2.1.0"]


@pytest.mark.parametrize(("name", "told"), [(b"", "501 5.5.4"), (b" a b", "250")])
def test_lhlo_needs_a_name(office, name, told):
    assert office(lmtp=True).told(b"LHLO" + name + b"\r\n") == [told]


def test_lhlo_ends_a_transaction(office):
    client = office.addressed(lmtp=True)
    assert client.told(b"LHLO pc\r\nDATA\r\n") == ["250", "503 5.5.1"]
    assert client.kinds == [Abort]


def test_the_trace_says_that_it_came_by_lmtp(office):
    client = office.greeted(lmtp=True)
    client.hear(b"MAIL FROM:<>\r\n")
    assert client.asked[-1].protocol == "LMTP"


@pytest.mark.parametrize("before", [b"", b"MAIL FROM:<>\r\n"])
def test_without_recipients_there_is_one_answer(office, way, before):
    octets, _ = way
    client = office.greeted(lmtp=True)
    client.hear(before)
    [command, *text] = octets.splitlines(keepends=True)
    assert client.told(command) + (client.told(text[0]) if b"BDAT" in command else []) == [
        "503 5.5.1"
    ]
    assert client.told(b"NOOP\r\n") == ["250 2.0.0"]


def test_recipients_that_were_refused_have_no_answer_behind_the_text(office, way):
    octets, before = way
    refusing = {"Recipient": lambda asked: reply.OK if asked.address else reply.UNKNOWN_RECIPIENT}
    client = office.greeted(lmtp=True, answers=refusing)
    talk = b"MAIL FROM:<>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<Postmaster>\r\n"
    assert client.told(talk + octets + b"NOOP\r\n") == [
        "250 2.1.0",
        "250 2.0.0",
        "550 5.1.1",
        *before,
        "250 2.0.0",
        "250 2.0.0",
    ]


@pytest.mark.parametrize(
    "outcomes",
    [[TAKEN, TAKEN], [TAKEN, FULL], [FULL, TAKEN], [NEVER, TAKEN], [FULL, NEVER], [NEVER, FULL]],
    ids=lambda outcomes: " ".join(str(one.code) for one in outcomes),
)
@pytest.mark.parametrize("tarpit", [0, 1])
def test_each_recipient_has_an_answer_in_the_order_of_the_commands(office, way, outcomes, tarpit):
    octets, before = way
    limits = {"errors": 1, "tarpit": tarpit}
    client = office.addressed(lmtp=True, limits=limits, answers={"End": outcomes})
    said = client.told(octets + b"NOOP\r\n")
    assert said == [*before, *(f"{one.code} {one.status}" for one in outcomes), "250 2.0.0"]
    assert client.kinds.count(Pause) == (tarpit and outcomes[0] == NEVER and TAKEN not in outcomes)
    assert client.session.taken == (TAKEN in outcomes)


@pytest.mark.parametrize(
    ("answer", "told"), [(NoSpace(), "452 4.3.1"), (TemporaryFailure("x"), "451 4.3.0")]
)
def test_what_concerns_all_is_told_for_each(office, way, answer, told):
    octets, before = way
    client = office.addressed(lmtp=True, answers={"End": answer})
    assert client.told(octets + b"NOOP\r\n") == [*before, told, told, "250 2.0.0"]


def test_a_text_that_is_refused_is_refused_for_each(office):
    client = office.addressed(lmtp=True)
    assert client.told(b"DATA\r\na\nb\r\n.\r\nNOOP\r\n") == [
        "354",
        "550 5.6.11",
        "550 5.6.11",
        "250 2.0.0",
    ]
    assert client.kinds == [Begin, Abort]


def test_it_is_one_error_however_many_hear_of_it(office):
    client = office.addressed(lmtp=True, limits={"errors": 2})
    client.hear(b"DATA\r\na\nb\r\n.\r\n")
    assert client.told(b"FROBNICATE\r\n" * 2) == ["500 5.5.1", "421 4.7.0"]


def test_nothing_is_said_behind_the_last_word(office, way):
    octets, before = way
    client = office.addressed(lmtp=True, limits={"errors": 0}, answers={"End": NEVER})
    assert client.told(octets) == [*before, "421 4.7.0"]
    assert client.session.closed


def test_before_the_last_chunk_there_is_one_answer(office):
    client = office.addressed(lmtp=True)
    assert client.told(b"BDAT 2\r\nhiBDAT 0\r\n") == ["250 2.0.0"] * 2
    assert client.told(b"BDAT 2 LAST\r\n\r\n") == ["250 2.0.0"] * 2
    assert client.kinds == [Begin, End]


def test_a_chunk_that_is_refused_before_the_last_has_one_answer(office):
    client = office.addressed(lmtp=True)
    assert client.told(b"BDAT 3\r\na\nbBDAT 1 LAST\r\nxNOOP\r\n") == [
        "550 5.6.11",
        "503 5.5.1",
        "250 2.0.0",
    ]


@pytest.mark.parametrize("last", [b"BDAT 3 LAST\r\na\nb", b"BDAT 1\r\naBDAT 2 LAST\r\n\nb"])
def test_the_last_chunk_is_refused_for_each(office, last):
    client = office.addressed(lmtp=True)
    assert client.told(last + b"NOOP\r\n")[-3:] == ["550 5.6.11", "550 5.6.11", "250 2.0.0"]


def test_a_delivery_that_cannot_begin_is_told_once_to_data_and_to_each_by_chunks(office):
    client = office.addressed(lmtp=True, answers={"Begin": NoSpace()})
    assert client.told(b"DATA\r\nNOOP\r\n") == ["452 4.3.1", "250 2.0.0"]
    client = office.addressed(lmtp=True, answers={"Begin": NoSpace()})
    assert client.told(b"BDAT 1 LAST\r\nxNOOP\r\n") == ["452 4.3.1", "452 4.3.1", "250 2.0.0"]


def test_the_next_message_has_recipients_of_its_own(office, way):
    octets, before = way
    client = office.addressed(lmtp=True)
    assert client.told(octets) == [*before, "250 2.0.0", "250 2.0.0"]
    client.hear(b"MAIL FROM:<>\r\nRCPT TO:<b@example.net>\r\n")
    assert client.told(octets) == [*before, "250 2.0.0"]
    assert client.session.taken == 2
