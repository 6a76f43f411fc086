"""The rules of a client: one transaction, replies of all kinds, and LMTP."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postoffice.model.hop import PeerReply
from postoffice.model.queued_message import QueuedRecipient
from postoffice.smtp import client_states as states
from tests.smtp.client_peers import EHLO, TEXT, Client, message

STUFFED = TEXT.replace(b"\r\n.", b"\r\n..")
ALONE = b"250 mx.example.org\r\n"
YES = b"250 2.1.0 Fine\r\n"
GO_ON = b"354 Go on\r\n"
ENVELOPE = b"MAIL FROM:<ann@example.net> SIZE=%d\r\nRCPT TO:<joe@example.org>\r\nDATA\r\n" % len(
    TEXT
)


def test_a_message_is_sent_in_two_writes():
    client = Client(message())
    assert client.hear(b"220 mx.example.org ESMTP\r\n") == b"EHLO mail.example.net\r\n"
    assert client.hear(EHLO) == ENVELOPE
    assert client.hear(YES + YES + GO_ON) == STUFFED + b".\r\n"
    assert client.hear(b"250 2.0.0 Queued as 12\r\n") == b""
    (result,) = client.results
    assert result.replies == [PeerReply(250, "2.0.0", "Queued as 12", "end")]
    assert result.usable
    assert result.dsn


def test_the_next_message_needs_no_reset():
    client = Client.greeted(message(), message(sender=""))
    assert client.hear(YES + YES + GO_ON, YES).endswith(
        b".\r\nMAIL FROM:<> SIZE=%d\r\nRCPT TO:<joe@example.org>\r\nDATA\r\n" % len(TEXT)
    )


def test_without_pipelining_each_command_waits():
    client = Client.greeted(message(), ehlo=ALONE)
    assert client.said == b"MAIL FROM:<ann@example.net>\r\n"
    assert client.hear(YES) == b"RCPT TO:<joe@example.org>\r\n"
    assert client.hear(YES) == b"DATA\r\n"
    assert client.hear(GO_ON) == STUFFED + b".\r\n"
    client.hear(YES)
    assert client.codes == [250]


def test_a_text_in_pieces_of_one_octet_is_stuffed_the_same():
    client = Client.greeted(message(), piece=1)
    assert client.hear(YES + YES + GO_ON) == STUFFED + b".\r\n"


def test_a_text_without_a_last_line_end_gets_one():
    client = Client.greeted(message(), text=b"x")
    assert client.hear(YES + YES + GO_ON) == b"x\r\n.\r\n"


def test_some_recipients_are_refused():
    client = Client.greeted(message("a@example.org", "b@example.org", "c@example.org"))
    client.hear(YES + YES + b"550 5.1.1 No b here\r\n" + b"450 4.2.1 Later\r\n" + GO_ON)
    client.hear(YES)
    assert client.codes == [250, 550, 450]
    assert client.results[0].replies[1] == PeerReply(550, "5.1.1", "No b here", "rcpt")
    assert client.results[0].usable


def test_data_that_is_accepted_without_a_recipient_is_ended_with_a_lone_dot():
    client = Client.greeted(message(), message())
    assert client.hear(YES + b"550 5.1.1 No\r\n" + GO_ON) == b".\r\n"
    assert client.results == []
    client.hear(b"250 I have taken nothing\r\n")
    assert client.codes == [550]
    assert client.said.count(b"MAIL FROM") == 2  # and it goes on


def test_a_transaction_that_is_refused_is_reset():
    client = Client.greeted(message("a@example.org", "b@example.org"))
    assert client.hear(b"550 5.7.1 No\r\n" + b"503 MAIL first\r\n" * 3) == b"RSET\r\n"
    assert client.results == []  # nothing may follow before RSET is answered
    client.hear(YES)
    assert client.results[0].replies == [PeerReply(550, "5.7.1", "No", "mail")] * 2
    assert client.results[0].usable


@pytest.mark.parametrize("refused", [0, 1])
def test_without_pipelining_nothing_follows_what_was_refused(refused):
    client = Client.greeted(message(), ehlo=ALONE)
    replies = [YES, b"451 4.3.0 Later\r\n"][1 - refused :]
    assert client.hear(*replies).endswith(b"RSET\r\n")
    assert b"DATA" not in client.said
    client.hear(YES)
    assert client.codes == [451]


def test_data_that_is_refused_counts_for_those_who_were_accepted():
    client = Client.greeted(message("a@example.org", "b@example.org"))
    assert client.hear(YES + YES + b"550 No\r\n" + b"451 4.3.0 Busy\r\n") == b"RSET\r\n"
    client.hear(YES)
    assert client.codes == [451, 550]


def test_reset_that_is_refused_makes_the_connection_unusable():
    client = Client.greeted(message())
    client.hear(b"550 No\r\n" * 3, b"502 RSET?\r\n")
    assert client.codes == [550]
    assert not client.results[0].usable
    assert client.session.state == states.CLOSED


def test_reset_that_is_never_answered_costs_no_result():
    client = Client.greeted(message())
    client.hear(b"550 No\r\n" * 3)
    client.session.lost("The server was silent")
    client.act()
    assert client.codes == [550]
    assert not client.results[0].usable


# -- too many recipients ---------------------------------------------------------------


@pytest.mark.parametrize(
    "reply", [b"452 4.5.3 Too many\r\n", b"452 Too many\r\n", b"552 5.5.3 Too many\r\n"]
)
def test_one_recipient_too_many_is_postponed(reply):
    client = Client.greeted(message("a@example.org", "b@example.org"))
    client.hear(YES + YES + reply + GO_ON, YES)
    assert client.results[0].postponed == {1}
    assert client.codes[0] == 250


@pytest.mark.parametrize("reply", [b"452 4.2.2 Mailbox full\r\n", b"552 5.2.2 Mailbox full\r\n"])
def test_a_full_mailbox_is_not_too_many(reply):
    client = Client.greeted(message("a@example.org", "b@example.org"))
    client.hear(YES + YES + reply + GO_ON, YES)
    assert client.results[0].postponed == set()


def test_the_first_recipient_cannot_be_too_many():
    client = Client.greeted(message())
    client.hear(YES + b"452 4.5.3 Too many\r\n" + b"503 No\r\n", YES)
    assert client.results[0].postponed == set()
    assert client.codes == [452]


def test_no_more_recipients_are_named_than_the_server_takes():
    limits = EHLO.replace(b"250 DSN", b"250-DSN\r\n250 LIMITS MAILMAX=2 RCPTMAX=1")
    names = ("a@example.org", "b@example.org")
    client = Client.greeted(message(*names), message(names[1]), ehlo=limits)
    assert client.said.count(b"RCPT") == 1
    client.hear(YES + YES + GO_ON, YES)
    assert client.results[0].postponed == {1}
    assert client.results[0].usable
    client.hear(YES + YES + GO_ON, YES)
    assert not client.results[1].usable  # MAILMAX


# -- LMTP ------------------------------------------------------------------------------


def test_lmtp_has_a_reply_for_each_accepted_recipient():
    client = Client(message("a@example.org", "b@example.org", "c@example.org"), lmtp=True)
    assert client.hear(b"220 LMTP\r\n") == b"LHLO mail.example.net\r\n"
    client.hear(EHLO, YES + YES + b"550 No\r\n" + YES + GO_ON, b"250 A\r\n")
    assert client.results == []
    client.hear(b"452 4.2.2 Full\r\n")
    assert client.codes == [250, 550, 452]
    assert client.results[0].usable


def test_lmtp_that_is_cut_between_two_replies_keeps_the_first():
    client = Client.greeted(message("a@example.org", "b@example.org"), lmtp=True)
    client.hear(YES * 3 + GO_ON, YES)
    client.session.lost("The connection was lost")
    client.act()
    assert client.codes == [250, 0]


def test_lmtp_has_no_helo():
    client = Client(lmtp=True)
    client.hear(b"220 LMTP\r\n", b"502 What?\r\n")
    assert client.session.failed == PeerReply(502, "", "What?", "hello")


# -- servers that do not say yes --------------------------------------------------------


@pytest.mark.parametrize("code", [554, 450, 421, 354])
def test_a_greeting_that_is_no_welcome(code):
    client = Client(message())
    assert client.hear(b"%d Your address is bad\r\n" % code) == b""
    failed = client.session.failed
    assert failed.code == (0 if code == 354 else code)
    assert "Your address is bad" in failed.text
    assert failed.phase == "greeting"
    assert client.results == []


def test_an_old_server_is_greeted_with_helo():
    client = Client(message())
    assert client.hear(b"220 x\r\n", b"500 What?\r\n").endswith(b"HELO mail.example.net\r\n")
    assert client.hear(b"250 x\r\n") == b"MAIL FROM:<ann@example.net>\r\n"


@pytest.mark.parametrize("step", range(4))
def test_421_ends_everything(step):
    client = Client.greeted(message(), ehlo=ALONE)
    client.hear(*[YES, YES, GO_ON][:step], b"421 4.3.2 Going down\r\n")
    assert client.codes == [421]
    assert not client.results[0].usable
    assert client.results[0].begun
    assert client.session.state == states.CLOSED


@pytest.mark.parametrize("end", [b"421 Enough\r\n", None])
def test_a_connection_that_ends_between_two_messages_says_nothing_about_the_second(end):
    client = Client.greeted(message(), message())
    client.hear(YES + YES + GO_ON, YES)
    if end is None:
        client.session.lost("The connection was lost")
        client.act()
    else:
        client.hear(end)
    first, second = client.results
    assert first.begun
    assert first.usable
    assert not second.begun
    assert not second.usable


def test_an_idle_connection_hears_421():
    client = Client.greeted()
    client.hear(b"421 Idle for too long\r\n")
    assert client.session.state == states.CLOSED
    assert client.session.failed.code == 421


@pytest.mark.parametrize("reply", [b"250 Yes\r\n", b"354 Yes\r\n", b"550 No\r\n", b"hello\r\n"])
def test_a_reply_that_nothing_asked_for_makes_the_connection_unusable(reply):
    client = Client.greeted()
    client.hear(reply)
    assert client.session.state == states.CLOSED


@pytest.mark.parametrize("step", range(3))
def test_a_3yz_reply_in_a_wrong_place_is_never_a_yes(step):
    client = Client.greeted(message(), ehlo=ALONE)
    bad = GO_ON if step < 2 else YES
    client.hear(*[YES] * step, bad)
    (reply,) = client.results[0].replies
    assert (reply.code, reply.permanent) == (0, False)
    assert "out of step" in reply.text
    assert not client.results[0].usable


def test_a_yes_before_the_text_is_complete_is_no_yes():
    client = Client.greeted(message())
    session = client.session
    session.receive(YES + YES + GO_ON)
    session.text(b"half")
    session.receive(b"250 Taken\r\n")
    client.act()
    assert client.codes == [0]
    assert session.state == states.CLOSED
    assert not client.said.endswith(b".\r\n")


def test_a_refusal_before_the_text_is_complete_counts():
    client = Client.greeted(message())
    client.session.receive(YES + YES + GO_ON)
    client.session.text(b"half")
    client.session.receive(b"552 5.3.4 Too big\r\n")
    client.act()
    assert client.results[0].replies == [PeerReply(552, "5.3.4", "Too big", "data")]
    assert not client.results[0].usable


def test_a_text_that_cannot_be_read_is_never_ended():
    client = Client.greeted(message())
    client.session.receive(YES + YES + GO_ON)
    client.session.text(b"half")
    client.session.lost("The text cannot be read")
    client.act()
    assert client.codes == [0]
    assert not client.said.endswith(b".\r\n")


def test_a_connection_that_is_cut_behind_the_dot_says_so():
    client = Client.greeted(message())
    client.hear(YES + YES + GO_ON)
    client.session.lost("The connection was lost")
    client.act()
    assert client.results[0].replies == [PeerReply(0, "", "The connection was lost", "end")]


def test_quit_is_polite_only_where_the_server_waits_for_a_command():
    client = Client.greeted()
    client.session.quit()
    assert client.session.take_output() == b"QUIT\r\n"
    client.hear(b"221 Bye\r\n")
    assert client.session.state == states.CLOSED
    assert client.session.failed is None
    busy = Client.greeted(message())
    busy.session.quit()
    busy.act()
    assert not busy.said.endswith(b"QUIT\r\n")
    assert busy.codes == [0]


def test_a_lost_connection_after_quit_is_no_failure():
    client = Client.greeted()
    client.session.quit()
    client.session.lost("The connection was lost")
    assert client.session.failed is None


def test_the_server_has_as_much_time_as_the_standard_says():
    client = Client(message(), message())
    seconds = [client.session.seconds]
    for burst in (b"220 x\r\n", EHLO, YES, YES, GO_ON):
        client.hear(burst)
        seconds.append(client.session.seconds)
    assert seconds == [300, 300, 300, 300, 120, 600]
    idle = Client.greeted()
    assert idle.session.seconds == 0


# -- what the message needs -------------------------------------------------------------

UTF8 = EHLO.replace(b"250 DSN", b"250-SMTPUTF8\r\n250 REQUIRETLS")


def test_a_message_that_is_too_large_is_not_begun():
    client = Client.greeted(message(size=100_001), message())
    assert [(one.code, one.status) for one in client.results[0].replies] == [(552, "5.3.4")]
    assert client.results[0].usable
    assert client.results[0].begun
    client.act()
    assert client.said == ENVELOPE


def test_eight_bit_text_is_announced_where_the_server_knows_the_word():
    assert b" BODY=8BITMIME" in Client.greeted(message(eight_bit=True)).said
    assert b"BODY" not in Client.greeted(message(eight_bit=True), ehlo=ALONE).said


def test_utf8_is_announced_only_where_it_is_needed():
    assert b"SMTPUTF8" not in Client.greeted(message(), ehlo=UTF8).said
    assert b" SMTPUTF8" in Client.greeted(message(utf8=True), ehlo=UTF8).said
    assert b" SMTPUTF8" in Client.greeted(message("jö@example.org"), ehlo=UTF8).said
    said = Client.greeted(message("joe@bücher.example", sender="a@bücher.example"), ehlo=UTF8).said
    assert b"SMTPUTF8" not in said
    assert said.count(b"@xn--bcher-kva.example>") == 2


def test_only_recipients_that_need_utf8_fail_where_the_server_has_none():
    client = Client.greeted(message("jö@example.org", "joe@example.org"))
    assert client.said.count(b"RCPT") == 1
    assert b"SMTPUTF8" not in client.said
    client.hear(YES + YES + GO_ON, YES)
    assert [(one.code, one.status) for one in client.results[0].replies] == [
        (553, "5.6.7"),
        (250, "2.1.0"),
    ]


@pytest.mark.parametrize("how", [{"utf8": True}, {"sender": "jö@example.net"}])
def test_all_recipients_fail_where_the_text_or_the_sender_needs_utf8(how):
    client = Client.greeted(message("a@example.org", "b@example.org", **how))
    assert client.said == b""
    assert client.codes == [553, 553]


@pytest.mark.parametrize("where", ["sender", "recipient"])
@pytest.mark.parametrize("bad", ["a\r\nRSET\r\n@example.org", "a\0@example.org", "\udc80@x.org"])
def test_an_address_cannot_begin_a_command(where, bad):
    odd = message(bad) if where == "recipient" else message(sender=bad)
    client = Client.greeted(odd)
    assert client.said == b""
    assert client.codes == [553]


@pytest.mark.parametrize(
    ("ehlo", "verified", "sent"), [(UTF8, True, True), (UTF8, False, False), (EHLO, True, False)]
)
def test_requiretls_is_kept_or_the_message_is_refused(ehlo, verified, sent):
    client = Client.greeted(message(requiretls=True), ehlo=ehlo, encrypted=True, verified=verified)
    if sent:
        assert b" REQUIRETLS\r\n" in client.said
    else:
        assert client.said == b""
        assert client.results[0].replies[0].status == "5.7.30"


def test_delivery_status_is_passed_on_where_the_server_knows_the_words():
    recipient = QueuedRecipient(
        address="joe@example.org", notify="SUCCESS,FAILURE", orcpt="rfc822;joe@example.com"
    )
    wanted = message(ret="HDRS", envid="id+2B1")
    object.__setattr__(wanted, "recipients", (recipient,))
    said = Client.greeted(wanted).said
    assert b" RET=HDRS ENVID=id+2B1\r\n" in said
    assert b"> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;joe@example.com\r\n" in said
    client = Client.greeted(wanted, ehlo=ALONE)
    client.hear(YES, YES, GO_ON, YES)
    assert not any(word in client.said for word in (b"RET", b"ENVID", b"NOTIFY", b"ORCPT"))
    assert not client.results[0].dsn


@pytest.mark.parametrize("bad", ["a b", "a\r\nRSET", "a=b", ""])
def test_a_parameter_that_is_none_is_left_out(bad):
    assert b"ENVID" not in Client.greeted(message(envid=bad)).said


@pytest.mark.parametrize(
    ("orcpt", "sent"), [("utf-8;jö@x.org", True), ("utf-8;\udcf6@x.org", False)]
)
def test_an_original_recipient_in_utf8_is_passed_on_if_it_is_that(orcpt, sent):
    wanted = message("jö@example.org")
    object.__setattr__(wanted, "recipients", (replace(wanted.recipients[0], orcpt=orcpt),))
    said = Client.greeted(wanted, ehlo=UTF8.replace(b"250 REQ", b"250-DSN\r\n250 REQ")).said
    assert (b" ORCPT=utf-8;" in said) is sent
