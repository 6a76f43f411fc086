"""The parameters that ask for delivery status notifications (RFC 3461 §4, RFC 6533 §3)."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.address import Address
from postoffice.model.envelope import DeliveryStatus, Notify
from postoffice.model.errors import PermanentFailure
from postoffice.protocol import xtext
from postoffice.smtp.grammar import mail, rcpt
from postoffice.smtp.options import SMTPOptions
from postoffice.smtp.questions import Mail, Recipient

OF_MAIL = SMTPOptions(dsn=True).mail_parameters
OF_RCPT = SMTPOptions(dsn=True).rcpt_parameters
ANN = Address("ann", "example.org")


def encode(text: str) -> str:
    return "".join(
        one if "!" <= one <= "~" and one not in "+=" else f"+{ord(one):02X}" for one in text
    )


def status(parameters: str) -> DeliveryStatus | None:
    return mail(f"<ann@example.org> {parameters}", OF_MAIL).status


def notify(parameters: str, *, utf8: bool = False) -> Notify | None:
    return rcpt(f"<ann@example.org> {parameters}", OF_RCPT, utf8=utf8).notify


@pytest.mark.parametrize(
    ("parameters", "meant"),
    [
        ("", None),
        ("SIZE=1 BODY=8BITMIME", None),
        ("RET=HDRS", DeliveryStatus("HDRS")),
        ("ret=full", DeliveryStatus("FULL")),
        ("ENVID=QQ314159", DeliveryStatus("", "QQ314159")),
        ("ENVID=a+20b+2Bc SIZE=1 RET=FULL", DeliveryStatus("FULL", "a+20b+2Bc")),
        ("ENVID=" + "x" * 100, DeliveryStatus("", "x" * 100)),
    ],
)
def test_what_mail_says(parameters, meant):
    assert status(parameters) == meant


@pytest.mark.parametrize(
    ("parameters", "meant"),
    [
        ("", None),
        ("NOTIFY=NEVER", Notify("NEVER")),
        ("notify=never", Notify("NEVER")),
        ("NOTIFY=Success,FAILURE,delay", Notify("SUCCESS,FAILURE,DELAY")),
        ("NOTIFY=DELAY,DELAY", Notify("DELAY")),
        ("ORCPT=rfc822;Bob+2Bx@Example.COM", Notify("", "rfc822;Bob+2Bx@Example.COM")),
        ("ORCPT=x-local;a+20b NOTIFY=FAILURE", Notify("FAILURE", "x-local;a+20b")),
        (r"ORCPT=utf-8;j\x{FC}rgen@example.org", Notify("", r"utf-8;j\x{FC}rgen@example.org")),
        ("ORCPT=rfc822;" + "x" * 493, Notify("", "rfc822;" + "x" * 493)),
    ],
)
def test_what_rcpt_says(parameters, meant):
    assert notify(parameters) == meant


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ("RET", "RET is FULL or HDRS"),
        ("RET=BODY", "RET is FULL or HDRS"),
        ("RET=FULL RET=FULL", "RET is given twice"),
        ("ENVID", "ENVID has printable ASCII in xtext, 100 octets at most"),
        ("ENVID=a+0Ab", "ENVID has printable ASCII in xtext, 100 octets at most"),
        ("ENVID=a+FC", "ENVID has printable ASCII in xtext, 100 octets at most"),
        ("ENVID=a+2b", "ENVID has printable ASCII in xtext, 100 octets at most"),
        ("ENVID=\u00fc", "ENVID has printable ASCII in xtext, 100 octets at most"),
        ("ENVID=" + "x" * 101, "ENVID has printable ASCII in xtext, 100 octets at most"),
    ],
)
def test_what_mail_cannot_say(parameters, told):
    with pytest.raises(PermanentFailure) as refused:
        status(parameters)
    assert (
        refused.value.reply.wire == f"501 5.5.4 Syntax error in the argument: {told}\r\n".encode()
    )


LIST = "NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY"
ORIGINAL = "ORCPT has a type, a semicolon, and an address in xtext"


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ("NOTIFY", LIST),
        ("NOTIFY=NEVER,SUCCESS", LIST),
        ("NOTIFY=NEVER,NEVER,DELAY", LIST),
        ("NOTIFY=SUCCESS,", LIST),
        ("NOTIFY=,", LIST),
        ("NOTIFY=SUCCESS;DELAY", LIST),
        ("NOTIFY=ALWAYS", LIST),
        ("NOTIFY=NEVER NOTIFY=NEVER", "NOTIFY is given twice"),
        ("ORCPT", ORIGINAL),
        ("ORCPT=ann@example.org", ORIGINAL),
        ("ORCPT=rfc822;", ORIGINAL),
        ("ORCPT=;ann@example.org", ORIGINAL),
        ("ORCPT=rfc(822;ann@example.org", ORIGINAL),
        ("ORCPT=rfc822;a+0D+0ABcc:b", ORIGINAL),
        ("ORCPT=rfc822;a+E4", ORIGINAL),
        ("ORCPT=rfc822;\u00fc", ORIGINAL),
        (r"ORCPT=utf-8;a\x{A}", ORIGINAL),
        (r"ORCPT=utf-8;a\x{0A}", ORIGINAL),
        (r"ORCPT=utf-8;a\x{202E}", ORIGINAL),
        (r"ORCPT=utf-8;a\x{D800}", ORIGINAL),
        (r"ORCPT=utf-8;a\x{FFFFFF}", ORIGINAL),
        ("ORCPT=utf-8;a+2Bb", ORIGINAL),
        ("ORCPT=rfc822;" + "x" * 494, "ORCPT has 500 octets at most"),
    ],
)
def test_what_rcpt_cannot_say(parameters, told):
    with pytest.raises(PermanentFailure) as refused:
        notify(parameters, utf8=True)
    assert (
        refused.value.reply.wire == f"501 5.5.4 Syntax error in the argument: {told}\r\n".encode()
    )


def test_an_original_recipient_in_other_letters_needs_smtputf8():
    assert notify("ORCPT=utf-8;jürgen@exämple.org", utf8=True) is not None
    with pytest.raises(PermanentFailure) as refused:
        notify("ORCPT=utf-8;jürgen@exämple.org")
    assert refused.value.reply.code == 553


@pytest.mark.parametrize("address", ["<Postmaster>", "<ann@example.org>"])
def test_everybody_may_have_an_original_recipient(address):
    assert rcpt(f"{address} NOTIFY=DELAY", OF_RCPT, utf8=False).notify == Notify("DELAY")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=33))
def test_what_is_encoded_comes_back(text):
    assert xtext.decoded(encode(text)) == text
    assert status(f"ENVID={encode(text)}") == DeliveryStatus("", encode(text))
    assert notify(f"ORCPT=rfc822;{encode(text)}") == Notify("", f"rfc822;{encode(text)}")
    assert xtext.original_recipient(f"RFC822;{encode(text)}") == ("rfc822", text)


@given(st.text(min_size=1, max_size=30).filter(str.isprintable))
def test_an_address_in_utf8_comes_back(text):
    safe = re.sub(r"[ +=\\]", lambda found: f"\\x{{{ord(found[0]):02X}}}", text)
    ascii_only = re.sub(r"[^!-~]", lambda found: f"\\x{{{ord(found[0]):02X}}}", safe)
    for form in (safe, ascii_only):
        assert xtext.original_recipient(f"utf-8;{form}") == ("utf-8", text)


PIECES = ["NOTIFY=", "ORCPT=", "RET=", "ENVID=", "NEVER", "SUCCESS", "DELAY", ",", ";", "utf-8"]
PIECES += ["rfc822", "+", "2B", "0A", r"\x{", "}", "202E", "FC", "a", "ü", "=", " ", "FULL", "HDRS"]
ANYTHING = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(ANYTHING, st.booleans())
def test_whatever_is_taken_can_be_shown_and_sent_on(parameters, utf8):
    """Nothing that is kept has a line end, or is refused if it comes a second time."""
    with suppress(PermanentFailure):
        said = notify(parameters, utf8=utf8)
        if said is not None:
            again = f"NOTIFY={said.flags} " * bool(said.flags)
            again += f"ORCPT={said.orcpt}" * bool(said.orcpt)
            assert notify(again, utf8=utf8) == said
            assert not said.orcpt or xtext.original_recipient(said.orcpt)[1].isprintable()
            assert said.flags == "NEVER" or "NEVER" not in said.flags
    with suppress(PermanentFailure):
        kept = status(parameters)
        if kept is not None:
            assert kept.ret in ("", "FULL", "HDRS")
            assert not kept.envid or xtext.decoded(kept.envid).isprintable()


# -- in a session -----------------------------------------------------------------

MAIL = b"MAIL FROM:<ann@example.org> RET=HDRS ENVID=a+20b\r\n"
RCPT = b"RCPT TO:<bob@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@example.com\r\n"


@pytest.mark.parametrize("lmtp", [False, True])
def test_a_session_that_offers_it_asks_with_what_was_said(office, lmtp):
    client = office(dsn=True, lmtp=lmtp)
    assert b"250-DSN\r\n" in client.hear(b"LHLO pc\r\n" if lmtp else b"EHLO pc\r\n")
    assert client.told(MAIL + RCPT) == ["250 2.1.0", "250 2.1.5"]
    sender, recipient = client.asked
    assert isinstance(sender, Mail)
    assert sender.status == DeliveryStatus("HDRS", "a+20b")
    orcpt = "rfc822;b@example.com"
    assert recipient == Recipient(Address("bob", "example.net"), Notify("SUCCESS,DELAY", orcpt))


def test_where_it_is_not_offered_it_is_refused(office):
    client = office()
    assert b"DSN" not in client.hear(b"EHLO pc\r\n")
    assert client.told(MAIL) == ["555 5.5.4"]
    assert client.told(b"MAIL FROM:<ann@example.org>\r\n" + RCPT) == ["250 2.1.0", "555 5.5.4"]


def test_after_helo_it_is_refused(office):
    client = office(dsn=True)
    client.hear(b"HELO pc\r\n")
    assert client.told(MAIL) == ["555 5.5.4"]
    assert client.told(b"MAIL FROM:<ann@example.org>\r\n" + RCPT) == ["250 2.1.0", "555 5.5.4"]


def test_it_stays_on_offer_over_tls(office):
    client = office.greeted(dsn=True, starttls=True)
    client.hear(b"STARTTLS\r\n")
    client.session.secured({})
    assert b"250-DSN\r\n" in client.hear(b"EHLO pc\r\n")
    assert client.told(MAIL) == ["250 2.1.0"]
