"""BDAT as the rules see it (RFC 3030)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model import reply
from postoffice.model.errors import NoSpace
from postoffice.smtp.questions import Abort, Begin, End, Mail, Recipient
from postoffice.testing import cut

ENVELOPE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n"
#: Looks like commands, and must never be taken for any.
EVIL = b"MAIL FROM:<evil@example.org>\r\nQUIT\r\n"


def bdat(octets: bytes, last: bool = False) -> bytes:
    """A chunk."""
    return b"BDAT %d%b\r\n%b" % (len(octets), b" LAST" * last, octets)


@pytest.fixture
def client(office):
    return office.addressed()


# -- as it should be ------------------------------------------------------------


def test_a_message_in_one_chunk(client):
    assert client.told(bdat(b"Subject: x\r\n\r\nhi\r\n", last=True)) == ["250 2.0.0"]
    assert client.kinds == [Begin, End]
    assert client.text == b"Subject: x\r\n\r\nhi\r\n"


def test_a_message_in_several(client):
    assert client.hear(bdat(b"one\r\n")) == b"250 2.0.0 Chunk taken\r\n"
    assert client.session.in_text
    assert client.hear(bdat(b"two\r\n")) == b"250 2.0.0 Chunk taken\r\n"
    assert client.hear(bdat(b"three\r\n", last=True)) == b"250 2.0.0 Taken\r\n"
    assert not client.session.in_text
    assert client.kinds == [Begin, End]
    assert client.text == b"one\r\ntwo\r\nthree\r\n"


def test_a_message_that_is_ended_by_nothing(client):
    assert client.told(bdat(b"one\r\n") + b"bdat 0 last\r\n") == ["250 2.0.0"] * 2
    assert client.text == b"one\r\n"
    assert client.kinds == [Begin, End]


def test_a_message_without_a_text(client):
    assert client.told(b"BDAT 0\r\nBDAT 0 LAST\r\n") == ["250 2.0.0"] * 2
    assert client.kinds == [Begin, End]
    assert client.text == b""


def test_all_of_it_pipelined(office):
    client = office.greeted()
    talk = ENVELOPE + bdat(b"one\r\n") + bdat(b"two\r\n", last=True)
    assert client.told(talk + talk + b"QUIT\r\n") == [
        *["250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.0.0"] * 2,
        "221 2.0.0",
    ]
    assert client.kinds == [Mail, Recipient, Begin, End] * 2
    assert client.session.taken == 2


def test_dots_mean_nothing(client):
    text = b".\r\n..\r\n\r\n.\r\nQUIT\r\n"
    assert client.told(bdat(text, last=True)) == ["250 2.0.0"]
    assert client.text == text


def test_a_last_line_without_its_end_gets_one(client):
    assert client.told(bdat(b"one\r\ntw") + bdat(b"o", last=True)) == ["250 2.0.0"] * 2
    assert client.text == b"one\r\ntwo\r\n"


def test_a_line_end_may_be_cut_in_two(client):
    assert client.told(bdat(b"one\r") + bdat(b"\ntwo\r") + bdat(b"\n", last=True))[-1] == (
        "250 2.0.0"
    )
    assert client.text == b"one\r\ntwo\r\n"


@given(st.lists(st.integers(0, 26), max_size=6))
def test_chunks_may_be_cut_anywhere(office, cuts):
    text = b"Subject: x\r\n\r\n.\r\none\r\n\r\ntwo"
    edges = sorted({0, len(text), *cuts})
    chunks = [bdat(text[start:end], last=end == len(text)) for start, end in pairwise(edges)]
    client = office.addressed()
    assert client.told(b"".join(chunks)) == ["250 2.0.0"] * len(chunks)
    assert client.text == text + b"\r\n"


def test_a_chunk_may_come_octet_by_octet(client):
    talk = bdat(b"one\r\ntwo\r\n") + bdat(b"three\r\n", last=True) + b"NOOP\r\n"
    said = [client.hear(bytes([octet])) for octet in talk]
    assert b"".join(said) == (b"250 2.0.0 Chunk taken\r\n250 2.0.0 Taken\r\n250 2.0.0 OK\r\n")
    assert client.text == b"one\r\ntwo\r\nthree\r\n"


def test_nothing_is_said_before_the_chunk_is_whole(client):
    assert client.hear(b"BDAT 10 LAST\r\n12345") == b""
    assert End not in client.kinds
    assert client.told(b"67890") == ["250 2.0.0"]


def test_a_chunk_that_is_eaten_is_text(office):
    client = office.greeted()
    client.hear(b"BDAT 10\r\n12345")
    assert client.session.in_text
    client.hear(b"67890")
    assert not client.session.in_text


def test_the_largest_text_is_taken(client):
    line = b"x" * 998 + b"\r\n"
    assert client.told(bdat(line * 5) + bdat(line * 5, last=True)) == ["250 2.0.0"] * 2


@pytest.mark.parametrize("between", [b"NOOP", b"VRFY b", b"HELP"])
def test_what_does_not_end_a_transaction_may_stand_between_chunks(client, between):
    client.hear(bdat(b"one\r\n"))
    assert client.told(between + b"\r\n")[0][0] == "2"
    assert client.told(bdat(b"two\r\n", last=True)) == ["250 2.0.0"]
    assert client.text == b"one\r\ntwo\r\n"


# -- out of order ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (b"", "503 5.5.1"),
        (b"MAIL FROM:<a@example.org>\r\n", "554 5.5.1"),
        (ENVELOPE + b"RSET\r\n", "503 5.5.1"),
        (ENVELOPE + bdat(b"", last=True), "503 5.5.1"),
    ],
    ids=["before MAIL", "before RCPT", "after RSET", "after LAST"],
)
@pytest.mark.parametrize("last", [True, False])
def test_a_chunk_out_of_order_is_eaten(office, before, told, last):
    client = office.greeted()
    client.hear(before)
    client.asked.clear()
    assert client.told(bdat(EVIL, last) + b"NOOP\r\n") == [told, "250 2.0.0"]
    assert not {Mail, Begin, End} & set(client.kinds)
    assert client.text == b""
    assert client.told(ENVELOPE + bdat(b"hi\r\n", last=True))[-1] == "250 2.0.0"


def test_the_envelope_is_forgotten_with_a_chunk_that_had_no_recipients(office):
    client = office.greeted()
    client.hear(b"MAIL FROM:<a@example.org>\r\n" + bdat(b"hi\r\n"))
    assert client.kinds == [Mail, Abort]
    assert client.told(b"RCPT TO:<b@example.net>\r\n") == ["503 5.5.1"]


@pytest.mark.parametrize(
    "between", [b"DATA", b"MAIL FROM:<a@example.org>", b"RCPT TO:<c@example.net>"]
)
def test_between_chunks_there_is_no_place_for_it(client, between):
    client.hear(bdat(b"one\r\n"))
    assert client.told(between + b"\r\n") == ["503 5.5.1"]
    assert client.told(bdat(b"two\r\n", last=True)) == ["250 2.0.0"], "the text goes on"
    assert client.text == b"one\r\ntwo\r\n"


def test_a_message_by_data_may_follow(client):
    client.hear(bdat(b"one\r\n", last=True))
    assert client.told(ENVELOPE + b"DATA\r\ntwo\r\n.\r\n")[-2:] == ["354", "250 2.0.0"]
    assert client.told(ENVELOPE + bdat(b"three\r\n", last=True))[-1] == "250 2.0.0"
    assert client.text == b"one\r\ntwo\r\nthree\r\n"


@pytest.mark.parametrize("again", [b"RSET\r\n", b"EHLO pc\r\n", b"HELO pc\r\n"])
def test_a_text_is_given_up_between_chunks(client, again):
    client.hear(bdat(b"one\r\n"))
    assert client.told(again)[0][:3] == "250"
    assert client.kinds == [Begin, Abort]
    assert not client.session.in_text
    assert client.told(ENVELOPE + bdat(b"two\r\n", last=True))[-1] == "250 2.0.0"
    assert client.kinds == [Begin, Abort, Mail, Recipient, Begin, End]


def test_data_may_follow_chunks_that_were_given_up(client):
    client.hear(bdat(b"one\r\n") + b"RSET\r\n")
    assert client.told(ENVELOPE + b"DATA\r\ntwo\r\n.\r\n")[-2:] == ["354", "250 2.0.0"]
    assert client.kinds == [Begin, Abort, Mail, Recipient, Begin, End]


def test_rset_within_a_chunk_is_text(client):
    assert client.told(bdat(b"RSET\r\n", last=True)) == ["250 2.0.0"]
    assert client.text == b"RSET\r\n"


# -- what is refused --------------------------------------------------------------


@pytest.mark.parametrize(
    "argument",
    [b"", b" LAST", b" x", b" -1", b" +1", b" 0x5", b" 1.5", b" 5 FIRST", b" 5LAST", b" 5 LAST 5"]
    + [b" 5 5", b" \xd9\xa5", b" " + b"9" * 21],
)
def test_a_chunk_that_does_not_say_where_it_ends_is_the_end(client, argument):
    assert client.told(b"BDAT" + argument + b"\r\n" + EVIL) == ["501 5.5.4"]
    assert client.session.closed
    assert client.kinds == [Abort]


REFUSED = {
    "bare LF": (b"one\ntwo\r\n", "550 5.6.11"),
    "bare CR": (b"one\rtwo\r\n", "550 5.6.11"),
    "a long line": (b"x" * 1001 + b"\r\n", "550 5.6.0"),
    "a loop": (b"Received: by x\r\n" * 100, "554 5.4.6"),
    "too large": (b"0123456\r\n" * 1200, "552 5.3.4"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("size", [7, 100_000])
def test_a_refused_chunk_is_read_to_its_end(client, replies, what, last, size):
    text, told = REFUSED[what]
    talk = bdat(text + EVIL, last) + b"NOOP\r\n"
    said = b"".join(client.hear(piece) for piece in cut(talk, range(0, len(talk), size)))
    assert replies(said) == [told, "250 2.0.0"]
    assert client.kinds == [Begin, Abort]
    assert client.told(b"DATA\r\n" + ENVELOPE)[:2] == ["503 5.5.1", "250 2.1.0"]


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_chunk_with_two_faults_is_refused_for_the_same_one_however_it_comes(
    client, replies, size
):
    talk = bdat(b"x" * 1001 + b"\r\n" + b"y\n", last=True)
    said = b"".join(client.hear(piece) for piece in cut(talk, range(0, len(talk), size)))
    assert replies(said) == ["550 5.6.11"]
    assert client.kinds == [Begin, Abort]


def test_chunks_behind_a_refused_one_are_eaten_and_refused(client):
    talk = bdat(b"one\n") + bdat(EVIL) + bdat(EVIL, last=True) + b"NOOP\r\n"
    assert client.told(talk) == ["550 5.6.11", "503 5.5.1", "503 5.5.1", "250 2.0.0"]
    assert client.kinds == [Begin, Abort]
    assert client.text == b""


def test_all_chunks_together_have_the_size_of_a_message(client):
    line = b"x" * 998 + b"\r\n"
    assert client.told(bdat(line * 5) + bdat(line * 5)) == ["250 2.0.0"] * 2
    assert client.told(bdat(b"\r\n", last=True)) == ["552 5.3.4"]
    assert client.kinds == [Begin, Abort]


@pytest.mark.parametrize("octets", [20_001, 10**19])
def test_a_chunk_that_nobody_would_wait_for_is_the_end(client, octets):
    assert client.told(b"BDAT %d LAST\r\n" % octets + EVIL) == ["552 5.3.4"]
    assert client.session.closed
    assert client.kinds == [Abort]


@pytest.mark.parametrize(
    "chunks",
    [[b"one\r", b"two\r\n"], [b"one\r\n", b"\ntwo\r\n"], [b"one", b"\r"], [b"\r"], [b"one\r", b""]],
)
def test_half_a_line_end_is_found_at_the_edge_of_a_chunk(client, chunks):
    *first, last = chunks
    said = client.told(b"".join(map(bdat, first)) + bdat(last, last=True))
    assert said == ["250 2.0.0"] * len(first) + ["550 5.6.11"]
    assert End not in client.kinds


@pytest.mark.parametrize("last", [True, False])
def test_a_delivery_that_cannot_begin_is_told_behind_the_chunk(office, last):
    client = office.addressed(answers={"Begin": NoSpace()})
    assert client.hear(b"BDAT 4%b\r\nhi" % (b" LAST" * last)) == b""
    assert client.told(b"\r\nNOOP\r\n") == ["452 4.3.1", "250 2.0.0"]
    assert client.kinds == [Begin, Abort]
    assert client.told(bdat(EVIL)) == ["503 5.5.1"]


def test_a_text_that_cannot_be_kept_is_told_behind_its_chunk(office):
    client = office.addressed(answers={"Text": NoSpace()})
    assert client.hear(b"BDAT %d\r\none" % (3 + len(EVIL))) == b""
    assert client.told(EVIL + bdat(b"two\r\n", last=True)) == ["452 4.3.1", "503 5.5.1"]
    assert client.kinds == [Begin, Abort]


def test_a_text_that_is_not_taken_leaves_no_transaction(office):
    client = office.addressed(answers={"End": reply.Reply(550, "5.7.1", "Spam")})
    assert client.told(bdat(b"buy\r\n", last=True) + bdat(b"x")) == ["550 5.7.1", "503 5.5.1"]
    assert client.session.taken == 0


def test_the_office_may_close_in_the_middle_of_a_chunk(client):
    client.hear(b"BDAT 100\r\none")
    client.session.dismiss(reply.SHUTTING_DOWN)
    assert client.told(EVIL) == ["421 4.3.2"]
    assert client.kinds == [Begin, Abort]
