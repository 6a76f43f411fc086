"""The addresses in From, as people and programs write them."""

from __future__ import annotations

import sys

import pytest

from postoffice.smtp.author import MOST, Authors, addresses


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" joe@example.net", ["joe@example.net"]),
        ("joe@example.net (Joe)", ["joe@example.net"]),
        ("(a (nested) b@c) joe@example.net", ["joe@example.net"]),
        ("Joe <joe@example.net>", ["joe@example.net"]),
        ("Joe<joe@example.net>", ["joe@example.net"]),
        ("Joe joe@example.net", ["joe@example.net"]),
        ('"a, <b@c>" <joe@example.net>', ["joe@example.net"]),
        ('"joe q"@example.net', ['"joe q"@example.net']),
        ('"a\\"b@c" <joe@example.net>', ["joe@example.net"]),
        ("< joe @ example.net >", ["joe@example.net"]),
        ("a@b, c@d; e@f", ["a@b", "c@d", "e@f"]),
        ("Us: a@b, X <c@d>;, e@f", ["a@b", "c@d", "e@f"]),
        ("Joe <joe@example.net", ["joe@example.net"]),
        ('"Joe joe@example.net', ['"Joe joe@example.net']),
        ("(Joe joe@example.net", []),
        ("joe", []),
        ("<>", []),
        ("", []),
        ("jörg@bücher.example", ["jörg@bücher.example"]),
    ],
)
def test_addresses(value, expected):
    assert addresses(value) == expected


def told(text):
    authors = Authors()
    authors.feed(text)
    return authors.addresses()


@pytest.mark.parametrize(
    "header",
    [
        b"Subject: x\r\nFrom: a@b\r\n\r\nFrom: c@d\r\n",
        b"From:\r\n a@b\r\n",
        b"X-From: c@d\r\nfrom : a@b",
        b"X: y\r\n From: c@d\r\nFrom: a@b\r\nFrom: a@b\r\n\r\n",
    ],
)
def test_only_the_header_of_the_message_itself_counts(header):
    assert told(header) == ["a@b"]
    piece_by_piece = Authors()
    for octet in header:
        piece_by_piece.feed(bytes([octet]))
    assert piece_by_piece.addresses() == ["a@b"]


def test_so_many_are_told():
    assert len(told(b"From: " + b",".join(b"a%d@b" % n for n in range(9000)))) == MOST + 1


def steps(call, *args):
    """Lines that are run: counted, so that no clock is asked."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call(*args)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "text", ["(", ")", "<", ">", '"', "\\\\", "a@b,", "a ", "@", '"\\', "ö<", ":"]
)
def test_the_work_grows_as_the_text_does(text):
    few, many = steps(addresses, text * 500), steps(addresses, text * 5000)
    assert many <= 12 * few
