"""Replies, as servers of the world send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.hop import PeerReply
from postoffice.protocol.peer_text import TEXT_MAXIMUM
from postoffice.smtp.client_reply import (
    LINES_MAXIMUM,
    REPLY_MAXIMUM,
    NotAReply,
    ReplyReader,
    peer_reply,
)
from postoffice.testing import cut


def read(*pieces):
    """All replies in these octets, or NotAReply's words at the end."""
    reader, found = ReplyReader(), []
    try:
        for piece in pieces:
            reader.receive(piece)
            while (reply := reader.next()) is not None:
                found.append(reply)
    except NotAReply as why:
        found.append(str(why))
    return found


@pytest.mark.parametrize(
    ("octets", "code", "lines"),
    [
        (b"250 OK\r\n", 250, [b"OK"]),
        (b"250 OK\n", 250, [b"OK"]),
        (b"250\r\n", 250, [b""]),
        (b"250\tOK\r\n", 250, [b"OK"]),
        (b"250OK\r\n", 250, [b"OK"]),
        (b"250-one\r\n250 two\r\n", 250, [b"one", b"two"]),
        (b"250- one\n250-\n250\n", 250, [b"one", b"", b""]),
        (b"550-one\r\nno code\r\n550 two\r\n", 550, [b"one", b"no code", b"two"]),
        (b"250-one\r\n550 two\r\n", 550, [b"one", b"two"]),
    ],
)
def test_lines_end_and_go_on_in_many_ways(octets, code, lines):
    assert read(octets) == [(code, tuple(lines))]


@pytest.mark.parametrize(
    "octets", [b"hello\r\n", b"25 x\r\n", b"2500 x\r\n", b"150 x\r\n", b"\r\n"]
)
def test_what_has_no_code_is_no_reply(octets):
    assert "no reply" in read(octets)[0]


@pytest.mark.parametrize(
    "octets",
    [
        b"250-x\r\n" * (LINES_MAXIMUM + 1),
        b"250 " + b"x" * REPLY_MAXIMUM + b"\r\n",
        b"x" * (REPLY_MAXIMUM + 1),
        (b"250-" + b"x" * 1000 + b"\r\n") * 9,
    ],
)
def test_a_reply_has_its_bounds(octets):
    assert read(octets) == ["its reply is too long"]
    assert read(*[octets[n : n + 7] for n in range(0, len(octets), 7)]) == read(octets)


@pytest.mark.parametrize(
    ("lines", "status", "text"),
    [
        ([b"2.1.0 Fine"], "2.1.0", "Fine"),
        ([b"2.1.0"], "2.1.0", ""),
        ([b"2.1.0 one", b"2.1.0 two"], "2.1.0", "one two"),
        ([b"5.1.0 of another class"], "", "5.1.0 of another class"),
        ([b"2.1.0x"], "", "2.1.0x"),
        ([b"gr\xc3\xbcn\x1b[1m\tx"], "", r"gr\xc3\xbcn\x1b[1m x"),
        ([b"a\rb\0"], "", r"a\x0db\x00"),
    ],
)
def test_a_reply_has_a_status_and_one_printable_line(lines, status, text):
    assert peer_reply(250, tuple(lines), "mail") == PeerReply(250, status, text, "mail")


def test_a_long_text_is_cut():
    assert len(peer_reply(250, (b"x" * REPLY_MAXIMUM,), "mail").text) == TEXT_MAXIMUM


PARTS = st.sampled_from(
    [b"250", b"550", b" ", b"-", b"\r\n", b"\n", b"x" * 3000, b"\xff", b"2.1.0", b"421", b"\r"]
)


@given(st.lists(PARTS, max_size=40).map(b"".join), st.lists(st.integers(0, 10_000), max_size=8))
def test_replies_cut_anywhere_are_the_same(octets, cuts):
    assert read(*cut(octets, cuts)) == read(octets)
    for reply in read(octets):
        if isinstance(reply, tuple):
            assert peer_reply(*reply, "mail").text.isprintable()
