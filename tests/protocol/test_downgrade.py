"""Messages for clients without UTF-8: any octets go out, and only what is safe is converted."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email._parseaddr import AddressList  # getaddresses() without its checks, in any version
from email.header import decode_header, make_header
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from postoffice.protocol.downgrade import (
    HEADER_MAXIMUM,
    INTERNATIONAL_MAXIMUM,
    Downgrader,
    growth_of,
    size_of,
    size_of_text,
    with_header_converted,
)
from postoffice.testing import cut

CASES = sorted((Path(__file__).parents[1] / "cases" / "pop3").glob("*.eml"))
#: Octets that are mostly the ones that matter.
PIECES = [
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n \r\n",
    b"\r\n ",
    b"\r",
    b"\n",
    b"\xc3\xbc",
    b"\xff",
    b"\xc2\xa0",
    b"\x83\x5c",
    b"\0",
    b"x",
    b" ",
    b"\t",
    b":",
    b"<a@b>",
    b"<",
    b">",
    b",",
    b";",
    b'"',
    b"\\",
    b"(",
    b")",
    b"=?utf-8?q?x?=",
    b"Subject: ",
    b"From: ",
    b"\r\nTo: ",
    b"\r\nX-A:",
    b"From a@b Mon\r\n",
]
SPIKY = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=8)


def convert(octets: bytes, cuts=()) -> tuple[bytes, Downgrader]:
    """A message that comes in pieces, as it comes out."""
    downgrader = Downgrader()
    out = [downgrader.feed(piece) for piece in cut(octets, cuts)]
    return b"".join([*out, downgrader.end()]), downgrader


def lines(*some: str) -> bytes:
    return "".join(f"{line}\r\n" for line in some).encode()


def field(octets: bytes) -> bytes:
    """A field as it comes out."""
    return convert(octets + b"\r\n\r\nbody")[0].removesuffix(b"\r\n\r\nbody")


# -- any octets --------------------------------------------------------------------


@given(SPIKY | st.binary(), CUTS)
def test_the_size_is_what_is_sent_wherever_it_is_cut(octets, cuts):
    whole, at_once = convert(octets)
    in_pieces, cut_up = convert(octets, cuts)
    assert in_pieces == whole == with_header_converted(octets)
    assert at_once.size == cut_up.size == len(whole) == len(octets) + growth_of(octets)
    assert size_of(cut(octets, cuts)) == size_of_text(octets) == size_of([octets])
    assert (size_of([octets]) or len(octets)) == len(whole)
    assert at_once.changed == (whole != octets)


@given(SPIKY | st.binary())
@example(b"Subject: \xc3\xbc\r\nX-A: \xff\r\nTo: \xc3\xbc\r\n <a@b>\r\n\r\n")
def test_what_comes_out_is_the_same_once_more(octets):
    out, _ = convert(octets)
    assert convert(out)[0] == out


@given(SPIKY | st.binary())
@example(b"A: b\r\rSubject: \xc3\xbc\r\n")
@example(b"A: b\r\n \r\nSubject: \xc3\xbc\r\n")
def test_a_program_finds_the_same_body(octets):
    """It is everything that Python's parser takes for the body; others end headers earlier."""
    out, _ = convert(octets)
    before, after = message_from_bytes(octets), message_from_bytes(out)
    assert after.get_payload() == before.get_payload()
    assert after.keys() == before.keys()


@given(SPIKY | st.binary(), st.binary(max_size=40))
def test_what_stands_behind_the_header_is_not_looked_at(top, body):
    header = lines("Subject: x") + b"X-B: " + re.sub(rb"[\r\n]", b"", top) + b"\r\n"
    out, _ = convert(header + b"\r\n" + body)
    assert out.endswith(b"\r\n\r\n" + body)


@given(SPIKY)
def test_a_field_is_converted_whole_or_not_at_all(octets):
    before = b"Subject: " + re.sub(rb"[\r\n]", b"", octets) + b"\r\n\r\n"
    after, _ = convert(before)
    assert after == before or after.isascii()
    assert before.isascii() <= (after == before)


# -- what is converted -------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Subject: Grüße", "Subject: =?utf-8?b?R3LDvMOfZQ==?="),
        ("SUBJECT:Grüße", "SUBJECT:=?utf-8?b?R3LDvMOfZQ==?="),
        ("Subject: Re: ü and é again", "Subject: Re: =?utf-8?b?w7wgYW5kIMOp?= again"),
        ("Subject: x\r\n ü", "Subject: x =?utf-8?b?w7w=?="),
        ("Subject: x\tü ", "Subject: x\t=?utf-8?b?w7w=?= "),
        ("X-Anything: ü", "X-Anything: =?utf-8?b?w7w=?="),
        ("Organization: ü", "Organization: =?utf-8?b?w7w=?="),
        ("From: Jörg <a@b.example>", "From: =?utf-8?b?SsO2cmc=?= <a@b.example>"),
        ("From: Jörg<a@b.example>", "From: =?utf-8?b?SsO2cmc=?= <a@b.example>"),
        ('From: "Jörg \\"J\\""   <a@b>', "From: =?utf-8?b?SsO2cmcgIkoi?= <a@b>"),
        ('From: Dr. "J, ö." <a@b>', "From: =?utf-8?b?RHIuIEosIMO2Lg==?= <a@b>"),
        ("To: a@b, ü <c@d>,e@f", "To: a@b, =?utf-8?b?w7w=?= <c@d>,e@f"),
        ("To: a@b (Jörg)", "To: a@b (=?utf-8?b?SsO2cmc=?=)"),
        ("To: ü <a@b> (é)", "To: =?utf-8?b?w7w=?= <a@b> (=?utf-8?b?w6k=?=)"),
        ("To: Büro: a@b, ü <c@d>;", "To: =?utf-8?b?QsO8cm8=?= : a@b, =?utf-8?b?w7w=?= <c@d>;"),
        ("To: ü <a@b>; é <c@d>", "To: =?utf-8?b?w7w=?= <a@b>; =?utf-8?b?w6k=?= <c@d>"),
        ("Return-Path: <>\r\nCc: ü <>", "Return-Path: <>\r\nCc: =?utf-8?b?w7w=?= <>"),
    ],
)
def test_texts_and_names_become_encoded_words(before, after):
    assert field(before.encode()) == after.encode()


@pytest.mark.parametrize(
    "octets",
    [
        "Subject: ü".encode("latin-1"),
        "Subject: добрый".encode("koi8-r"),
        "From: добрый <a@b>".encode("koi8-r"),
        "From: 表示 <a@b>".encode("shift_jis"),
        'From: "表" <a@b>'.encode("shift_jis"),
        "From: 許功蓋 <a@b>".encode("big5"),
        "From: ü é <a@b>, é".encode() + b"\xe9 <c@d>",
        'From: "Büro <a@b>'.encode(),
        'From: Bü"ro <a@b>'.encode(),
        "From: (Büro <a@b>".encode(),
        "From: (Bü(ro)) x <a@b>".encode(),
        "From: Büro) <a@b>".encode(),
        "From: Müller, Hans <a@b>".encode(),
        "From: Büro <a@b> <c@d>".encode(),
        "From: Büro <a@b> x".encode(),
        "From: Büro <a@b".encode(),
        "From: Büro [x] <a@b>".encode(),
        "From: Büro \\ <a@b>".encode(),
        "From: Büro@home <a@b>".encode(),
        "From: Jörg <jörg@b>".encode(),
        "From: jörg@b".encode(),
        "From: Jörg <a@bücher.example>".encode(),
        "From: Büro: é <a@ü>;".encode(),
        "From: Büro <a@b>:;".encode(),
        "From: =?utf-8?q?x?= ü <a@b>".encode(),
        "Subject: =?utf-8?q?x?= ü".encode(),
        "Message-ID: <ü@x>".encode(),
        "References: <ü@x>".encode(),
        "Received: from ü by x; date".encode(),
        "Content-Type: text/plain; name=ü.txt".encode(),
        'Content-Type: text/plain; name="ü.txt"'.encode(),
        "Content-Disposition: attachment; filename=ü.txt".encode(),
        "DKIM-Signature: v=1; i=ü@x".encode(),
        "Authentication-Results: x; smtp.mailfrom=ü@x".encode(),
        "Hint: schön".encode(),
        "http://example.org/für".encode(),
        "Subject : ü".encode(),
        "Sübject: ü".encode(),
        ": ü".encode(),
    ],
)
def test_what_cannot_be_read_without_doubt_goes_out_as_it_came(octets):
    assert field(octets) == octets
    assert field(b"Subject: x\r\n" + octets) == b"Subject: x\r\n" + octets


@pytest.mark.parametrize(
    "body",
    [
        "\r\nSubject: ü\r\n",
        "\r\n Subject: ü\r\n",
        " \r\nSubject: ü\r\n",
        "\t \t\r\nSubject: ü\r\n",
        "Grüße aus Köln\r\nSubject: ü\r\n",
        "no field\r\nSubject: ü\r\n",
        "Subject : ü\r\nSubject: ü\r\n",
        ": x\r\nSubject: ü\r\n",
        "--b\r\nSubject: ü\r\n",
        "From a@b Mon\r\nSubject: ü\r\n",
        "X: y\rSubject: ü\r\nSubject: ü\r\n",
        "X: y\nSubject: ü\r\nSubject: ü\r\n",
        "\r\rSubject: ü\r\n",
        "Grüße",
    ],
)
def test_the_header_ends_where_any_reader_ends_it(body):
    out = field(lines("Subject: ü", "X: y") + body.encode())
    assert out == lines("Subject: =?utf-8?b?w7w=?=", "X: y") + body.encode()


def test_the_line_of_an_mbox_may_stand_first():
    out = field(lines("From a@b Mon Jan  1 00:00:00 2024") + "Subject: ü".encode())
    assert out == b"From a@b Mon Jan  1 00:00:00 2024\r\nSubject: =?utf-8?b?w7w=?="


@pytest.mark.parametrize(
    "body",
    [
        lines("--b", "Subject: ü", "Content-Disposition: attachment; filename=ü", "", "ü", "--b--"),
        lines("--b", "Content-Type: message/rfc822", "", "From: ü <a@b>", "", "ü", "--b--"),
        lines("--b", "Content-Type: message/delivery-status", "", "Final-Recipient: utf-8; ü@x"),
        lines("--b", "Grüße: ohne leere Zeile", "noch: schön"),
        lines("From: ü <a@b>", "Subject: ü"),
    ],
)
@pytest.mark.parametrize("kind", ["multipart/mixed", "multipart/signed", "message/rfc822"])
def test_parts_and_messages_within_go_out_as_they_came(kind, body):
    top = f"Content-Type: {kind}; boundary=b\r\n\r\n".encode()
    out, _ = convert("Subject: ü\r\n".encode() + top + body)
    assert out == b"Subject: =?utf-8?b?w7w=?=\r\n" + top + body


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_odd_messages_go_out_as_they_came(case):
    octets = case.read_bytes()
    assert convert(octets)[0] == octets
    assert size_of([octets]) is None
    if b"<" in octets:
        assert "a@example.org" in str(message_from_bytes(convert(octets)[0])["From"])


# -- what a reader sees ------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40)
PHRASES = NAMES.map(lambda name: '"{}"'.format(re.sub(r'(["\\])', r"\\\1", name)))
ADDRESSES = st.from_regex(r"[a-z0-9.+_=-]{1,20}@[a-z0-9.-]{1,20}", fullmatch=True)


@given(st.lists(st.tuples(PHRASES, ADDRESSES), min_size=1, max_size=8))
def test_ascii_addresses_survive_whatever_their_names(mailboxes):
    before = ", ".join(f"{name} <{address}>" for name, address in mailboxes)
    out, _ = convert(f"To: {before}\r\n\r\n".encode())
    assert out.isascii()
    read = out[3:].decode().replace("\r\n", "")
    found = [address for _, address in AddressList(read).addresslist]
    assert found == [address for _, address in mailboxes]


WORDS = ["ü", "a", " ", ",", ":", ";", "(", ")", "<a@b>", "c@d", '"é"', '"', "\\", ".", "@", "\t"]
WORDS += [", ü <a@b>", ", a@b (é)", ", é:", ';"é," <c@d>']


@given(st.lists(st.sampled_from(WORDS), max_size=8).map("".join))
def test_a_program_finds_the_same_addresses(text):
    before = f"ü <y@z>{text}"
    out, downgrader = convert(f"To: {before}\r\n\r\n".encode())
    read = out[3:].decode().replace("\r\n", "")
    assert re.findall("a@b|c@d|y@z", read) == re.findall("a@b|c@d|y@z", before)
    if downgrader.changed:
        assert out.isascii()
        addresses = [address for _, address in AddressList(before).addresslist]
        assert [address for _, address in AddressList(read).addresslist] == addresses


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=300))
def test_a_reader_sees_the_text_that_was_there(text):
    assume("=?" not in text and text.strip(" \t") and not text.isascii())
    out, _ = convert(f"Subject: {text}\r\n\r\n".encode())
    value = out[len("Subject: ") :].decode("ascii").replace("\r\n", "")
    # Python drops a space between an encoded word and what stands beside it
    assert "".join(str(make_header(decode_header(value))).split()) == "".join(text.split())


@given(st.text(st.characters(codec="utf-8", min_codepoint=0x80), min_size=1, max_size=300))
def test_lines_are_folded_and_no_letter_is_divided(text):
    out, _ = convert(f"Subject: {text}\r\n\r\n".encode())
    for line in out.split(b"\r\n"):
        assert len(line) <= 76
    for word in re.findall(rb"=\?utf-8\?b\?[^?]*\?=", out):
        assert decode_header(word.decode())[0][0].decode("utf-8")


def test_a_mail_program_reads_what_came_out():
    octets = lines(
        "From: Jörg Müller <joerg@example.org>",
        'To: "Büro, Köln" <buero@example.org>, a@example.org',
        "Subject: Grüße aus Köln",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        "schöne Grüße",
    )
    read = message_from_bytes(convert(octets)[0], policy=policy.default)
    assert [mailbox.display_name for mailbox in read["To"].addresses] == ["Büro, Köln", ""]
    assert read["From"].addresses[0].addr_spec == "joerg@example.org"
    assert read["Subject"] == "Grüße aus Köln"
    assert read.get_content() == "schöne Grüße\r\n"


# -- bounds ------------------------------------------------------------------------


def test_a_header_without_end_stays_as_it_is():
    octets = "Subject: ü\r\n".encode() + b"X: y\r\n" * (HEADER_MAXIMUM // 6 + 1) + b"\r\n"
    for cuts in ((), range(0, len(octets), 999)):
        assert convert(octets, cuts)[0] == octets
    assert size_of([octets]) is None


@pytest.mark.parametrize("short", range(-3, 12))
def test_a_header_that_just_fits_is_converted_wherever_it_is_cut(short):
    first = "Subject: ü\r\n".encode()
    room = HEADER_MAXIMUM - len(first) - 2 - short
    octets = first + b"X: " + b"y" * (room - 5) + b"\r\n\r\n" + "Subject: ü\r\n".encode() * 9
    out, _ = convert(octets)
    assert convert(octets, range(0, len(octets), 1000))[0] == out
    assert len(out) == len(octets) + growth_of(octets) == len(octets) + growth_of(octets[:40000])
    assert convert(out)[0] == out
    assert out.startswith(b"Subject: =?utf-8?b?") == (short >= 0)


def test_too_much_to_convert_stays_as_it_is():
    one = "To: ü <a@b>\r\n".encode()
    many = INTERNATIONAL_MAXIMUM // len(one)
    assert convert(one * many + b"\r\n")[0].isascii()
    octets = one * (many + 1) + b"\r\n"
    assert convert(octets)[0] == octets


def test_memory_is_bounded_whatever_comes():
    downgrader = Downgrader()
    for _ in range(100):
        downgrader.feed(b"\xc3\xbc--" * 1024)
        held = sum(map(len, downgrader._held or ()))
        assert held <= HEADER_MAXIMUM


def test_the_letter_in_names_of_files_goes_with_what_comes_out():
    """If this test must change, give ``names.DOWNGRADED`` another letter."""
    octets = lines("Subject: Grüße", "From: Jörg <a@b>, c@d (é)", "Message-ID: <ü@x>", "", "ü")
    assert convert(octets)[0] == lines(
        "Subject: =?utf-8?b?R3LDvMOfZQ==?=",
        "From: =?utf-8?b?SsO2cmc=?= <a@b>, c@d (=?utf-8?b?w6k=?=)",
        "Message-ID: <ü@x>",
        "",
        "ü",
    )
