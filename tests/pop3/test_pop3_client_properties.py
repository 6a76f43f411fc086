"""Anything a server may say, cut anywhere: the same outcome, and no answer is made up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from postoffice.pop3.client_commands import LIST, STAT, UIDL, Ended, TextPiece, retr, top
from postoffice.pop3.client_listing import read_lines, read_sizes, read_stat
from postoffice.protocol.wire import DotWriter
from postoffice.testing import cut
from tests.pop3.client_peers import Client

SAID = [
    *(b"+OK\r\n", b"-ERR no\r\n", b"+OK 2 9\r\n", b"-ERR [IN-USE] x\r\n", b"+ \r\n", b"+OK\n"),
    *(b".\r\n", b"..\r\n", b"text\r\n", b"\r\n", b"\r", b"\n", b"1 abc\r\n", b"x" * 5000, b"\x00"),
    *(
        b"+OK\r\nUSER\r\nPIPELINING\r\n.\r\n",
        b"+OK\r\nSTLS\r\nSASL PLAIN\r\n.\r\n",
        b"+OK ready\r\n",
    ),
]
TEXTS = st.lists(
    st.sampled_from([b".", b"\r\n", b"x", b"\r", b"\n", b"\r\n.", b"\xff"]), max_size=20
)


def outcome(client):
    session = client.session
    return client.said, client.events, session.failed, session.state, session.heard


@given(said=st.lists(st.sampled_from(SAID), max_size=25), places=st.lists(st.integers(0, 400)))
def test_a_server_cut_anywhere_says_the_same(said, places):
    whole, pieces = (Client(UIDL, LIST, retr(1), top(2), STAT) for _ in range(2))
    for burst in said:
        whole.hear(burst)
        pieces.hear(*cut(burst, places))
    assert outcome(whole) == outcome(pieces)
    for event in whole.events:
        if isinstance(event, Ended):
            assert event.reply.text.isprintable()


@given(
    texts=st.lists(TEXTS.map(b"".join), min_size=1, max_size=6), places=st.lists(st.integers(0, 99))
)
def test_texts_arrive_as_they_were_sent(texts, places):
    client = Client.entered(*(retr(n) for n, _ in enumerate(texts, 1)))
    said = b""
    for text in texts:
        dots = DotWriter()
        said += b"+OK\r\n" + dots.write(text) + dots.end()
    client.hear(*cut(said, places))
    assert len(client.replies) == len(texts)
    whole = {
        event.command.number: event.octets
        for event in client.events
        if isinstance(event, TextPiece)
    }
    for n, text in enumerate(texts, 1):
        sent = text if not text or text.endswith(b"\r\n") else text + b"\r\n"
        assert whole.get(n, b"") == sent


@given(
    st.lists(
        st.sampled_from(
            [b"1 a", b"2 b c", b"1 x", b"0 x", b"9" * 30, b" 3  c", b"-1 x", b"\xff", b"7"]
        )
    )
)
def test_lists_are_read_whatever_they_say(lines):
    text = b"".join(line + b"\r\n" for line in lines)
    found = read_lines(text)
    assert set(found.values) <= {1, 2, 3}
    assert len(found.values) + len(found.wrong) <= len(lines)
    sizes = read_sizes(text)
    assert sizes.values == {}
    assert len(sizes.wrong) <= 10 or not lines


def test_what_stat_and_list_say():
    assert read_stat("2 320 more") == (2, 320)
    assert read_stat("2 messages") is None
    sizes = read_sizes(b"1 120\r\n2 x\r\n3 5 odd\r\n")
    assert (sizes.values, sizes.wrong) == ({1: 120, 3: 5}, ["2 x"])
