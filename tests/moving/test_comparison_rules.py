"""The rules of a comparison: what is wrong, what is explained, what came since."""

from __future__ import annotations

import pytest

from postoffice.moving.arrival import arrived
from postoffice.moving.comparison_rules import (
    EXPLAINED,
    NEW,
    WRONG,
    ComparedText,
    Seen,
    compare_bodies,
    compare_headers,
    compare_lists,
    compare_sizes,
)
from postoffice.testing import cut


def lists(there, here, imported=""):
    """One letter is one message."""
    found = compare_lists(
        [Seen(one, 1) for one in there], [Seen(one, 1) for one in here], dict.fromkeys(imported)
    )
    return {(one.kind, one.what, one.uidl) for one in found.differences}


@pytest.mark.parametrize(
    ("there", "here", "imported", "found"),
    [
        ("abc", "abc", "abc", set()),
        ("", "", "", set()),
        ("abc", "ab", "ab", {(NEW, "there", "c")}),
        ("abc", "ac", "ac", {(WRONG, "missing", "b")}),
        ("abc", "", "", {(WRONG, "missing", one) for one in "abc"}),
        ("abc", "ac", "abc", {(EXPLAINED, "deleted", "b")}),
        ("ac", "abc", "abc", {(EXPLAINED, "gone", "b")}),
        ("ab", "abx", "ab", {(NEW, "here", "x")}),
        ("abc", "acb", "abc", {(WRONG, "order", "c")}),
    ],
)
def test_lists(there, here, imported, found):
    assert lists(there, here, imported) == found


HEADER = b"Subject: x\r\nFrom: a\r\n b\r\n\r\n"


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (HEADER, None),
        (b"Status: RO\r\nX-UIDL: 1\r\n 2\r\n" + HEADER, EXPLAINED),
        (HEADER[:-2] + b"Content-Length: 5\r\n\r\n", EXPLAINED),
        (HEADER[:-2], EXPLAINED),
        (b"X-UIDL: a\r" * 100_000 + b"\r\n" + HEADER, EXPLAINED),
        (b"a\r" * 400_000 + HEADER, WRONG),
        (HEADER.replace(b"a", b"c"), WRONG),
        (b"Status-Report: x\r\n" + HEADER, WRONG),
        (b"", WRONG),
    ],
)
def test_headers(other, kind):
    found = compare_headers("u", other, HEADER)
    assert (found and found.kind) == kind


OURS = ComparedText.of([HEADER + b"..\r\n.\r\nx\r\n"])


@pytest.mark.parametrize(
    ("listed", "sent", "kind", "word"),
    [
        (None, None, None, ""),
        (OURS.size, None, None, ""),
        (OURS.size - OURS.lines, None, EXPLAINED, "LF"),
        (OURS.size + 2, None, EXPLAINED, "dots"),
        (OURS.size + 17, None, WRONG, "octets there"),
        (OURS.size + 17, OURS.size, EXPLAINED, "and sends"),
        (OURS.size + 17, OURS.size + 17, EXPLAINED, "ours"),
    ],
)
def test_sizes(listed, sent, kind, word):
    found = compare_sizes("u", listed, sent, OURS)
    assert (found and found.kind) == kind
    assert found is None or word in found.text


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"..a\r\n", EXPLAINED),
        (b"a\r\n\r\n", WRONG),
        (b".a\r\n\r\n\r\n", EXPLAINED),
        (b"b\r\n", WRONG),
    ],
)
def test_bodies(body, kind):
    assert compare_bodies("u", HEADER + body, HEADER + b".a\r\n").kind == kind


def test_a_text_is_the_same_wherever_it_is_cut():
    whole = HEADER + b".a\r\nb\r\n..c\r\n"
    one = ComparedText.of([whole])
    for pieces in (cut(whole, range(len(whole))), cut(whole.replace(b"\r\n", b"\n"), range(99))):
        other = ComparedText.of(pieces)
        assert (other.header, other.body) == (one.header, one.body) == (HEADER, one.body)
        assert (other.size, other.lines, other.dots) == (len(whole), 7, 2)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"Received: x;\r\n Sat, 1 Jan 2022 00:00:00 +0000\r\nDate: x\r\n", 1640995200),
        (b"received: by a; b; Sat, 1 Jan 2022 01:00:00 +0100\r\n", 1640995200),
        (b"Received: x; soon\r\nDate: Sat, 1 Jan 2022 00:00:00 +0000\r\n", 1640995200),
        (b"Date: Sat, 1 Jan 2112 00:00:00 +0000\r\n", 2e9),
        (b"Date: Sat, 1 Jan 1960 00:00:00 +0000\r\n", None),
        (b"Date: \xff\xfe 99999999999999999999\r\n", None),
        (b"Date: Sat, 99 Jan 99999999 00:00:00\r\n", None),
        (b"", None),
    ],
)
def test_when_a_message_arrived(header, found):
    assert arrived(header, 2e9) == found
