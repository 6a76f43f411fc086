"""Whole messages for clients without UTF-8: any octets, cut anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from email import message_from_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postoffice.downgrading import messages
from postoffice.downgrading.messages import (
    DEPTH_MAXIMUM,
    FIELD_MAXIMUM,
    Downgrader,
    size_of,
)
from postoffice.testing import cut

#: Octets that are mostly the ones that matter.
PIECES = [
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"--",
    b"--b",
    b"\r\n--b\r\n",
    b"\r\n--b--\r\n",
    b"\r\n--c\r\n",
    b"\xc3\xbc",
    b"\xff",
    b"x",
    b" ",
    b":",
    b"Subject: ",
    b"From: ",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Type: multipart/digest; boundary=c\r\n",
    b"Content-Type: multipart/mixed",
    b"; boundary=b",
    b"Content-Transfer-Encoding: base64",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Type: message/delivery-status\r\n",
    b"Final-Recipient: utf-8;",
]
SPIKY = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=8)


def convert(octets: bytes, cuts: Iterable[int] = ()) -> tuple[bytes, Downgrader]:
    """A message that comes in pieces, as it comes out."""
    downgrader = Downgrader()
    out = [downgrader.feed(piece) for piece in cut(octets, cuts)]
    return b"".join([*out, downgrader.end()]), downgrader


def header_of(octets: bytes) -> bytes:
    return (b"\r\n" + octets).partition(b"\r\n\r\n")[0]


@given(SPIKY, CUTS)
@example(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\xc3\xbc", [3])
def test_it_is_the_same_wherever_it_is_cut(octets, cuts):
    whole, at_once = convert(octets)
    assert convert(octets, cuts)[0] == whole
    assert size_of(cut(octets, cuts)) == size_of([octets])
    if not at_once.failed:
        assert (size_of([octets]) or len(octets)) == len(whole) == at_once.size


@given(SPIKY)
@example(b"Content-Type: multipart/x \xff; boundary=b; boundary=c\r\n\r\n--c\r\nFrom: \xc3\xbc\r\n")
def test_what_comes_out_is_the_same_once_more(octets):
    """Parts are those that a client finds: by what it gets, not by what came."""
    out, downgrader = convert(octets)
    if not downgrader.failed:
        assert convert(out)[0] == out


@given(SPIKY, CUTS, st.integers(0, 300))
def test_it_is_the_same_where_we_give_up(octets, cuts, effort):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "EFFORT", effort)
        patch.setattr(messages, "DEPTH_MAXIMUM", 1)
        whole, at_once = convert(octets)
        in_pieces, cut_up = convert(octets, cuts)
        assert (in_pieces, cut_up.failed) == (whole, at_once.failed)
        if not at_once.failed:
            assert header_of(whole).isascii()


@given(SPIKY)
def test_the_header_that_comes_out_is_ascii(octets):
    assert header_of(convert(octets)[0]).isascii()


@given(SPIKY)
def test_what_came_out_needs_nothing_any_more(octets):
    out, downgrader = convert(octets)
    if not downgrader.failed:
        assert size_of([out]) is None


@given(SPIKY, CUTS)
def test_ascii_stays_as_it_is(octets, cuts):
    octets = bytes(octet & 0x7F for octet in octets)
    out, downgrader = convert(octets, cuts)
    assert out == octets
    assert not downgrader.changed
    assert not downgrader.failed


@given(st.binary(), CUTS)
def test_no_octets_are_too_strange(octets, cuts):
    assert convert(octets, cuts)[0] == convert(octets)[0]


def lines(*some: str) -> bytes:
    return "".join(f"{line}\r\n" for line in some).encode()


def test_the_example_of_the_rfc():
    """RFC 6857, appendix A."""
    before = lines(
        "Return-Path: <jørgen@example.com>",
        "Received: from a by b for <用户@example.net>; Mon, 30 Jul 2012 01:23:45 -0000",
        "From: Jørgen <jørgen@example.com>",
        "To: 一 <用户一@example.net>, 二 <用户二@example.com>",
        "Subject: Hallå",
        "Date: Mon, 30 Jul 2012 01:23:45 -0000",
        "Message-Id: <å@example.com>",
        "Mime-Version: 1.0",
        'Content-Type: text/plain; charset="UTF-8"',
        "Content-Transfer-Encoding: 8bit",
        "X-Unknown-Header: Å",
        "",
        "Hallå!",
    )
    after, _ = convert(before)
    assert after == lines(
        "Return-Path: =?utf-8?q?j=C3=B8rgen=40example=2Ecom?= :;",
        "Received: from a by b; Mon, 30 Jul 2012 01:23:45 -0000",
        "From: =?utf-8?q?J=C3=B8rgen?= =?utf-8?q?_j=C3=B8rgen=40example=2Ecom?= :;",
        "To: =?utf-8?b?5LiA?=",
        " =?utf-8?q?_=E7=94=A8=E6=88=B7=E4=B8=80=40example=2Enet?= :;,",
        " =?utf-8?b?5LqM?= =?utf-8?q?_=E7=94=A8=E6=88=B7=E4=BA=8C=40example=2Ecom?=",
        " :;",
        "Subject: =?utf-8?q?Hall=C3=A5?=",
        "Date: Mon, 30 Jul 2012 01:23:45 -0000",
        "Downgraded-Message-Id: =?utf-8?q?=3C=C3=A5=40example=2Ecom=3E?=",
        "Mime-Version: 1.0",
        'Content-Type: text/plain; charset="UTF-8"',
        "Content-Transfer-Encoding: 8bit",
        "X-Unknown-Header: =?utf-8?b?w4U=?=",
        "",
        "Hallå!",
    )
    assert size_of([before]) == len(after)


PARTS = lines(
    "Subject: plain",
    'Content-Type: multipart/mixed; boundary="outer"',
    "",
    "Vorwort: ü",
    "--outer",
    "Content-Type: multipart/alternative; boundary=inner",
    "",
    "--inner",
    "Content-Description: é",
    "",
    "Subject: ü is no field here",
    "--inner is no delimiter either: ü",
    "--inner--",
    "--outer",
    "Content-Type: message/rfc822",
    "",
    "From: ü@example.net",
    "",
    "Text: ü",
    "--outer",
    "Content-Type: message/global",
    "",
    "From: ü@example.net",
    "",
    "--outer",
    "Content-Type: message/rfc822",
    "Content-Transfer-Encoding: base64",
    "",
    "From: ü",
    "--outer--",
    "--inner",
    "Nachwort: ü",
)


def test_fields_of_parts_are_converted_at_all_levels_and_texts_are_not():
    """RFC 6857 §4.1."""
    assert convert(PARTS)[0] == PARTS.replace(
        b"Description: \xc3\xa9", b"Description: =?utf-8?b?w6k=?="
    ).replace(b"From: \xc3\xbc@example.net", b"From: =?utf-8?q?=C3=BC=40example=2Enet?= :;", 1)


@pytest.mark.parametrize("kind", ["message/delivery-status", "message/global-delivery-status"])
def test_recipients_in_what_became_of_a_delivery_are_converted(kind):
    """RFC 6857 §4.2."""
    report = lines(
        "Content-Type: multipart/report; boundary=b",
        "",
        "--b",
        f"Content-Type: {kind}",
        "",
        "Reporting-MTA: dns; ü.example",
        "",
        "Original-Recipient: rfc822; ü@x",
        "Final-Recipient: utf-8; ü@x",
        "Status: 5.1.1",
        "--b--",
    )
    out, _ = convert(report)
    assert "Reporting-MTA: dns; ü.example\r\n\r\n".encode() in out
    assert b"\r\nFinal-Recipient: utf-8; \\x{FC}@x\r\nStatus: 5.1.1\r\n" in out
    assert b"\r\nDowngraded-Original-Recipient: rfc822; =?utf-8?" in out


def test_what_cannot_be_converted_says_so():
    long = b"Subject: " + b"\xc3\xbc" * FIELD_MAXIMUM + b"\r\n\r\n"
    boundary = lines("Content-Type: multipart/mixed; boundary=ü", "", "--ü", "", "--ü--")
    for octets in (long, boundary):
        assert size_of([octets]) == 0
        assert size_of(cut(octets, range(0, len(octets), 5000))) == 0
    assert convert(long)[0] == long


def test_a_long_field_in_ascii_is_no_obstacle():
    octets = b"Subject: \xc3\xbc\r\nX: " + b"x \r\n " * FIELD_MAXIMUM + b"\r\nTo: \xc3\xbc\r\n\r\n"
    for cuts in ((), range(0, len(octets), 4096)):
        out, downgrader = convert(octets, cuts)
        assert header_of(out).isascii()
        assert not downgrader.failed


def deep(levels: int) -> bytes:
    return b"".join(
        lines(f"Content-Type: multipart/mixed; boundary=b{level}", "", f"--b{level}")
        for level in range(levels)
    )


def test_parts_in_parts_are_looked_into_so_many_times():
    assert size_of([deep(DEPTH_MAXIMUM) + lines("Content-Id: ü", "")])
    assert size_of([deep(DEPTH_MAXIMUM + 1) + lines("Content-Id: ü", "")]) == 0
    assert size_of([deep(DEPTH_MAXIMUM + 1)]) is None


def test_who_makes_us_work_too_hard_gets_no_more_of_it(monkeypatch):
    """What comes then goes through as it is."""
    monkeypatch.setattr(messages, "EFFORT", 20_000)
    fields = b"To: " + b"\xc3\xbc@x, " * 100 + b"\r\n"
    downgrader = Downgrader()
    for _ in range(20_000 // (8 * len(fields)) + 3):
        downgrader.feed(fields)
    assert downgrader.failed
    assert downgrader.feed(fields) == fields


def test_memory_is_bounded_whatever_comes():
    downgrader = Downgrader()
    downgrader.feed(lines("Content-Type: multipart/mixed; boundary=b", "", "--b", "X: y"))
    for _ in range(100):
        downgrader.feed(b"\xc3\xbc--" * 4096)
        assert len(downgrader._held) <= FIELD_MAXIMUM + 4 * 4096


def test_a_mail_program_reads_what_came_out():
    message = message_from_bytes(convert(PARTS)[0])
    assert [part.get_content_type() for part in message.walk()][:3] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
    ]
    assert not any(part.defects for part in message.walk() if part.is_multipart())


def test_the_letter_in_names_of_files_goes_with_what_comes_out():
    """Whoever must change this test gives ``names.DOWNGRADED`` another letter."""
    assert messages.size_of([PARTS]) == len(PARTS) + 37
