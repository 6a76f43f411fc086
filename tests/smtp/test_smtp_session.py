"""The rules of an SMTP dialogue, without sockets, clocks or Twisted."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model import reply
from postoffice.model.address import Address
from postoffice.model.errors import NoSpace, TemporaryFailure
from postoffice.protocol.wire import OUTPUT_QUANTUM
from postoffice.smtp.options import SMTPLimits, SMTPOptions
from postoffice.smtp.questions import Abort, Begin, End, Hello, Mail, Recipient, Text
from postoffice.smtp.session import SMTPSession
from postoffice.testing import cut

LIMITS = SMTPLimits(message_size=10_000, recipients=3, text_line=1000, errors=5)
TERMS = SMTPOptions("mail.example.net")
TAKEN = reply.Reply(250, "2.0.0", "Taken")


class Office:
    """Answers a session's questions, and remembers them."""

    def __init__(self, limits: SMTPLimits = LIMITS, options: SMTPOptions = TERMS, **answers):
        self.session = SMTPSession(options, limits)
        self.answers = {"Mail": reply.SENDER_OK, "Recipient": reply.RECIPIENT_OK, "End": TAKEN}
        self.answers |= answers
        self.asked = []
        self.text = b""
        self.said = self.hear(b"")
        self.asked.clear()  # Connect

    def hear(self, data: bytes) -> bytes:
        """What is said to these octets."""
        self.session.receive(data)
        while (question := self.session.next_question()) is not None:
            if not isinstance(question, Hello):  # which is a question for policies
                self.asked.append(question)
            if isinstance(question, Text):
                self.text += question.octets
            self.session.answer(self.answers.get(type(question).__name__))
        return self.session.take_output()

    def kinds(self):
        return [type(question) for question in self.asked]


def codes(output: bytes) -> list[int]:
    """The code of each reply."""
    lines = output.decode("ascii").splitlines()
    return [int(line[:3]) for line in lines if line[3] == " "]


def greeted(**answers) -> Office:
    office = Office(**answers)
    office.hear(b"EHLO client.example.org\r\n")
    return office


def in_text(**answers) -> Office:
    office = greeted(**answers)
    said = office.hear(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
    assert codes(said) == [250, 250, 354]
    assert office.session.in_text
    return office


def test_the_greeting_names_the_host():
    assert Office().said == b"220 mail.example.net ESMTP postoffice\r\n"


def test_ehlo_says_what_it_can():
    said = Office().hear(b"EHLO client.example.org\r\n").decode()
    assert said.splitlines() == [
        "250-mail.example.net at your service",
        "250-PIPELINING",
        "250-SIZE 10000",
        "250-8BITMIME",
        "250-ENHANCEDSTATUSCODES",
        "250-SMTPUTF8",
        "250-CHUNKING",
        "250-LIMITS RCPTMAX=3",
        "250 HELP",
    ]


def test_helo_says_only_its_name():
    assert Office().hear(b"HELO client\r\n") == b"250 mail.example.net\r\n"


@pytest.mark.parametrize("hello", [b"EHLO c\r\n", b"HELO c\r\n"])
def test_a_name_that_is_refused_is_none(hello):
    office = Office(Hello=reply.Reply(550, "5.7.1", "Not by that name"))
    assert office.hear(hello) == b"550 5.7.1 Not by that name\r\n"
    assert office.hear(b"MAIL FROM:<>\r\n").startswith(b"503 5.5.1 ")
    office.answers["Hello"] = None
    assert codes(office.hear(hello + b"MAIL FROM:<>\r\n")) == [250, 250]


def test_a_message_is_asked_about_step_by_step():
    office = in_text()
    assert office.hear(b"Subject: hi\r\n\r\n..dot\r\n.\r\n") == b"250 2.0.0 Taken\r\n"
    assert office.asked == [
        Mail(Address("a", "example.org"), 0, False, "client.example.org", "ESMTP"),
        Recipient(Address("b", "example.net")),
        Begin(),
        Text(b"Subject: hi\r\n\r\n.dot\r\n"),
        End(),
    ]


def test_a_pipelined_message_is_taken_whole():
    office = Office()
    said = office.hear(
        b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.net>\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n"
    )
    assert codes(said) == [250, 250, 250, 354, 250, 221]
    assert office.session.closed
    assert office.text == b"hi\r\n"


def test_nothing_is_heard_behind_quit():
    office = greeted()
    assert codes(office.hear(b"QUIT\r\nNOOP\r\n")) == [221]
    assert office.hear(b"NOOP\r\n") == b""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"MAIL FROM:<a@example.org>", b"250 2.1.0"),
        (b" mail\tFROM :\t< a@example.org > ", b"250 2.1.0"),
        (b"MAIL FROM:<a@example.org> SIZE=1", b"555 5.5.4 Parameters need EHLO first"),
        (b"AUTH PLAIN", b"502 5.5.1 No logins on this port: use submission"),
        (b"LHLO pc", b"500 5.5.1 This is SMTP: say EHLO"),
        (b"RCPT TO:<a@example.org>", b"503 5.5.1"),
        (b"DATA", b"503 5.5.1"),
        (b"RSET", b"250 2.0.0"),
        (b"RSET now", b"501 5.5.4"),
        (b"NOOP", b"250 2.0.0"),
        (b"noop anything at all", b"250 2.0.0"),
        (b"VRFY joe", b"252 2.5.0"),
        (b"VRFY", b"501 5.5.4"),
        (b"HELP", b"214-2.0.0"),
        (b"EXPN list", b"502 5.5.1"),
        (b"STARTTLS", b"502 5.5.1"),
        (b"FROBNICATE", b"500 5.5.1"),
        (b"", b"500 5.5.1"),
        (b"EHLO", b"501 5.5.4"),
        (b"HELO", b"501 5.5.4"),
        (b" HELO\ttwo words ", b"250 mail.example.net"),
        (b"EHLO B\xfcro-PC", b"250-mail.example.net"),
        (b"HELO a\x1b[31m", b"500 5.5.2"),
        (b"NOOP \x00", b"500 5.5.2"),
        (b"NOOP \x1b[31m", b"500 5.5.2"),
        (b"NOOP \xff", b"500 5.5.2"),
        (b"NO\rOP", b"500 5.5.2"),
        (b"NOOP " + b"x" * 5000, b"500 5.5.2 Line too long"),
        (b"QUIT", b"221 2.0.0"),
        (b"QUIT please", b"501 5.5.4"),
    ],
)
def test_before_ehlo(line, said):
    assert Office().hear(line + b"\r\n").startswith(said)


def test_a_line_that_ends_with_lf_alone_is_not_obeyed():
    office = greeted()
    assert office.hear(b"MAIL FROM:<a@example.org>\n").startswith(b"500 5.5.2")
    assert Mail not in office.kinds()


def test_commands_out_of_order_are_refused():
    office = greeted()
    assert codes(office.hear(b"RCPT TO:<b@example.net>\r\n")) == [503]
    assert codes(office.hear(b"DATA\r\n")) == [503]
    office.hear(b"MAIL FROM:<a@example.org>\r\n")
    assert codes(office.hear(b"MAIL FROM:<a@example.org>\r\n")) == [503]
    assert codes(office.hear(b"DATA\r\n")) == [554]
    assert codes(office.hear(b"DATA now\r\n")) == [501]


@pytest.mark.parametrize("again", [b"RSET\r\n", b"EHLO c\r\n", b"HELO c\r\n"])
def test_a_transaction_is_forgotten(again):
    office = greeted()
    office.hear(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n" + again)
    assert office.kinds() == [Mail, Recipient, Abort]
    assert codes(office.hear(b"DATA\r\n")) == [503]
    assert codes(office.hear(b"MAIL FROM:<a@example.org>\r\n")) == [250]


def test_a_refused_recipient_does_not_stop_the_others():
    office = greeted()
    office.hear(b"MAIL FROM:<a@example.org>\r\n")
    office.answers["Recipient"] = reply.UNKNOWN_RECIPIENT
    assert office.hear(b"RCPT TO:<x@example.net>\r\n") == b"550 5.1.1 No such mailbox here\r\n"
    office.answers["Recipient"] = reply.RECIPIENT_OK
    said = office.hear(b"RCPT TO:<b@example.net>\r\nDATA\r\nhi\r\n.\r\n")
    assert codes(said) == [250, 354, 250]


def test_a_refused_sender_leaves_no_transaction():
    office = greeted(Mail=reply.Reply(550, "5.7.1", "Not you"))
    assert codes(office.hear(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n")) == [
        550,
        503,
    ]


def test_recipients_are_limited():
    office = greeted()
    office.hear(b"MAIL FROM:<a@example.org>\r\n")
    said = office.hear(b"RCPT TO:<b@example.net>\r\n" * 4 + b"DATA\r\n")
    assert codes(said) == [250, 250, 250, 452, 354]


def test_a_declared_size_over_the_limit_is_refused_at_once():
    office = greeted()
    assert office.hear(b"MAIL FROM:<a@example.org> SIZE=10001\r\n").startswith(b"552 5.3.4")
    assert office.hear(b"MAIL FROM:<a@example.org> SIZE=10000\r\n").startswith(b"250")


def test_smtputf8_shows_in_the_protocol():
    office = greeted()
    office.hear("MAIL FROM:<jürgen@exämple.org> SMTPUTF8 BODY=7BIT\r\n".encode())
    assert office.asked == [
        Mail(Address("jürgen", "exämple.org"), 0, True, "client.example.org", "UTF8SMTP")
    ]


REFUSED_TEXTS = {
    "bare LF": (b"one\ntwo\r\n", b"550 5.6.11"),
    "bare CR": (b"one\rtwo\r\n", b"550 5.6.11"),
    "too large": (b"0123456\r\n" * 2000, b"552 5.3.4"),
    "a long line": (b"x" * 1001 + b"\r\n", b"550 5.6.0"),
    "a loop": (b"Received: by x\r\n" * 100 + b"\r\n", b"554 5.4.6"),
}


@pytest.mark.parametrize("what", REFUSED_TEXTS)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_refused_text_is_read_to_its_end(what, size):
    text, said = REFUSED_TEXTS[what]
    office = in_text()
    octets = text + b"QUIT\r\nMAIL FROM:<evil@example.org>\r\n.\r\nNOOP\r\n"
    output = b"".join(
        office.hear(octets[start : start + size]) for start in range(0, len(octets), size)
    )
    assert output.startswith(said)
    assert codes(output)[1:] == [250], "only the NOOP behind the text was a command"
    assert office.kinds().count(Abort) == 1
    assert End not in office.kinds()
    assert codes(office.hear(b"MAIL FROM:<a@example.org>\r\n")) == [250]


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_text_with_two_faults_is_refused_for_the_same_one_however_it_comes(size):
    office = in_text()
    octets = b"x" * 1001 + b"\r\n" + b"y\n" + b"\r\n.\r\n"
    pieces = (octets[start : start + size] for start in range(0, len(octets), size))
    assert b"".join(map(office.hear, pieces)).startswith(b"550 5.6.11")
    assert office.kinds().count(Abort) == 1


def test_the_largest_text_and_the_longest_line_are_taken():
    office = in_text()
    line = b"x" * 998 + b"\r\n"
    assert codes(office.hear(line * 10 + b".\r\n")) == [250]
    office = in_text()
    assert codes(office.hear(b"x" * 1000 + b"\r\n.\r\n")) == [250]
    office = in_text()
    assert codes(office.hear(b"Received: by x\r\n" * 99 + b"\r\n.\r\n")) == [250]


def test_a_text_that_cannot_be_kept_is_refused_at_its_end():
    office = in_text(Text=NoSpace("disk full"))
    assert office.hear(b"x" * 100 + b"\r\n") == b""
    assert office.hear(b"y" * 100 + b"\r\n") == b""
    assert office.hear(b".\r\nNOOP\r\n").startswith(b"452 4.3.1 ")
    assert office.kinds()[-2:] == [Text, Abort]
    office = in_text(Text=NoSpace("disk full"))
    assert codes(office.hear(b"x\r\n.\r\nNOOP\r\n")) == [452, 250]


def test_a_commit_that_fails_is_for_later():
    office = in_text(End=TemporaryFailure("sync failed"))
    assert office.hear(b"x\r\n.\r\n") == b"451 4.3.0 A fault of ours; please try again later\r\n"
    assert office.session.taken == 0


def test_a_delivery_that_cannot_begin_is_for_later():
    office = greeted(Begin=NoSpace())
    said = office.hear(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
    assert codes(said) == [250, 250, 452]
    assert office.kinds()[-1] is Abort
    assert codes(office.hear(b"DATA\r\n")) == [503]


def test_one_error_too_many_ends_the_session():
    office = greeted()
    said = office.hear(b"FROBNICATE\r\n" * 10)
    assert codes(said) == [500] * 5 + [421]
    assert office.session.closed


def test_many_replies_take_breath():
    session = Office(replace(LIMITS, commands=100_000)).session
    session.receive(b"HELP\r\n" * 10_000)
    said = 0
    while session.next_question() is not None:
        assert session.unsent < 2 * OUTPUT_QUANTUM
        said += len(session.take_output())
        session.answer(None)
    assert said + session.unsent > 500_000


def test_the_session_can_be_ended_from_our_side():
    office = in_text()
    office.session.dismiss(reply.SHUTTING_DOWN)
    assert office.session.take_output().startswith(b"421 4.3.2")
    assert office.session.next_question() == Abort()


COMMANDS = [
    b"EHLO c.example.org",
    b"HELO c",
    b"MAIL FROM:<a@example.org>",
    b"MAIL FROM:<> SIZE=10 BODY=8BITMIME",
    b"RCPT TO:<b@example.net>",
    b"RCPT TO:<Postmaster>",
    b"DATA",
    b"RSET",
    b"NOOP",
    b"VRFY x",
    b"HELP",
    b"QUIT",
    b"text",
    b".",
    b"..",
    b"",
    b"a\rb",
    b"a\nb",
    b"\xff\xfe",
]
TALK = st.lists(
    st.tuples(st.sampled_from(COMMANDS), st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r"])).map(
        b"".join
    ),
    max_size=40,
).map(b"".join)
ANY = st.one_of(TALK, st.binary(max_size=300), st.text(max_size=100).map(str.encode))
CUTS = st.lists(st.integers(0, 1000), max_size=10)
ROOMY = SMTPLimits(message_size=200, recipients=3, text_line=50, errors=8)


def whole_and_in_pieces(octets: bytes, cuts: list[int]):
    def played(parts):
        office = Office(ROOMY)
        output = b"".join(map(office.hear, parts))
        asked = [q for q in office.asked if not isinstance(q, Text)]
        return output, asked, office

    parts = cut(octets, cuts)
    return played([octets]), played(parts)


@given(ANY, CUTS)
def test_any_octets_cut_anywhere_get_the_same_answers(octets, cuts):
    (output, asked, one), (output2, asked2, two) = whole_and_in_pieces(octets, cuts)
    assert output == output2
    assert asked == asked2
    if not any(question == Abort() for question in asked):
        assert one.text == two.text


@given(TALK)
def test_every_command_has_one_answer(octets):
    office = Office(ROOMY)
    answers = 0
    commands = 0
    wrong = False  # this is the rest of a line that had a bare LF
    for line in re.split(rb"(?<=\n)", octets):
        was_text = office.session.in_text
        closed = office.session.closed
        output = office.hear(line)
        answers += len(codes(output))
        if not was_text and not closed and line.endswith(b"\n"):
            commands += not wrong
            wrong = not line.endswith(b"\r\n")
        elif was_text and not office.session.in_text:
            commands += 1  # the end of the text
    assert answers == commands


def test_mail_without_a_greeting_is_judged_as_if_there_were_one_and_taken():
    office = Office()
    said = office.hear(b"HELO \r\nMAIL FROM:<ups@example.org>\r\nRCPT TO:<b@example.net>\r\n")
    assert codes(said) == [501, 250, 250]
    assert [each for each in office.asked if isinstance(each, Mail)] == [
        Mail(Address("ups", "example.org"), 0, False, "", "SMTP")
    ]


def test_a_client_refused_for_its_name_is_not_accepted_without_one():
    office = Office()
    office.answers["Hello"] = reply.NOT_TRUSTED
    assert codes(office.hear(b"EHLO evil\r\nMAIL FROM:<>\r\nEHLO evil\r\n")) == [550, 503, 550]
    office = Office()
    office.answers["Hello"] = reply.NOT_TRUSTED
    assert codes(office.hear(b"MAIL FROM:<>\r\nMAIL FROM:<>\r\n")) == [550, 503]


def test_what_is_wrong_with_mail_without_a_greeting_is_told():
    assert codes(Office().hear(b"MAIL FROM:<a@>\r\nMAIL FROM:<a@b>\r\nMAIL FROM:<>\r\n")) == [
        501,
        250,
        503,
    ]


@pytest.mark.parametrize(
    "octets",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /?\nMAIL FROM:<a@b>\r\n",
        b"connect mail.example.net:25 HTTP/1.0\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"  HEAD / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"PROPFIND / HTTP/1.1\r\n",
        b"x /\xff\xfe\t HTTP/1.1\r\n",
        b"DESCRIBE rtsp://x/ RTSP/1.0\r\n",
        b"INVITE sip:a@b SIP/2.0\r\n",
        b"Host: mail.example.net:25\r\n",
        b"\x16\x03\x01\0\x4d\x01\0\n",
    ],
)
def test_other_protocols_are_shown_out_at_once(octets):
    behind = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n"
    for pieces in ([octets + behind], [bytes([octet]) for octet in octets + behind]):
        for greeting in (b"", b"EHLO x\r\n"):
            office = Office()
            office.hear(greeting)
            said = b"".join(map(office.hear, pieces))
            assert codes(said) == [554]
            assert office.session.closed
            assert office.asked == []


def test_the_names_of_methods_are_no_secret_words_of_texts_and_names():
    office = greeted()
    assert codes(office.hear(b"NOOP GET / HTTP/1.1\r\nGETX\r\nMAIL FROM:<GET@x>\r\n")) == [
        250,
        500,
        250,
    ]
    assert codes(office.hear(b"RCPT TO:<b@example.net>\r\nDATA\r\nGET / HTTP/1.1\r\n.\r\n")) == [
        250,
        354,
        250,
    ]


@pytest.mark.parametrize("line", [b" AUTH PLAIN AHNlY3JldA==", b"\tauth\tPLAIN\tAHNlY3JldA== "])
def test_no_odd_blank_shows_a_password(line):
    office = Office()
    assert codes(office.hear(line + b"\r\n")) == [502]
    (refusal,) = office.session.refusals.take()
    assert "AHN" not in repr(refusal)
    assert "AUTH" in repr(refusal)
