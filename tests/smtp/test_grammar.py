"""The grammar of MAIL, RCPT and HELO (RFC 5321 §4.1), of BDAT and of XCLIENT."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.address import Address
from postoffice.model.errors import PermanentFailure
from postoffice.model.reply import UNKNOWN_PARAMETER
from postoffice.smtp import grammar, paths
from postoffice.smtp.grammar import behind, chunk, decode, hello, mail, rcpt, xclient
from postoffice.smtp.questions import Mail

EXTENSIONS = ("SIZE", "BODY", "SMTPUTF8")


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        ("<a@example.org>", Address("a", "example.org")),
        (" <a@example.org>", Address("a", "example.org")),
        ("<A.b+c=d@Example.ORG>", Address("A.b+c=d", "Example.ORG")),
        ('<"a b"@example.org>', Address("a b", "example.org")),
        ('<"a@b"@example.org>', Address("a@b", "example.org")),
        (r'<"a\"\\b"@example.org>', Address('a"\\b', "example.org")),
        ("<a@[192.0.2.1]>", Address("a", "[192.0.2.1]")),
        ("<a@[IPv6:2001:db8::1]>", Address("a", "[IPv6:2001:db8::1]")),
        ("<@relay.example,@other.example:a@example.org>", Address("a", "example.org")),
        ("<postmaster@example.org>", Address("postmaster", "example.org")),
        ("<" + "x" * 64 + "@example.org>", Address("x" * 64, "example.org")),
        ("<Postmaster>", None),
        ("<POSTMASTER>", None),
    ],
)
def test_recipients_that_are_addresses(argument, address):
    assert rcpt(argument, utf8=False).address == address


@pytest.mark.parametrize(
    ("argument", "local", "domain"),
    [
        ("a@example.org", "a", "example.org"),
        ("\ta@example.org".replace("\t", " "), "a", "example.org"),
        ("< a@example.org >", "a", "example.org"),
        ("<a @ example.org>", "a", "example.org"),
        ("<root>", "root", ""),
        ("root", "root", ""),
        ("<MAILER-DAEMON>", "MAILER-DAEMON", ""),
        ("<happy..cat@example.org>", "happy..cat", "example.org"),
        ("<.cat.@example.org>", ".cat.", "example.org"),
        ("<a@example.org.>", "a", "example.org"),
        ("<a@-example..org>", "a", "-example..org"),
        ("<a@[999.0.0.1]>", "a", "[999.0.0.1]"),
        ("<a@b@example.org>", "a@b", "example.org"),
        ("<a b@example.org>", "a b", "example.org"),
        ('<"a"b@example.org>', '"a"b', "example.org"),
        ('<"a@example.org>', '"a', "example.org"),
        ('<"a>b"@example.org>', "a>b", "example.org"),
        ("<Anna B <a@example.org>>", "a", "example.org"),
        ('<"B, <Anna>" <a@example.org>>', "a", "example.org"),
        ("Anna <a@example.org>", "a", "example.org"),
        ("<<a@example.org>>", "a", "example.org"),
        ("<a@example.org (Anna)>", "a", "example.org"),
        ("<(a)@example.org>", "(a)", "example.org"),
        ("<" + "x" * 1000 + "@example.org>", "x" * 1000, "example.org"),
        ("<a@" + "x." * 130 + "org>", "a", "x." * 130 + "org"),
        ("<a@example.org>>", "a", "example.org"),
        ("<a@example.org>;", "a", "example.org"),
        ("<a@example.org>, ", "a", "example.org"),
        ("a@example.org>", "a", "example.org"),
        (r"<\a@example.org>", "a", "example.org"),
        (r"<a\@b@example.org>", "a@b", "example.org"),
        (r"<a\ b@example.org>", "a b", "example.org"),
    ],
)
def test_addresses_as_the_field_sends_them(argument, local, domain):
    assert rcpt(argument, utf8=False).address == Address(local, domain)
    assert mail(argument, ()).sender == Address(local, domain)
    assert mail(f"{argument}  SIZE=3 ", EXTENSIONS) == Mail(Address(local, domain), 3)


@pytest.mark.parametrize(
    ("argument", "what"),
    [
        ("", "there is none"),
        ("<@>", "there is none"),
        (">", "there is none"),
        ("<a@>", "nothing after the @"),
        ("<a@.>", "nothing after the @"),
        ("<a@exa mple.org>", "no domain after the @"),
        ("<a@example.org", "the closing > is missing"),
        ("<<a@example.org>", "the closing > is missing"),
        ("<@relay.example:>", "there is none"),
        ("<a@example.org>x", "a space is missing after the >"),
        ("<a@example.org>SIZE=1", "a space is missing after the >"),
    ],
)
def test_what_is_no_address_is_told_what_it_lacks(argument, what):
    for read in (lambda: rcpt(argument, utf8=True), lambda: mail(argument, EXTENSIONS)):
        with pytest.raises(PermanentFailure) as refused:
            read()
        assert refused.value.reply.code == 501
        assert refused.value.reply.text.endswith(f"address: {what}")


@pytest.mark.parametrize("argument", ["<@example.org>", '<""@example.org>', "@example.org"])
def test_a_sender_may_be_a_domain_and_a_recipient_may_not(argument):
    sender = mail(argument, ()).sender
    assert sender == Address("", "example.org")
    assert str(sender) == '""@example.org'
    with pytest.raises(PermanentFailure) as refused:
        rcpt(argument, utf8=True)
    assert refused.value.reply.wire == b"501 5.1.3 Bad recipient address: " + (
        b"nothing before the @\r\n"
    )


@pytest.mark.parametrize("letter", "\u200c\u200d\u00ad\u00a0\u3000\U0001fae9\U0001f469")
def test_letters_that_join_others_are_letters(letter):
    line = f"MAIL FROM:<a{letter}b@example.org> SMTPUTF8".encode()
    assert decode(line) == line.decode()


@pytest.mark.parametrize("letter", "\0\x7f\x85\u2028\u202e\u2066\u200f\ufeff")
def test_what_takes_effect_where_it_is_shown_is_no_letter(letter):
    with pytest.raises(PermanentFailure, match="control"):
        decode(f"MAIL FROM:<a{letter}b@example.org> SMTPUTF8".encode())


def test_a_recipient_is_somebody():
    with pytest.raises(PermanentFailure) as refused:
        rcpt("<>", utf8=True)
    assert (refused.value.reply.code, refused.value.reply.status) == (501, "5.1.3")


@pytest.mark.parametrize("argument", ["FROM:<a>", "from :<a>", "From  : <a>", "FROM:a"])
def test_blanks_around_the_colon(argument):
    assert mail(behind("FROM", argument), ()).sender == Address("a", "")


@pytest.mark.parametrize("argument", ["", "<a@example.org>", "TO:<a@example.org>", "FROM <a>"])
def test_without_the_colon_there_is_no_address(argument):
    with pytest.raises(PermanentFailure, match="no path") as refused:
        behind("FROM", argument)
    assert refused.value.reply.wire.startswith(b"501 5.1.7 FROM: is missing")


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        ("<>", Mail(None)),
        ("<a@example.org> SIZE=100", Mail(Address("a", "example.org"), 100)),
        ("<a@example.org> body=8bitmime", Mail(Address("a", "example.org"), eight_bit=True)),
        ("<a@example.org> BODY=7BIT  SIZE=1", Mail(Address("a", "example.org"), 1)),
        ("<ä@example.org> SMTPUTF8", Mail(Address("ä", "example.org"), 0, True)),
        ("<a@exämple.org> SMTPUTF8", Mail(Address("a", "exämple.org"), 0, True)),
    ],
)
def test_senders(argument, command):
    assert mail(argument, EXTENSIONS) == command


@pytest.mark.parametrize(
    ("argument", "code", "status"),
    [
        ("<a@example.org> SIZE=", 501, "5.5.4"),
        ("<a@example.org> SIZE", 501, "5.5.4"),
        ("<a@example.org> SIZE=-1", 501, "5.5.4"),
        ("<a@example.org> SIZE=1 SIZE=2", 501, "5.5.4"),
        ("<a@example.org> SIZE=" + "9" * 21, 501, "5.5.4"),
        ("<a@example.org> BODY=BINARYMIME", 555, "5.5.4"),
        ("<a@example.org> BODY", 501, "5.5.4"),
        ("<a@example.org> SMTPUTF8=yes", 501, "5.5.4"),
        ("<a@example.org> RET=FULL", 555, "5.5.4"),
        ("<a@example.org> AUTH=<>", 555, "5.5.4"),
        ("<a@example.org> =x", 501, "5.5.4"),
        ("<ä@example.org>", 553, "5.6.7"),
        ("<a@exämple.org>", 553, "5.6.7"),
    ],
)
def test_senders_that_are_refused(argument, code, status):
    with pytest.raises(PermanentFailure) as refused:
        mail(argument, EXTENSIONS)
    assert (refused.value.reply.code, refused.value.reply.status) == (code, status)


def test_parameters_are_for_those_who_said_ehlo():
    with pytest.raises(PermanentFailure) as refused:
        mail("<a@example.org> SIZE=1", ())
    assert refused.value.reply.code == 555


def test_rcpt_has_no_parameters_that_were_not_offered():
    with pytest.raises(PermanentFailure) as refused:
        rcpt("<a@example.org> NOTIFY=NEVER", utf8=False)
    assert refused.value.reply.code == 555


def test_a_recipient_in_other_letters_needs_smtputf8():
    with pytest.raises(PermanentFailure) as refused:
        rcpt("<ä@example.org>", utf8=False)
    assert refused.value.reply.code == 553
    assert rcpt("<ä@example.org>", utf8=True).address == Address("ä", "example.org")


SECURE = (*EXTENSIONS, "AUTH", "REQUIRETLS")


@pytest.mark.parametrize(
    "parameters",
    ["AUTH=<>", "AUTH=joe@example.net", "auth=a+2Bb", "REQUIRETLS", "requiretls AUTH=<> SIZE=0"],
)
def test_parameters_that_are_offered_to_some(parameters):
    argument = f"<a@example.org> {parameters}"
    requiretls = "REQUIRETLS" in parameters.upper()
    assert mail(argument, SECURE) == Mail(Address("a", "example.org"), requiretls=requiretls)
    with pytest.raises(PermanentFailure) as refused:
        mail(argument, EXTENSIONS)
    assert refused.value.reply.code == 555


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("AUTH", grammar.BAD_COMMAND),
        ("AUTH=", grammar.BAD_COMMAND),
        ("AUTH=a+2b", grammar.BAD_COMMAND),
        ("AUTH=a+", grammar.BAD_COMMAND),
        ("AUTH=ä", grammar.BAD_COMMAND),
        ("AUTH=<> AUTH=<>", grammar.BAD_COMMAND),
        ("REQUIRETLS=", grammar.BAD_COMMAND),
        ("REQUIRETLS=yes", grammar.BAD_COMMAND),
        ("BODY=BINARYMIME", UNKNOWN_PARAMETER),
        ("body=binarymime", UNKNOWN_PARAMETER),
        ("BODY=", grammar.BAD_COMMAND),
        ("BODY=8BIT", grammar.BAD_COMMAND),
        ("SIZE=1k", grammar.BAD_COMMAND),
        ("SIZE=١", grammar.BAD_COMMAND),
        ("RET=FULL", UNKNOWN_PARAMETER),
        ("ENVID=QQ314159", UNKNOWN_PARAMETER),
        ("BY=120;R", UNKNOWN_PARAMETER),
        ("-X", grammar.BAD_COMMAND),
        ("X_Y", grammar.BAD_COMMAND),
        ("X=a=b", grammar.BAD_COMMAND),
    ],
)
def test_parameters_that_are_refused(parameters, said):
    with pytest.raises(PermanentFailure) as refused:
        mail(f"<a@example.org> {parameters}", SECURE)
    reply = refused.value.reply
    assert (reply.code, reply.status) == (said.code, said.status)
    assert parameters[:2].upper() in reply.text.upper() or "parameter" in reply.text


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("0", (0, False)),
        ("1000", (1000, False)),
        ("007", (7, False)),
        ("0 LAST", (0, True)),
        ("86 last", (86, True)),
        ("86  LAST", (86, True)),
        ("9" * 20, (10**20 - 1, False)),
    ],
)
def test_chunks(argument, said):
    assert chunk(argument) == said


@pytest.mark.parametrize(
    "argument",
    ["", "LAST", "x", "-1", "+1", "1.0", "1e3", "0x10", "1_000", "١", "²", "1 LAS", "1LAST"]
    + ["1 LAST LAST", "1 2", "LAST 1", " 1", "1 ", "1 LAST ", "9" * 21, "1\n", "1 LAST\n"],
)
def test_chunks_that_do_not_say_where_they_end(argument):
    assert chunk(argument) is None


@given(st.integers(0, 10**20 - 1), st.booleans())
def test_every_size_of_a_chunk_is_understood(size, last):
    assert chunk(f"{size}{' LAST' * last}") == (size, last)


@given(st.ip_addresses(), st.integers(0, 65535), st.booleans())
def test_every_client_can_be_told_by_a_relay(address, port, quoted):
    text = f"{'IPV6:' * (address.version == 6)}{address}"
    if quoted:
        text = "".join(f"+{ord(letter):02X}" for letter in text)
    mapped = getattr(address, "ipv4_mapped", None)
    assert xclient(f"PORT={port} ADDR={text}") == (str(mapped or address), port)


@pytest.mark.parametrize(
    ("argument", "client"),
    [
        ("ADDR=[UNAVAILABLE]", (None, 0)),
        ("ADDR=[unavailable] PORT=[tempunavail]", (None, 0)),
        ("NAME=[UNAVAILABLE] port=25", (None, 25)),
        ("PROTO=SMTP HELO=x+20y ADDR=::1", ("::1", 0)),
    ],
)
def test_what_a_relay_does_not_know(argument, client):
    assert xclient(argument) == client


@pytest.mark.parametrize(
    "argument",
    ["", "ADDR", "ADDR=", "=192.0.2.7", "ADDR=192.0.2", "ADDR=192.0.2.7/32", "ADDR=0x7f000001"]
    + ["ADDR=+31", "ADDR=192.0.2.7+0A", "ADDR=+zz", "=", "LOGIN", "ADDR=::1 X"]
    + [
        "PORT=",
        "PORT=65536",
        "PORT=000025",
        "PORT=1e3",
        "PORT=²",
        "PORT=١",
        "PORT=+2B1",
        "PORT=smtp",
    ]
    + ["ADDR=::1 addr=::1", "ADDR=::1 NAME", "ADDR=::1, PORT=1"],
)
def test_what_a_relay_must_not_say(argument):
    with pytest.raises(PermanentFailure) as refused:
        xclient(argument)
    reply = refused.value.reply
    assert (reply.code, reply.status) == (501, "5.5.4")


@pytest.mark.parametrize(
    "more",
    ["LOGIN=u1@example.test", "LOGIN=", "DESTADDR=192.0.2.9 DESTPORT=25", "X=1 X=2", "login=+zz"]
    + ["HELO=", "HELO=a=b", "HELO=Büro", "NAME=a NAME=b", "name=+zz", "PROTO="],
)
def test_what_a_relay_tells_beside_it_is_left_alone(more):
    assert xclient(f"ADDR=192.0.2.7 {more} NAME=[UNAVAILABLE]") == ("192.0.2.7", 0)


@pytest.mark.parametrize(
    "name",
    ["a", "a.example.org", "[192.0.2.1]", "[IPv6:::1]", "my_pc", "ä.de", "Annas MacBook", "a/b"]
    + ["<script>", "router.(none)", "[fe80::1%en0]", "${HOSTNAME}", "_", 'a"b', "a;b", "x" * 2000],
)
def test_names_that_clients_give(name):
    assert hello(name) == name


def test_no_name_is_none():
    with pytest.raises(PermanentFailure) as refused:
        hello("")
    assert refused.value.reply == grammar.BAD_HELLO


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"EHLO B\xfcro-PC", r"EHLO B\xfcro-PC"),
        ("helo Büro-PC".encode(), "helo Büro-PC"),
        (b"EHLO\tpc", "EHLO pc"),
        (b" HELO a\xe2\x80\xa8b", r" HELO a\u2028b"),
        (b"LHLO a\xc2\x85b", r"LHLO a\x85b"),
    ],
)
def test_names_of_any_octets_are_escaped(line, text):
    assert decode(line) == text


@pytest.mark.parametrize("line", [b"EHLO a\0b", b"HELO a\x1bb", b"EHLO \x7f"])
def test_no_name_has_control_characters(line):
    with pytest.raises(PermanentFailure):
        decode(line)


@pytest.mark.parametrize("line", [b"NOOP", b"", b"MAIL FROM:<\xc3\xa4@example.org>"])
def test_lines_of_text(line):
    assert decode(line).encode() == line


@pytest.mark.parametrize(
    "line",
    [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0", b"\x7f", b"\xc2\x85", b"\xe2\x80\xa8"],
)
def test_lines_of_something_else(line):
    with pytest.raises(PermanentFailure) as refused:
        decode(line)
    assert refused.value.reply == grammar.BAD_CHARACTERS


@given(st.binary(max_size=80))
def test_whatever_comes_is_understood_or_refused(line):
    try:
        text = decode(line)
    except PermanentFailure:
        return
    for read in (
        hello,
        lambda argument: behind("FROM", argument),
        lambda argument: mail(argument, EXTENSIONS),
        lambda argument: rcpt(argument, utf8=True),
        lambda argument: rcpt(f"<{argument}@example.org>", utf8=True),
        lambda argument: rcpt(f'<"{argument}"@example.org>', utf8=True),
        lambda argument: mail(f"<a@{argument}>", EXTENSIONS),
        lambda argument: mail(f"<> {argument}", SECURE),
        lambda argument: mail(f"<> AUTH={argument}", SECURE),
        lambda argument: mail(f"<> ENVID={argument}", ("RET", "ENVID")),
        lambda argument: rcpt(f"<a@b> ORCPT={argument}", ("NOTIFY", "ORCPT"), utf8=True),
        chunk,
        xclient,
        lambda argument: xclient(f"ADDR={argument}"),
        lambda argument: xclient(f"PORT={argument}"),
    ):
        with suppress(PermanentFailure):
            read(text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30))
def test_a_quoted_local_part_comes_back_as_it_was_written(local):
    address = Address(local, "example.org")
    assert rcpt(f"<{address}>", utf8=False).address == address


LETTERS = st.text('<>@"\\\\():;, .aé', max_size=40)


@given(LETTERS)
def test_whatever_stands_for_an_address_is_read_or_refused_and_written_as_one_word(text):
    try:
        sender = mail(text, ("SMTPUTF8",)).sender
    except PermanentFailure:
        return
    if sender is None:
        return
    assert "\n" not in str(sender)
    assert mail(f"<{sender}> SMTPUTF8", ("SMTPUTF8",)).sender is not None
    assert sender.normal


@pytest.mark.parametrize(
    "piece", ['"', "\\\\", "<", ">", "<<>", '"<', "(", "@", " ", '\\\\"', "@a:"]
)
def test_what_is_odd_is_read_in_one_go(piece):
    """With ten times the octets of a command it is over at once; a square of them never is."""
    for argument in (piece * 20_000, f"<{piece * 20_000}>", f"<{piece * 20_000}@example.org>"):
        with suppress(PermanentFailure):
            mail(argument, EXTENSIONS)


@given(
    local=st.text('aB1.+@<> "\\', max_size=6),
    domain=st.text("aB1.-_]@<> ", max_size=6),
    rest=st.sampled_from(["", " ", " SIZE=1", ">", "x", "  X"]),
)
def test_the_usual_form_is_read_as_all_others(local, domain, rest):
    """A space before it is superfluous, and leads past the shorter way."""

    def read(argument):
        with suppress(paths.NotAPath):
            return paths.read(argument)
        return None

    assert read(f"<{local}@{domain}>{rest}") == read(f" <{local}@{domain}>{rest}")
