"""Header fields in ASCII, by the methods of RFC 6857 §3, and what readers make of them."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.downgrading.fields import downgraded, parameters
from postoffice.downgrading.words import encoded, unstructured


def converted(field: str | bytes) -> str:
    """A field without its CRLF, unfolded, as it comes out."""
    octets = field.encode() if isinstance(field, str) else field
    return downgraded(octets + b"\r\n").decode("ascii").removesuffix("\r\n").replace("\r\n", "")


def read(field: str) -> str:
    """What somebody reads who knows RFC 2047."""
    return str(make_header(decode_header(converted(field).partition(": ")[2])))


@pytest.mark.parametrize(
    "text",
    [
        "Grüße",
        "Grüße aus Köln",
        "an alle Füchse im Wald",
        "日本語の件名です、長い長い長い長い長い長い長い長い長い長い長い長い長い長い長い長い長い",
        "ein   ü   mit   Abstand   ö",
        "kein =?Wort? ü",
    ],
)
def test_a_reader_sees_the_text_that_was_there(text):
    assert read(f"Subject: {text}") == text


def test_a_space_beside_what_is_encoded_already_stays_visible():
    assert read("Subject: ü =?utf-8?q?=C3=BC?= ü x =?utf-8?q?=C3=BC?=") == "ü ü ü x ü"


def test_words_in_ascii_stay_readable():
    assert converted("Subject: at the blue café tonight") == (
        "Subject: at the blue =?utf-8?q?caf=C3=A9?= tonight"
    )


def test_octets_that_are_no_utf8_are_kept_under_a_name_for_them():
    """RFC 1428 §3: nobody said what they are."""
    field = converted(b"Subject: caf\xe9 noir")
    assert field == "Subject: =?unknown-8bit?q?caf=E9?= noir"


def test_a_parameter_that_begins_in_the_middle_of_something_odd():
    assert parameters('multipart/mixed; bou[dary="b"') == ("multipart/mixed", {"bou[dary": '"b"'})


@given(st.text('ab="[];,()\\<>\r\n ü', max_size=20))
def test_whatever_a_type_says_it_can_be_read(text):
    kind, said = parameters(text)
    assert kind == kind.lower()
    assert all(isinstance(value, str) for value in said.values())
    assert converted(f"Content-Type: {text}".replace("\r", "").replace("\n", "")).isascii()


def test_lines_are_folded_and_no_letter_is_divided():
    octets = downgraded(f"Subject: {'日本語の件名' * 40}\r\n".encode())
    lines = octets.decode("ascii").removesuffix("\r\n").split("\r\n")
    assert max(map(len, lines)) <= 76
    for word in re.findall(r"=\?utf-8\?b\?([^?]*)\?=", octets.decode()):
        assert make_header(decode_header(f"=?utf-8?b?{word}?="))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        # display names (§3.1.5)
        ("From: Jörg <j@a.example>", "From: =?utf-8?q?J=C3=B6rg?= <j@a.example>"),
        ("From: Dr. Ö <j@a>", "From: Dr. =?utf-8?b?w5Y=?= <j@a>"),
        ('From: "Ä, b" <j@a>', "From: =?utf-8?b?w4QsIGI=?= <j@a>"),
        ("From: Jörg<j@a>", "From: =?utf-8?q?J=C3=B6rg?= <j@a>"),
        ('Cc: "Doe, J" <j@a>, ü <k@b>', 'Cc: "Doe, J" <j@a>, =?utf-8?b?w7w=?= <k@b>'),
        # domains (§3.1.6)
        ("To: j@müller.example", "To: j@xn--mller-kva.example"),
        ("To: J <j@例え.jp>", "To: J <j@xn--r8jz45g.jp>"),
        ("To: <j@müller.example> (ü)", "To: <j@xn--mller-kva.example> (=?utf-8?b?w7w=?=)"),
        # groups (§3.1.7)
        ("To: g: a@b, c@bü.de;", "To: g: a@b, c@xn--b-eha.de;"),
        ("To: gü: a@b;", "To: =?utf-8?b?Z8O8?= : a@b;"),
        ("To: g: ü@b;, x@y", "To: g =?utf-8?b?w7xAYg==?= :;, x@y"),
        # mailboxes (§3.1.8)
        ("From: ü@b", "From: =?utf-8?b?w7xAYg==?= :;"),
        ("Return-Path: <ü@b>", "Return-Path: =?utf-8?b?w7xAYg==?= :;"),
        ("From: Joe <ü@b>", "From: Joe =?utf-8?b?w7xAYg==?= :;"),
        ("From: Ö <ü@b>", "From: =?utf-8?b?w5Y=?= =?utf-8?b?IMO8QGI=?= :;"),
        ("To: ü@b (Joe), x@y", "To: =?utf-8?b?w7xAYg==?= :; (Joe), x@y"),
        ("To: j@-ü-.x", "To: =?utf-8?q?j=40-=C3=BC-=2Ex?= :;"),
        # comments (§3.1.3, §3.2.2)
        ("Date: Mon, 1 Jan 2026 (ü (é) x)", None),
        ("MIME-Version: 1.0 (ü)", "MIME-Version: 1.0 (=?utf-8?b?w7w=?=)"),
        # message ids (§3.2.3)
        ("References: <a@b> (ü)", "References: <a@b> (=?utf-8?b?w7w=?=)"),
        ("Message-Id: <ü@b>", "Downgraded-Message-Id: =?utf-8?b?PMO8QGI+?="),
        ("In-Reply-To: <a@ü>", "Downgraded-In-Reply-To: =?utf-8?b?PGFAw7w+?="),
        # Received (§3.2.4)
        (
            "Received: from ü.example (é [192.0.2.1]) by b id 1; Mon",
            "Received: from xn--tda.example (=?utf-8?b?w6k=?= [192.0.2.1]) by b id 1; Mon",
        ),
        ("Received: by b for <j@ü.de>; Mon", "Received: by b for <j@xn--tda.de>; Mon"),
        ("Received: by b for <ü@x>; Mon", "Received: by b; Mon"),
        ("Received: by b id ü for <a@x>; Mon", "Received: by b for <a@x>; Mon"),
        # MIME values (§3.1.4, §3.2.5)
        (
            'Content-Type: text/plain; name="é.txt"; charset=utf-8',
            "Content-Type: text/plain; name*=utf-8''%C3%A9.txt; charset=utf-8",
        ),
        (
            "Content-Disposition: attachment (ü); filename=é",
            "Content-Disposition: attachment (=?utf-8?b?w7w=?=); filename*=utf-8''%C3%A9",
        ),
        ("Content-Type: a/b; x*=utf-8''é%20f", "Content-Type: a/b; x*=utf-8''%C3%A9%20f"),
        # phrases (§3.2.7)
        ("Keywords: a ü, b", "Keywords: a =?utf-8?b?w7w=?=, b"),
        # types of addresses (§3.1.9)
        ("Final-Recipient: utf-8; ü+x@b", "Final-Recipient: utf-8; \\x{FC}\\x{2B}x@b"),
        (
            "Original-Recipient: rfc822; ü@b",
            "Downgraded-Original-Recipient: rfc822; =?utf-8?b?w7xAYg==?=",
        ),
        # others (§3.2.6, §3.2.8)
        ("List-Id: ü <x.y>", "List-Id: =?utf-8?b?w7w=?= <x.y>"),
        ("Content-Description: é", "Content-Description: =?utf-8?b?w6k=?="),
    ],
)
def test_each_field_by_its_method(field, expected):
    if expected is None:
        assert converted(field) == "Date: Mon, 1 Jan 2026 (=?utf-8?b?w7w=?= (=?utf-8?b?w6k=?=) x)"
    else:
        assert converted(field) == expected


def test_a_long_parameter_goes_on_in_another():
    """RFC 2231 §3, and readers put it together again."""
    name = "ein sehr langer Dateiname mit Umlauten äöü und noch mehr äöü und 日本語 am Ende.pdf"
    field = downgraded(f'Content-Disposition: attachment; filename="{name}"\r\n'.encode())
    message = message_from_bytes(field + b"\r\n", policy=default)
    assert field.isascii()
    assert message.get_filename() == name
    assert all(len(line) < 78 for line in field.split(b"\r\n"))


def test_what_is_ascii_stays_as_it_is():
    field = b"Subject:  odd \t folds,\r\n \r\n   kept\r\n"
    assert downgraded(field) is field


@given(st.text(min_size=1).filter(lambda text: not text.isascii()))
def test_encoded_words_say_what_was_encoded(text):
    text = text.encode("utf-8", "replace").decode()
    assert all(len(word) <= 75 for word in encoded(text).split(" "))
    assert str(make_header(decode_header(encoded(text)))) == text


@given(st.text(st.sampled_from('ü日a b,;:<>()@"\\.=?[]\t\ud800'), max_size=40))
def test_any_text_becomes_ascii_in_any_field(text):
    octets = text.encode("utf-8", "surrogatepass")
    for name in ("From", "Subject", "Date", "Message-ID", "Received", "Content-Type", "Keywords"):
        assert downgraded(f"{name}: ".encode() + octets + b"\r\n").isascii()
    assert downgraded(b"Final-Recipient: utf-8;" + octets).isascii()
    assert unstructured(octets.decode("utf-8", "surrogateescape")).isascii()
