"""The grammar of MAIL, RCPT and HELO (RFC 5321 §4.1)."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.address import Address
from postoffice.errors import PermanentFailure
from postoffice.smtp import grammar
from postoffice.smtp.grammar import MailCommand, decode, hello, mail, rcpt

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
        ("<Postmaster>", None),
        ("<POSTMASTER>", None),
    ],
)
def test_recipients_that_are_addresses(argument, address):
    assert rcpt(argument, utf8=False) == address


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "a@example.org",
        "<a@example.org",
        "a@example.org>",
        "<<a@example.org>>",
        "<a@b@example.org>",
        "<a>",
        "<>",
        "<@example.org>",
        "<a@>",
        "<a..b@example.org>",
        "<.a@example.org>",
        "<a.@example.org>",
        "<a b@example.org>",
        '<""@example.org>',
        '<"a@example.org>',
        '<"a"b@example.org>',
        "<a@exa mple.org>",
        "<a@-example.org>",
        "<a@example..org>",
        "<a@[999.0.0.1]>",
        "<a@[IPv6:zz]>",
        "<a@[tag:thing]>",
        "<@relay.example:>",
        "<relay.example:a@example.org>",
        "<" + "x" * 65 + "@example.org>",
        "<a@" + "x" * 64 + ".org>",
        "<a@" + "x." * 130 + "org>",
        "<a@example.org>x",
    ],
)
def test_recipients_that_are_none(argument):
    with pytest.raises(PermanentFailure) as refused:
        rcpt(argument, utf8=True)
    assert refused.value.reply == grammar.BAD_RECIPIENT


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        ("<>", MailCommand(None)),
        ("<a@example.org> SIZE=100", MailCommand(Address("a", "example.org"), 100)),
        ("<a@example.org> body=8bitmime", MailCommand(Address("a", "example.org"))),
        ("<a@example.org> BODY=7BIT  SIZE=1", MailCommand(Address("a", "example.org"), 1)),
        ("<ä@example.org> SMTPUTF8", MailCommand(Address("ä", "example.org"), 0, True)),
        ("<a@exämple.org> SMTPUTF8", MailCommand(Address("a", "exämple.org"), 0, True)),
    ],
)
def test_senders(argument, command):
    assert mail(argument, EXTENSIONS) == command


@pytest.mark.parametrize(
    ("argument", "code", "status"),
    [
        ("<Postmaster>", 501, "5.1.7"),
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


def test_rcpt_has_no_parameters_yet():
    with pytest.raises(PermanentFailure) as refused:
        rcpt("<a@example.org> NOTIFY=NEVER", utf8=False)
    assert refused.value.reply.code == 555


def test_a_recipient_in_other_letters_needs_smtputf8():
    with pytest.raises(PermanentFailure) as refused:
        rcpt("<ä@example.org>", utf8=False)
    assert refused.value.reply.code == 553
    assert rcpt("<ä@example.org>", utf8=True) == Address("ä", "example.org")


@pytest.mark.parametrize(
    "name", ["a", "a.example.org", "[192.0.2.1]", "[IPv6:::1]", "my_pc", "ä.de"]
)
def test_names_that_clients_give(name):
    assert hello(name) == name


@pytest.mark.parametrize("name", ["", "a b", "<script>", "a(b)", "x" * 256, 'a"b', "a;b"])
def test_names_that_are_none(name):
    with pytest.raises(PermanentFailure):
        hello(name)


@given(st.binary(max_size=80))
def test_whatever_comes_is_understood_or_refused(line):
    try:
        text = decode(line)
    except PermanentFailure:
        return
    for read in (
        hello,
        lambda argument: mail(argument, EXTENSIONS),
        lambda argument: rcpt(argument, utf8=True),
        lambda argument: rcpt(f"<{argument}@example.org>", utf8=True),
        lambda argument: rcpt(f'<"{argument}"@example.org>', utf8=True),
        lambda argument: mail(f"<a@{argument}>", EXTENSIONS),
    ):
        with suppress(PermanentFailure):
            read(text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30))
def test_a_quoted_local_part_comes_back_as_it_was_written(local):
    address = Address(local, "example.org")
    assert rcpt(f"<{address}>", utf8=False) == address
