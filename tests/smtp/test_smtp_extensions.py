"""What EHLO offers is kept, what it does not offer is refused; no octets disturb that."""

from __future__ import annotations

import re
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model import reply
from postoffice.model.reply import Reply
from postoffice.smtp.options import SMTPOptions
from postoffice.smtp.questions import Abort, Begin, End, Mail, Recipient
from postoffice.smtp.session import SMTPSession
from postoffice.testing import cut

MECHANISMS = ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN")
LOGIN = {"mechanisms": MECHANISMS, "passwords": True}
BINDINGS = {"tls-exporter": b"x" * 32}
#: Every kind of terms there is.
KINDS = {
    "smtp": {},
    "smtp that can begin TLS": {"starttls": True},
    "smtp over TLS": {"encrypted": True},
    "smtp of a trusted relay": {"xclient": True},
    "submission": {"submission": True, **LOGIN},
    "submission in clear": {"submission": True, "starttls": True, "mechanisms": MECHANISMS},
    "submission over TLS": {"submission": True, "encrypted": True, "bindings": BINDINGS, **LOGIN},
    "submission without SCRAM": {
        "submission": True,
        "encrypted": True,
        "bindings": BINDINGS,
        "mechanisms": ("PLAIN",),
        "passwords": True,
    },
    "lmtp": {"lmtp": True},
    "lmtp of a trusted relay": {"lmtp": True, "xclient": True, "starttls": True},
}
SCRAM_PLUS = "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN"
OFFERED = {
    "smtp": {"HELP"},
    "smtp that can begin TLS": {"STARTTLS", "HELP"},
    "smtp over TLS": {"REQUIRETLS", "HELP"},
    "smtp of a trusted relay": {"XCLIENT NAME ADDR PORT PROTO HELO", "HELP"},
    "submission": {"AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN", "HELP"},
    "submission in clear": {"STARTTLS", "HELP"},
    "submission over TLS": {"REQUIRETLS", SCRAM_PLUS, "HELP"},
    "submission without SCRAM": {"REQUIRETLS", "AUTH PLAIN", "HELP"},
    "lmtp": set(),
    "lmtp of a trusted relay": {"STARTTLS", "XCLIENT NAME ADDR PORT PROTO HELO"},
}
#: What all offer.
ALWAYS = {
    "PIPELINING",
    "SIZE 10000",
    "8BITMIME",
    "ENHANCEDSTATUSCODES",
    "SMTPUTF8",
    "CHUNKING",
    "LIMITS RCPTMAX=3",
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def hello(kind):
    return b"LHLO pc\r\n" if "lmtp" in kind else b"EHLO pc\r\n"


@every_kind
def test_what_is_offered(office, kind):
    [first, *lines] = office(**KINDS[kind]).hear(hello(kind)).decode().splitlines()
    assert first == "250-mail.example.net at your service"
    assert {line[4:] for line in lines} == ALWAYS | OFFERED[kind]
    assert len(lines) == len(ALWAYS | OFFERED[kind]), "each once"


@every_kind
def test_help_knows_the_commands_that_are_to_be_had(office, kind):
    options = KINDS[kind]
    said = office.greeted(**options).hear(b"HELP\r\n").decode()
    known = set(said.splitlines()[-1].split()[2:])
    not_to_be_had = {"500 5.5.1", "502 5.5.1", "550 5.7.0"}
    for verb in SMTPSession.COMMANDS:
        [told] = office.greeted(**options).told(verb.encode() + b"\r\n")
        assert (told in not_to_be_had) == (verb not in known), verb


# -- parameters of MAIL and RCPT ------------------------------------------------------


@every_kind
@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        (b"SIZE=10000 BODY=8BITMIME SMTPUTF8", "250 2.1.0"),
        (b"size=0 body=7bit smtputf8", "250 2.1.0"),
        (b"SIZE=10001", "552 5.3.4"),
        (b"BODY=BINARYMIME", "555 5.5.4"),  # RFC 3030 §3, not offered
        (b"RET=HDRS", "555 5.5.4"),  # RFC 3461 §4, not offered
        (b"ENVID=x", "555 5.5.4"),
        (b"BY=120;R", "555 5.5.4"),  # RFC 2852
        (b"HOLDFOR=10", "555 5.5.4"),  # RFC 4865
        (b"MT-PRIORITY=3", "555 5.5.4"),  # RFC 6710
        (b"SIZE=1 SIZE=1", "501 5.5.4"),
        (b"BODY=9BIT", "501 5.5.4"),
        (b"SMTPUTF8=1", "501 5.5.4"),
    ],
)
def test_what_mail_may_carry(office, kind, parameters, told):
    options = KINDS[kind]
    client = office.greeted(**{**options, "submission": False})
    assert client.told(b"MAIL FROM:<joe@example.net> " + parameters + b"\r\n") == [told]
    assert client.kinds == [Mail] * (told[0] == "2")


@pytest.mark.parametrize("parameter", [b"NOTIFY=NEVER", b"ORCPT=rfc822;b@example.net", b"RRVS=x"])
def test_what_rcpt_may_carry(office, parameter):
    client = office.greeted()
    client.hear(b"MAIL FROM:<>\r\n")
    assert client.told(b"RCPT TO:<b@example.net> " + parameter + b"\r\n") == ["555 5.5.4"]
    assert Recipient not in client.kinds


@pytest.mark.parametrize(
    ("encrypted", "parameter", "told"),
    [
        (True, b"REQUIRETLS", "250 2.1.0"),
        (True, b"requiretls", "250 2.1.0"),
        (True, b"REQUIRETLS=1", "501 5.5.4"),
        (False, b"REQUIRETLS", "555 5.5.4"),
    ],
)
def test_requiretls_can_be_promised_over_tls_only(office, encrypted, parameter, told):
    client = office.greeted(encrypted=encrypted)
    assert client.told(b"MAIL FROM:<a@example.org> " + parameter + b"\r\n") == [told]


@pytest.mark.parametrize(
    "parameter", [b"SIZE=1", b"BODY=7BIT", b"SMTPUTF8", b"AUTH=<>", b"REQUIRETLS"]
)
def test_no_parameters_are_offered_after_helo(office, parameter):
    client = office(encrypted=True, **LOGIN)
    assert client.told(b"HELO pc\r\nMAIL FROM:<a@example.org> " + parameter + b"\r\n") == [
        "250",
        "555 5.5.4",
    ]


# -- any octets -------------------------------------------------------------------------

LINES = [
    b"EHLO c.example.org",
    b"LHLO c.example.org",
    b"HELO c",
    b"MAIL FROM:<joe@example.net>",
    b"MAIL FROM:<> SIZE=10 BODY=8BITMIME AUTH=<>",
    b"MAIL FROM:<evil@example.org> RET=FULL",
    b"RCPT TO:<b@example.net>",
    b"RCPT TO:<nobody@example.net>",
    b"RCPT TO:<Postmaster>",
    b"MAIL FROM:<>\r\nRCPT TO:<a@example.net>\r\nRCPT TO:<b@example.net>",
    b"DATA",
    b"DATA\r\nSubject: x\r\n\r\nhi\r\n.",
    b"BDAT 0",
    b"BDAT 5",
    b"BDAT 12 LAST",
    b"BDAT 0 LAST",
    b"BDAT 300",
    b"BDAT 401",
    b"BDAT x",
    b"AUTH PLAIN " + b64encode(b"\0joe\0secret word"),
    b"AUTH PLAIN " + b64encode(b"\0joe\0wrong"),
    b"AUTH PLAIN",
    b"AUTH LOGIN",
    b"AUTH CRAM-MD5",
    b"AUTH SCRAM-SHA-256 " + b64encode(b"n,,n=joe,r=nonce"),
    b"AUTH SCRAM-SHA-256-PLUS " + b64encode(b"p=tls-exporter,,n=joe,r=nonce"),
    b64encode(b"\0joe\0secret word"),
    b64encode(b"joe"),
    b"*",
    b"=",
    b"STARTTLS now",
    b"XCLIENT ADDR=192.0.2.7 PORT=1",
    b"XCLIENT NAME=a+0D+0Ab",
    b"RSET",
    b"NOOP",
    b"VRFY joe",
    b"EXPN list",
    b"HELP",
    b"QUIT",
    b"Received: by x",
    b"text",
    b".",
    b"..",
    b"",
    b"\r",
    b"\n",
    b"\0",
    b"\xff\xfe",
    b"x" * 60,
]
ENVELOPE = b"MAIL FROM:<joe@example.net>\r\n" + b"RCPT TO:<b@example.net>\r\n" * 2
LOGGED_IN = b"EHLO c\r\nLHLO c\r\nAUTH PLAIN " + b64encode(b"\0joe\0secret word") + b"\r\n"
#: Where a talk may begin.
BEGINNINGS = st.sampled_from([b"", b"EHLO c\r\n", b"LHLO c\r\n", LOGGED_IN, LOGGED_IN + ENVELOPE])
ENDS = st.sampled_from([b"\r\n"] * 7 + [b"\n", b"\r", b""])
SAID = st.lists(st.tuples(st.sampled_from(LINES), ENDS).map(b"".join), max_size=40).map(b"".join)
TALK = st.tuples(BEGINNINGS, SAID).map(b"".join)
ANY = st.one_of(TALK, TALK, st.binary(max_size=300), st.text(max_size=100).map(str.encode))
CUTS = st.lists(st.integers(0, 2000), max_size=10)
PLAYED = {
    "smtp": KINDS["smtp of a trusted relay"],
    "submission": KINDS["submission over TLS"],
    "lmtp": {"lmtp": True, **LOGIN},
}
LIMITS = {"message_size": 200, "text_line": 50, "errors": 12, "commands": 20, "tarpit": 1}


def recipient(question):
    """Nobody is not here; what is said of it could break lines."""
    if "nobody" in str(question.address):
        return Reply(550, "5.1.1", "No\r\n250 2.1.5 yes\0\x85\u2028ä")
    return reply.RECIPIENT_OK


def played(office, kind, parts):
    """What is said, and asked, when octets come in these parts."""
    options = PLAYED[kind]
    client = office(limits=LIMITS, **options)
    client.answers["Recipient"] = recipient
    client.answers["Impersonate"] = SMTPOptions("mail.example.net", **options)
    client.answers["End"] = lambda asked: reply.OK if len(client.asked) % 3 else reply.TRY_LATER
    said = b"".join(map(client.hear, parts))
    return client, re.sub(rb"(?m)^334 .+$", b"334 \r", said)  # challenges are drawn by lot


@given(st.sampled_from(sorted(PLAYED)), ANY, CUTS)
def test_octets_cut_anywhere_get_the_same_answers_on_any_terms(office, replies, kind, octets, cuts):
    one, said = played(office, kind, [octets])
    other, again = played(office, kind, cut(octets, cuts))
    assert said == again
    bare = {told for told in replies(said) if " " not in told}
    assert bare <= {"220", "250", "334", "354"}, "these have no status (RFC 2034 §4)"
    assert one.kinds == other.kinds
    assert one.session.closed == other.session.closed
    if Abort not in one.kinds:
        assert one.text == other.text


@given(st.sampled_from(sorted(PLAYED)), TALK)
def test_what_is_begun_comes_to_one_end(office, kind, octets):
    client, _ = played(office, kind, [octets])
    if not client.session.closed:
        client.session.dismiss(reply.SHUTTING_DOWN)
        client.hear(b"")
    open_, begun = False, False
    for asked in client.kinds:
        if asked is Mail:
            assert not open_
            open_ = True
        elif asked in (Recipient, Begin):
            assert open_
            assert not begun
            begun = asked is Begin
        elif asked in (Abort, End):
            assert begun or asked is Abort, "what was aborted does not end otherwise"
            open_ = begun = False
    assert not open_
