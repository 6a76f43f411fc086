"""What our own users may send, and how a header is completed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText
from zope.interface.verify import verifyObject

from postoffice.interfaces import Fields, IDelivery, IReception
from postoffice.model import reply
from postoffice.model.address import Address
from postoffice.model.envelope import Client, SessionInfo
from postoffice.model.errors import MaildropFull, NoSpace, TemporaryFailure
from postoffice.model.log_event import shown
from postoffice.policy.chain import ChainedPolicy, PolicyChain
from postoffice.policy.common import PolicyBase
from postoffice.testing import cut, finish
from tests.server.receiving import JOE, ask


def test_our_own_users_have_no_more_room_than_others(crowded, submission, envelope):
    envelope.size = 1001
    with pytest.raises(MaildropFull):
        ask(submission(crowded), envelope, JOE)


# -- our own users ----------------------------------------------------------------------


@pytest.fixture
def submission(directory):
    """The avatar of an account of ours, in a house."""

    def submission(reception_context, name="joe@example.net"):
        session_info = SessionInfo("id", "submission", Client("192.0.2.1"), "pc")
        return reception_context.submission(session_info, finish(directory.find(name)))

    return submission


def test_a_submission_is_a_reception_with_a_login(reception_context, submission, reception):
    assert verifyObject(IReception, submission(reception_context))
    assert verifyObject(IReception, reception)
    assert submission(reception_context).login == "joe@example.net"
    assert reception.login == ""


@pytest.mark.parametrize(
    ("user", "sender", "may"),
    [
        ("joe@example.net", "joe@example.net", True),
        ("joe@example.net", "JOE@Example.NET", True),
        ("joe@example.net", '"joe"@example.net', True),
        ("joe@example.net", None, True),
        ("joe@xn--bcher-kva.example", "joe@bücher.example", True),
        ("postmaster@example.net", "Postmaster@example.com", True),
        ("joe@example.net", "postmaster@example.net", False),
        ("joe@example.net", "postmaster@example.com", False),
        ("joe@example.net", "joe@bücher.example", False),
        ("joe@example.net", "nobody@example.net", False),
        ("joe@example.net", "joe@example.org", False),
        ("joe@example.net", "joe@[192.0.2.1]", False),
    ],
)
def test_users_send_under_their_own_addresses(
    reception_context, submission, envelope, user, sender, may
):
    envelope.sender = Address.parse(sender) if sender else None
    said = finish(submission(reception_context, user).sender(envelope))
    assert said == (reply.SENDER_OK if may else reply.NOT_YOUR_ADDRESS)


@pytest.mark.parametrize("sender", ["postmaster@example.net", "a@example.org", "joe@example.net"])
def test_users_send_as_anybody_where_that_is_settled(
    reception_context, submission, envelope, sender
):
    envelope.sender = Address.parse(sender)
    reception_context = replace(reception_context, any_sender=True)
    assert finish(submission(reception_context).sender(envelope)) == reply.SENDER_OK


def test_a_lookup_of_the_sender_may_fail_for_now(
    reception_context, submission, envelope, directory
):
    def look_up(name):
        raise TemporaryFailure("the directory is away")

    ours = submission(replace(reception_context))
    envelope.sender = Address.parse("joe@example.net")
    directory.look_up = look_up
    with pytest.raises(TemporaryFailure):
        finish(ours.sender(envelope))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("joe@bücher.example", reply.RECIPIENT_OK),
        (None, reply.RECIPIENT_OK),
        ("nobody@example.net", reply.UNKNOWN_RECIPIENT),
        ("a@example.org", reply.NO_WAY_OUT),
        ("a@[192.0.2.1]", reply.NO_WAY_OUT),
    ],
)
def test_users_write_to_each_other_only(reception_context, submission, envelope, address, said):
    assert ask(submission(reception_context), envelope, address) == said
    assert bool(envelope.recipients) == said.positive


def test_mail_for_who_is_disabled_is_refused(reception_context, reception, envelope, directory):
    finish(directory.set_state("joe@example.net", "disabled"))
    said = ask(reception, envelope, "joe@example.net")
    assert said == reply.MAILBOX_DISABLED
    assert said.wire.startswith(b"550 5.2.1 ")
    assert envelope.recipients == []
    finish(directory.set_state("joe@example.net", "enabled"))
    assert ask(reception, envelope, "joe@example.net") == reply.RECIPIENT_OK


def test_the_postmaster_gets_mail_whatever_his_state(
    reception_context, reception, envelope, directory
):
    finish(directory.set_state(reception_context.postmaster.normal, "disabled"))
    assert ask(reception, envelope, reception_context.postmaster.normal) == reply.RECIPIENT_OK


def test_there_is_no_way_out_and_that_is_for_ever():
    assert reply.NO_WAY_OUT.wire.startswith(b"550 5.7.1 ")


def sent(reception_context, submission, envelope, text):
    """What a user hears who sends this, and what is told in the log."""
    ours = submission(reception_context)
    envelope.service = "submission"
    ask(ours, envelope, "joe@example.net")
    delivery = finish(ours.begin(envelope))
    for piece in text:
        finish(delivery.write(piece))
    with capturedLogs() as logged:
        said = finish(ours.judge(envelope, delivery))
    delivery.abort()
    return said, [eventAsText(event, includeTimestamp=False, includeSystem=False)
                  for event in logged]  # fmt: skip


OWN = [b"From: joe@example.net\r\n\r\nx\r\n", b"FROM : Joe <JOE@Example.NET>\r\n\r\n", b"\r\nx\r\n",
       b"From: x\r\n <joe@example.net>\r\n\r\nFrom: boss@example.net\r\n",
       b'From: "boss@example.net" (a@b) <"joe"@example.net>\r\n', b"Subject: x\r\n"]  # fmt: skip
FOREIGN = [
    (b"From: boss@example.net\r\n\r\nx\r\n", "boss@example.net"),
    (b"Subject: x\r\nfrom:Joe <joe@example.net>,\r\n\tboss@example.org\r\n", "boss@example.org"),
    (b"From: joe@example.net\r\nFrom: boss@example.org\r\n\r\n", "boss@example.org"),
    (b"From: The boss\r\n\r\n", "The boss"),
    (b"From: <>\r\n\r\n", "<>"),
    (b"From: \xff <\xff@example.net>\r\n\r\n", "\udcff@example.net"),
]


@pytest.mark.parametrize("how", ["off", "log", "refuse"])
@pytest.mark.parametrize("text", OWN)
def test_own_addresses_in_from_are_taken(reception_context, submission, envelope, text, how):
    said = sent(replace(reception_context, foreign_from=how), submission, envelope, [text])
    assert said == (None, [])


@pytest.mark.parametrize("how", ["off", "log", "refuse"])
@pytest.mark.parametrize(("text", "which"), FOREIGN)
def test_foreign_addresses_in_from_are_told_or_refused(
    reception_context, submission, envelope, text, which, how
):
    pieces = [bytes([octet]) for octet in text] if how == "log" else [text]
    said, logged = sent(replace(reception_context, foreign_from=how), submission, envelope, pieces)
    assert said == (reply.FOREIGN_FROM if how == "refuse" else None)
    what = {"off": [], "log": ["taken"], "refuse": ["refused"]}[how]
    facts = f"foreign-from id=id.1 account=joe@example.net author={shown(which)}"
    assert logged == [f"{facts} outcome={word}" for word in what]


def test_many_addresses_in_from_are_not_all_looked_up(reception_context, submission, envelope):
    many = b",".join([b"joe@example.net"] + [b"a%d@example.net" % n for n in range(9000)])
    reception_context = replace(reception_context, foreign_from="refuse")
    said, _ = sent(reception_context, submission, envelope, [b"From: " + many + b"\r\n\r\n"])
    assert said == reply.FOREIGN_FROM


DATE = b"Date: Mon, 23 Nov 2026 00:00:00 +0000\r\n"
MESSAGE_ID = b"Message-ID: <id.1.20261123000000@mail.example.net>\r\n"


@pytest.fixture
def kept(reception_context, submission, envelope, store):
    """What lies in the maildrop of a text that a user sent in these pieces; behind its trace."""

    def kept(*pieces, reception_context=reception_context, trace_begins=b""):
        ours = submission(reception_context)
        envelope.service = "submission"
        ask(ours, envelope, "joe@example.net")
        delivery = finish(ours.begin(envelope))
        for piece in pieces:
            finish(delivery.write(piece))
        assert finish(ours.judge(envelope, delivery)) is None
        finish(delivery.commit())
        [text] = store.drop("joe@example.net").texts.values()
        trace, _, rest = text.partition(b";\r\n\tMon, 23 Nov 2026 00:00:00 +0000\r\n")
        assert trace.startswith(trace_begins + b"Return-Path: <a@example.org>\r\nReceived: ")
        return rest

    return kept


@pytest.mark.parametrize(
    ("sent", "header", "body"),
    [
        (b"Subject: x\r\n\r\nhi\r\n", b"Subject: x\r\n" + DATE + MESSAGE_ID, b"hi\r\n"),
        (b"DATE : y\r\n\r\nhi\r\n", b"DATE : y\r\n" + MESSAGE_ID, b"hi\r\n"),
        (b"Message-Id:\r\n <y>\r\n\r\n", b"Message-Id:\r\n <y>\r\n" + DATE, b""),
        (b"Date: y\r\nMESSAGE-ID: z\r\n\r\n", b"Date: y\r\nMESSAGE-ID: z\r\n", b""),
        (b"X: y\r\n Date: z\r\n\r\n", b"X: y\r\n Date: z\r\n" + DATE + MESSAGE_ID, b""),
        (b"X-Date: y\r\n\r\n", b"X-Date: y\r\n" + DATE + MESSAGE_ID, b""),
        (b"\r\nDate: y\r\n\r\nhi\r\n", DATE + MESSAGE_ID, b"Date: y\r\n\r\nhi\r\n"),
        (b"Hello!\r\n\r\nhi\r\n", DATE + MESSAGE_ID, b"Hello!\r\n\r\nhi\r\n"),
        (b" X: y\r\n\r\nhi\r\n", DATE + MESSAGE_ID, b" X: y\r\n\r\nhi\r\n"),
        (b"X: y\r\nno field\r\n", b"X: y\r\n" + DATE + MESSAGE_ID, b"no field\r\n"),
        (b"X: y\r\n", b"X: y\r\n" + DATE + MESSAGE_ID, b""),
        (b"", DATE + MESSAGE_ID, b""),
    ],
)
def test_a_header_is_completed_and_the_rest_is_as_it_was(kept, sent, header, body):
    assert kept(sent) == header + b"\r\n" + body


@pytest.mark.parametrize(
    "blind",
    [
        b"Bcc: ann@example.net\r\n",
        b"bcc:\r\n",
        b"BCC : ann@example.net,\r\n\tjoe@example.net,\r\n Bob <bob@example.net>\r\n",
        b"Bcc: a@example.net\r\nBCC: b@example.net\r\n",
        b"Resent-Bcc: ann@example.net\r\n",
    ],
)
def test_nobody_learns_who_has_a_blind_copy(kept, blind):
    text = b"From: joe@example.net\r\n" + blind + b"Cc: ann@example.net\r\n\r\nBcc: said\r\n"
    header = b"From: joe@example.net\r\nCc: ann@example.net\r\n" + DATE + MESSAGE_ID
    assert kept(text) == header + b"\r\nBcc: said\r\n"


TEXT = b"Bcc: a@example.net\r\n b@example.net\r\nX: y\r\n\r\n\r\nDate: z\r\n\r\n"


@pytest.mark.parametrize("place", range(len(TEXT)))
def test_a_header_is_completed_wherever_it_is_cut(kept, place):
    whole = b"X: y\r\n" + DATE + MESSAGE_ID + b"\r\n\r\nDate: z\r\n\r\n"
    assert kept(*cut(TEXT, [place, place + 1])) == whole


def test_strangers_mail_is_left_as_it_is(reception, envelope, store):
    ask(reception, envelope, "joe@example.net")
    delivery = finish(reception.begin(envelope))
    finish(delivery.write(b"Bcc: joe@example.net\r\n\r\nhi\r\n"))
    finish(delivery.commit())
    [text] = store.drop("joe@example.net").texts.values()
    assert text.endswith(b" +0000\r\nBcc: joe@example.net\r\n\r\nhi\r\n")


def test_policies_see_a_users_message_as_it_will_lie_there(reception_context, kept):
    class Looks(PolicyBase):
        stages = ("text",)
        seen = b""

        async def text(self, envelope, text):
            while octets := await text.read():
                self.seen += octets
            return Fields(b"X-Seen: yes\r\n")

    looks = Looks()
    asked = ChainedPolicy(looks, "looks", frozenset({"submission"}))

    reception_context = replace(reception_context, policies=PolicyChain([asked], Clock()))
    whole = b"Subject: x\r\n" + DATE + MESSAGE_ID + b"\r\nhi\r\n"
    sent = b"Subject: x\r\n\r\nhi\r\n"
    assert kept(sent, reception_context=reception_context, trace_begins=b"X-Seen: yes\r\n") == whole
    assert looks.seen.endswith(whole)


def test_a_completed_delivery_is_one_as_any_other(reception_context, submission, envelope, store):
    class Parting:
        """A delivery with an outcome for each."""

        def __init__(self):
            self.octets, self.aborted = b"", 0

        async def write(self, data):
            self.octets += data

        async def commit_each(self):
            return [None, NoSpace()]

        def abort(self):
            self.aborted += 1

    parting = Parting()

    async def begin(envelope):
        return parting

    store.begin = begin
    ours = submission(reception_context)
    ask(ours, envelope, "joe@example.net")
    delivery = finish(ours.begin(envelope))
    assert verifyObject(IDelivery, delivery)
    finish(delivery.write(b"X: y\r\n"))
    first, second = finish(delivery.commit_each())
    assert first is None
    assert isinstance(second, NoSpace)
    assert parting.octets.endswith(b"X: y\r\n" + DATE + MESSAGE_ID + b"\r\n")
    delivery.abort()
    assert parting.aborted == 1
