"""Lines, dots, and the line ends we refuse: any octets, cut anywhere."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postoffice.testing import cut
from postoffice.wire import (
    BareLineEnd,
    DotWriter,
    FieldCounter,
    LineReader,
    LineTooLong,
    TextReader,
    TopReader,
)

#: Octets that are mostly the ones that matter.
SPIKY = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b".", b"x", b"\r\n.", b"\r\n.\r\n", b"\0", b"Received:"]
    )
).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=8)


def read(octets: bytes, cuts: list[int], maximum_line: int = 20):
    """What a TextReader makes of octets that come in pieces."""
    reader = TextReader(maximum_line)
    text = b""
    parts = cut(octets, cuts)
    while parts:
        got, rest = reader.feed(parts.pop(0))
        text += got
        if reader.ended:
            rest += b"".join(parts)
            break
    else:
        rest = b""
    return text, rest, reader.ended, reader.bare, reader.overlong, reader.received, reader.size


def by_the_book(octets: bytes, maximum_line: int = 20):
    """The same, slowly: RFC 5321 §4.5.2 said once more, for whole texts."""
    end = (b"\r\n" + octets).find(b"\r\n.\r\n")
    raw = octets[:end] if end > 0 else b""
    rest = octets[end + 3 :]
    text = re.sub(rb"(?:(?<=\r\n)|\A)\.", b"", raw)
    lone = raw.replace(b"\r\n", b"")
    bare = b"\r" in lone or b"\n" in lone
    overlong = any(len(line) > maximum_line for line in re.split(rb"\r?\n", raw))
    return text, rest, bare, overlong


@given(SPIKY, CUTS, SPIKY)
@example(b"", [], b"QUIT")
@example(b"..\r\n.", [1, 2, 3], b"")
@example(b"a\r\r\n", [2], b"")
@example(b"\r\n.\r", [4], b"")
def test_a_text_is_read_by_the_book(text, cuts, behind):
    octets = text + b"\r\n.\r\n" + behind
    got = read(octets, cuts)
    expected = by_the_book(octets)
    assert (got[0], got[1], got[3]) == expected[:3]
    assert got[2]
    assert got[6] == len(got[0])
    if not got[3]:  # where lines are lines
        assert got[4] == expected[3]


@given(SPIKY, CUTS)
def test_a_text_reads_the_same_in_pieces_as_whole(octets, cuts):
    whole, parts = read(octets, []), read(octets, cuts)
    if whole[2]:
        assert whole == parts
    else:
        assert not parts[2]


@pytest.mark.parametrize(
    "trick",
    [
        b"\n.\n",
        b"\n.\r",
        b"\r.\n",
        b"\r.\r",
        b"\n.\r\n",
        b"\r.\r\n",
        b"\r\n\0.\r\n",
        b"\r\n.\n",
        b"\r\n.\r\r\n",
        b"\r\n.\r",
        b"\r\n\r.\r\n",
    ],
)
def test_only_crlf_dot_crlf_ends_a_text(trick):
    reader = TextReader(1000)
    _, rest = reader.feed(b"hello" + trick + b"MAIL FROM:<evil@example.net>")
    assert not reader.ended
    assert rest == b""
    if b"\0" not in trick:
        reader.feed(b"\r\n.\r\n")
        assert reader.bare


def test_a_line_may_have_the_maximum_and_not_one_more():
    for length, overlong in ((19, False), (20, False), (21, True), (22, True), (23, True)):
        text = b"a\r\n" + b"x" * length + b"\r\nb\r\n.\r\n"
        for place in range(len(text)):
            assert read(text, [place])[4] is overlong, (length, place)


@given(
    st.lists(st.sampled_from([b"Received: x", b"received:", b" Received: no", b"X: y", b""])), CUTS
)
def test_received_fields_are_counted_in_the_header_only(lines, cuts):
    text = b"".join(line + b"\r\n" for line in lines)
    header = lines[: lines.index(b"")] if b"" in lines else lines
    expected = sum(line.lower().startswith(b"received:") for line in header)
    counter = FieldCounter(b"Received")
    for piece in cut(text, cuts):
        counter.feed(piece)
    assert counter.count == expected


@given(SPIKY, CUTS)
def test_what_is_stuffed_is_read_back(octets, cuts):
    writer = DotWriter()
    sent = b"".join(writer.write(piece) for piece in cut(octets, cuts)) + writer.end()
    text, rest, ended, *_ = read(sent, [])
    assert ended
    assert rest == b""
    assert text == (octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n")


@given(st.lists(st.sampled_from([b"A: b", b"", b"body", b"."])), st.integers(0, 6), CUTS)
def test_top_gives_the_header_and_that_many_lines(lines, count, cuts):
    text = b"".join(line + b"\r\n" for line in lines)
    head = lines.index(b"") + 1 if b"" in lines else len(lines)
    expected = b"".join(line + b"\r\n" for line in lines[: head + count])
    top = TopReader(count)
    got = b""
    for piece in cut(text, cuts):
        if top.done:
            break
        got += top.feed(piece)
    assert got == expected


@given(SPIKY, CUTS)
def test_lines_are_the_same_in_pieces_as_whole(octets, cuts):
    def lines(parts):
        reader, found = LineReader(12), []
        for part in parts:
            reader.receive(part)
            while True:
                try:
                    line = reader.next()
                except (LineTooLong, BareLineEnd) as wrong:
                    line = type(wrong)
                if line is None:
                    break
                found.append(line)
        return found

    assert lines(cut(octets, cuts)) == lines([octets])
    assert len(lines([octets])) == octets.count(b"\n"), "one line, one answer"


def test_an_endless_line_is_not_kept():
    reader = LineReader(100)
    for _ in range(1000):
        reader.receive(b"x" * 1000)
        assert reader.next() is None
        assert reader.unread <= 100
    reader.receive(b"\r\nNOOP\r\n")
    with pytest.raises(LineTooLong):
        reader.next()
    assert reader.next() == b"NOOP"
