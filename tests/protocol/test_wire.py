"""Lines, dots, and the line ends we refuse: any octets, cut anywhere."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postoffice.protocol.wire import (
    BareLineEnd,
    ChunkReader,
    DotWriter,
    FieldCounter,
    LineReader,
    LineTooLong,
    TextReader,
    TopReader,
    dot_stuffed,
)
from postoffice.testing import cut

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
        text = b"a\r\n" + b"x" * length + b"\r\nb\r\n"
        for place in range(len(text)):
            assert read(text + b".\r\n", [place])[4] is overlong, (length, place)
            assert read_chunks(text, [place])[2] is overlong, (length, place)


def read_chunks(octets: bytes, cuts: list[int], maximum_line: int = 20):
    """What a ChunkReader makes of a text that comes in chunks, cut anywhere."""
    reader = ChunkReader(maximum_line)
    text = b"".join(map(reader.feed, cut(octets, cuts))) + reader.end()
    return text, reader.bare, reader.overlong, reader.received, reader.size


def by_the_book_in_chunks(octets: bytes, maximum_line: int = 20):
    """The same, slowly, for whole texts."""
    lone = octets.replace(b"\r\n", b"")
    bare = b"\r" in lone or b"\n" in lone
    overlong = any(len(line) > maximum_line for line in octets.split(b"\r\n"))
    text = octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"
    return text, bare, overlong


@given(SPIKY, CUTS)
@example(b"a\r\nb", [2])
@example(b"a\r\n", [2])
@example(b"a\r", [])
@example(b"\r\nb", [1])
@example(b"\n", [])
@example(b"a\r\r\n", [2])
@example(b"x" * 20 + b"\r\n", [20, 21])
@example(b"a\r\n" + b"x" * 20, [])
@example(b"a\r\n" + b"x" * 21, [])
@example(b"x" * 21 + b"\r\n", [10, 20, 21])
def test_chunks_are_read_by_the_book(octets, cuts):
    text, bare, overlong, _, size = read_chunks(octets, cuts)
    expected = by_the_book_in_chunks(octets)
    assert bare is expected[1]
    if not bare:  # which is refused, whatever is passed on of it
        assert text == expected[0]
        assert overlong is expected[2]
        assert size == len(text)


@given(SPIKY, CUTS)
def test_chunks_read_the_same_in_pieces_as_whole(octets, cuts):
    assert read_chunks(octets, cuts)[1:] == read_chunks(octets, [])[1:]


@pytest.mark.parametrize(
    "chunks", [[b""], [b"", b""], [b"a", b""], [b"", b"a"], [b"a\r", b"", b"\n"]]
)
def test_empty_chunks_change_nothing(chunks):
    reader = ChunkReader(20)
    text = b"".join(map(reader.feed, chunks)) + reader.end()
    assert text == (b"a\r\n" if b"".join(chunks) else b"")
    assert not reader.bare


def test_a_text_in_chunks_is_passed_on_as_it_comes():
    reader = ChunkReader(20)
    assert reader.feed(b"one\r\ntwo") == b"one\r\ntwo"
    assert reader.feed(b"\r") == b"", "which may be half of a line's end"
    assert reader.feed(b"\n.\r\n") == b"\r\n.\r\n"
    assert reader.end() == b""
    assert reader.size == 13


#: Texts of whole lines, that begin with no dot.
TEXTS = st.lists(
    st.sampled_from(
        [b"", b"Received: x", b"x" * 19, b"x" * 20, b"x" * 21, b"x" * 45, b"a.b", b"\n"]
    )
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))


@given(TEXTS, CUTS, CUTS)
def test_a_text_is_judged_the_same_whichever_way_it_comes(text, cuts, chunks):
    octets, _, ended, *judged = read(text + b".\r\n", cuts)
    assert ended
    assert octets == text
    assert judged == list(read_chunks(text, chunks)[1:])
    header = (b"\r\n" + text).partition(b"\r\n\r\n")[0]
    assert judged[2] == header.count(b"\r\nReceived:")


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
    assert dot_stuffed(octets) == sent


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


def lines(parts, **how):
    """What a reader of lines makes of octets that come in these parts."""
    reader, found = LineReader(12, **how), []
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


def obvious_lines(octets):
    """The same, for all that has arrived at once."""
    found = []
    while b"\n" in octets:
        line, _, octets = octets.partition(b"\n")
        if not line.endswith(b"\r"):
            octets = octets.partition(b"\r\n")[2]
        if len(line) + 1 > 12:
            found.append(LineTooLong)
        elif not line.endswith(b"\r") or b"\r" in line[:-1]:
            found.append(BareLineEnd)
        else:
            found.append(line[:-1])
    return found


@given(SPIKY, CUTS)
def test_lines_are_the_same_in_pieces_as_whole(octets, cuts):
    assert lines(cut(octets, cuts)) == obvious_lines(octets)


@given(SPIKY, CUTS)
def test_where_lf_ends_a_line_each_has_one_answer(octets, cuts):
    found = lines(cut(octets, cuts), lf=True)
    assert found == lines([octets], lf=True)
    assert len(found) == octets.count(b"\n"), "one line, one answer"


@pytest.mark.parametrize(
    "octets",
    [
        b"NOOP\nRSET\r\n",
        b"\nRSET\r\n",
        b"NOOP\n\n\r\r\nRSET\n\r\n"[:9],
        b"NOOP\n" + b"RSET\n" * 5 + b"\r\n",
        b"x" * 20 + b"\nRSET\r\n",
    ],
)
def test_nothing_is_obeyed_behind_a_bare_lf_of_a_line(octets):
    for at in range(len(octets)):
        found = lines([octets[:at], octets[at:], b"QUIT\r\n"])
        assert found[0] in (BareLineEnd, LineTooLong)
        assert found[1:] == [b"QUIT"]


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


def test_behind_a_line_something_else_may_be_taken():
    reader = LineReader(100)
    reader.receive(b"BDAT 5\r\n12")
    assert reader.next() == b"BDAT 5"
    assert reader.take(5) == b"12", "as much as there is"
    assert reader.unread == 0
    reader.receive(b"345NO")
    assert reader.take(3) == b"345"
    assert reader.take(0) == b""
    assert reader.unread == 2
    reader.receive(b"OP\r\nrest")
    assert reader.next() == b"NOOP"
    assert reader.take() == b"rest"
    assert reader.take() == b""


@given(st.binary(max_size=60), CUTS, st.lists(st.integers(0, 20), max_size=8))
def test_what_is_taken_is_what_has_arrived(octets, cuts, sizes):
    reader, taken = LineReader(100), []
    for part in cut(octets, cuts):
        reader.receive(part)
        if sizes:
            taken.append(reader.take(sizes[0]))
            assert len(taken[-1]) <= sizes.pop(0)
    assert reader.unread == len(octets) - len(b"".join(taken))
    assert b"".join(taken) + reader.take() == octets
