"""The mbox format: quoting and line ends wherever the text is cut, and the dates of From_ lines."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postoffice.store.text import normal
from postoffice.store.transfer.mbox import MboxText, Unquoter, date_of, from_line

PARTS = st.sampled_from([b"From ", b"From", b">", b"\n", b"\r", b"x", b" ", b"\r\n", b"\0"])
TEXTS = st.lists(PARTS, max_size=30).map(b"".join)
CUTS = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def fed(converter: MboxText | Unquoter, octets: bytes, cuts: list[int]) -> bytes:
    """What it makes of octets that come in pieces of these sizes."""
    made, at, number = b"", 0, 0
    while at < len(octets):
        size = cuts[number % len(cuts)]
        made += converter.feed(octets[at : at + size])
        at, number = at + size, number + 1
    return made + converter.end()


@given(TEXTS, CUTS)
@example(b"a\r\r\n\r", [2])
@example(b">>From \r\r\r\n", [3, 1])
def test_a_text_comes_back_wherever_it_is_cut(octets, cuts):
    whole = fed(MboxText(), octets, [1 << 20])
    assert fed(MboxText(), octets, cuts) == whole
    assert not any(line.startswith(b"From ") for line in whole.split(b"\n"))
    assert whole.endswith(b"\n")
    text = fed(Unquoter(), whole[:-1], cuts)
    assert text == fed(Unquoter(), whole[:-1], [1 << 20])
    assert normal(text) == normal(octets)


@pytest.mark.parametrize("quotes", [0, 1, 2, 5000])
def test_any_number_of_quotes_and_few_octets_are_held(quotes):
    octets = b">" * quotes + b"From x\n"
    written = fed(MboxText(), octets, [1 << 20])[:-1]
    assert written == b">" + octets
    text = Unquoter()
    given = b"".join(text.feed(bytes([one])) for one in written[:-3])
    assert len(octets) - 10 <= len(given)
    assert given + text.feed(written[-3:]) + text.end() == octets


@pytest.mark.parametrize(
    ("line", "when"),
    [
        (b"From a@b Sat Jan  3 01:05:34 1996", 820631134),
        (b"From a@b  Sat Jan 03 01:05 1996", 820631100),
        (b"From Sat Jan  3 01:05:34 1996\r\n", 820631134),
        (b"From a b c Sat Jan  3 01:05:34 MET 1996", 820631134),
        (b"From a Sat Jan  3 02:05:34 +0100 1996", 820631134),
        (b"From a Sat Jan  3 00:05:34 1996 -0100", 820631134),
        (b"From a Sat Jan  3 01:05:34 1996 remote from b\n", 820631134),
        (b"From here on", None),
        (b"From a Sat Foo  3 01:05:34 1996", None),
        (b"From a Sat Jan 32 01:05:34 1996", None),
        (b"From a Sat Jan  3 25:05:34 1996", None),
        (b"From a Sat Jan  3 01:05:34 1066", None),
        (b"From a Sat Jan  3 01:05:34 19966", None),
        (b"From " + b"a" * 900 + b" Sat Jan  3 01:05:34 1996", None),
        (b">From a Sat Jan  3 01:05:34 1996", None),
        (b"From a\nb Sat Jan  3 01:05:34 1996", None),
    ],
)
def test_the_date_of_a_from_line(line, when):
    assert date_of(line) == when


def test_a_from_line_that_we_write():
    assert from_line(b"a@b", 820631134.5) == b"From a@b Wed Jan  3 01:05:34 1996\n"
    assert date_of(from_line(b"", 0)) == 0
    assert from_line(b"", -5).startswith(b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970")
