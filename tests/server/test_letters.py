"""Where letters about queued messages go, and who gets none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.logger import capturedLogs

from postoffice.model.address import Address, Quota
from postoffice.model.alias import DISCARD, FORWARD, Alias
from postoffice.model.envelope import DeliveryStatus
from postoffice.model.errors import MessageGone, TemporaryFailure
from postoffice.model.hop import PeerReply
from postoffice.model.queued_message import QueuedRecipient
from postoffice.model.route import Direct, Refuse
from postoffice.outbound.routes import Router, Rule
from postoffice.server.dkim_keys import DKIMKeys
from postoffice.server.letters import OutboundLetters
from postoffice.testing import finish

JOE = "joe@example.net"
NEVER = PeerReply(550, "5.1.1", "no such user", "rcpt")
OK = PeerReply(250, "2.0.0", "taken", "end")
TEXT = b"Subject: Hi\r\nMessage-ID: <1@example.net>\r\n\r\nThe text\r\n"
NOON = 1_795_000_000.0


@pytest.fixture
def context(reception_context):
    refused = Rule(Refuse("Not there"), None, frozenset(["bad.example"]))
    return replace(reception_context, router=Router([refused, Rule(Direct())]))


@pytest.fixture
def queue(store):
    return store.queue


@pytest.fixture
def submitted(store, queue, envelope):
    """Puts a message into the queue; returns its name and itself."""

    def submitted(sender, **recipient):
        envelope.sender = Address.parse(sender) if sender else None
        envelope.queued = [QueuedRecipient(address="bob@there.example", **recipient)]
        delivery = finish(store.begin(envelope))
        finish(delivery.write(envelope.return_path + TEXT))
        finish(delivery.commit())
        (name,) = finish(queue.names())
        (message,) = finish(queue.read([name]))
        return name, message

    return submitted


@pytest.fixture
def letter(context, queue, submitted):
    """Writes a letter about a message, and commits it with the end of the message."""

    def letter(
        sender=JOE, kind="failed", reply=NEVER, *, context=context, told="sender", **recipient
    ):
        name, message = submitted(sender, **recipient)
        letters = OutboundLetters(context, queue, forward_failures=told)
        delivery = finish(getattr(letters, kind)(name, message, {0: reply}, "mx[192.0.2.1]:25"))
        finish(queue.finish(name, [0], letters=filter(None, [delivery]), whole=True))
        return delivery

    return letter


def mail(store, account):
    maildrop = store.maildrop(account)
    texts = []
    for entry in finish(maildrop.open()).entries:
        texts.append(finish(finish(maildrop.fetch(entry)).read()))
    maildrop.release()
    return texts


def queued(queue):
    """The queued messages, and their texts."""
    names = finish(queue.names())
    return [
        (message, finish(finish(queue.text(name)).read()))
        for name, message in zip(names, finish(queue.read(names)), strict=True)
    ]


def events(logs):
    return [event["line"] for event in logs if event.get("event", "").startswith("letter")]


def test_a_letter_to_an_account_comes_into_its_maildrop(letter, store, queue):
    with capturedLogs() as logs:
        assert letter() is not None
    (text,) = mail(store, JOE)
    assert text.startswith(b"Return-Path: <>\r\nFrom: Mail Delivery System ")
    assert b"Final-Recipient: rfc822; bob@there.example\r\n" in text
    assert b"References: <1@example.net>\r\n" in text
    assert b"Subject: Hi\r\n" in text
    assert not finish(queue.names())
    assert events(logs) == [
        "letter-written id=id.1 sender=<joe@example.net> outcome=failed to=<bob@there.example>"
    ]


def test_a_letter_to_another_server_is_queued_from_the_null_sender(letter, queue):
    letter("stranger@far.example")
    ((message, text),) = queued(queue)
    assert message.sender == ""
    assert [(one.address, one.notify) for one in message.recipients] == [
        ("stranger@far.example", "NEVER")
    ]
    assert text.startswith(b"From: Mail Delivery System ")


def test_a_letter_follows_the_alias_and_the_forward_of_the_sender(letter, store, queue, directory):
    targets = (Address.parse(JOE), Address.parse("ann@far.example"))
    finish(directory.add_alias(Alias("both@example.net", targets, kind=FORWARD)))
    letter("both@example.net")
    assert len(mail(store, JOE)) == 1
    assert [message.recipients[0].address for message, _ in queued(queue)] == ["ann@far.example"]


def test_all_of_the_message_is_returned_where_the_sender_wants_it(letter, envelope, store, queue):
    envelope.status = DeliveryStatus("FULL")
    letter()
    (text,) = mail(store, JOE)
    assert TEXT in text


@pytest.mark.parametrize(
    ("kind", "notify", "reply", "told"),
    [
        ("delayed", "", NEVER, True),
        ("relayed", "", OK, False),
        ("relayed", "SUCCESS", OK, True),
        ("failed", "NEVER", NEVER, False),
        ("failed", "SUCCESS", NEVER, False),
    ],
)
def test_the_sender_gets_what_notify_says(letter, store, kind, notify, reply, told):
    letter(kind=kind, reply=reply, notify=notify)
    assert len(mail(store, JOE)) == told


def test_nobody_is_told_about_a_letter(letter, store, queue):
    assert letter("") is None
    assert not finish(queue.names())


@pytest.mark.parametrize("sender", ["nobody@example.net", "x@bad.example", "away@example.net"])
def test_a_letter_without_a_way_is_lost_and_logged(letter, directory, sender):
    finish(directory.add_alias(Alias("away@example.net", (), kind=DISCARD)))
    with capturedLogs() as logs:
        assert letter(sender) is None
    (line,) = events(logs)
    assert line.startswith(f"letter-lost id=id.1 sender=<{sender}> outcome=failed ")


@pytest.mark.parametrize("over", ["reject", "defer"])
def test_a_full_mailbox_gets_no_letter(letter, context, over):
    full = replace(context, quota=Quota(10, 0, over))
    with capturedLogs() as logs:
        assert letter(context=full) is None
    assert "letter-lost" in events(logs)[0]


def test_a_letter_waits_for_the_directory(letter, context, directory, monkeypatch):
    async def down(name):
        raise TemporaryFailure("the directory is down")

    monkeypatch.setattr(directory, "look_up", down)
    with pytest.raises(TemporaryFailure):
        letter()


def test_a_letter_about_a_text_that_is_gone_has_no_header_of_it(letter, store, queue, monkeypatch):
    async def gone(name):
        raise MessageGone("gone")

    monkeypatch.setattr(queue, "text", gone)
    letter()
    (text,) = mail(store, JOE)
    assert b"Subject: Hi" not in text
    assert b"Final-Recipient: rfc822; bob@there.example\r\n" in text


def test_a_letter_that_leaves_is_signed_for_the_hostname(letter, context, queue, tmp_path):
    keys = DKIMKeys(str(tmp_path))
    keys.activate("example.net", [keys.add("example.net", NOON)[1].selector], NOON)
    letter("stranger@far.example", context=replace(context, dkim_keys=keys))
    ((_, text),) = queued(queue)
    assert text.startswith(b"DKIM-Signature: v=1; a=ed25519-sha256;")
    assert b"From: Mail Delivery System <MAILER-DAEMON@mail.example.net>\r\n" in text


FORWARDED = {"original": JOE, "forwarder": JOE}


def test_the_owner_of_a_forward_is_told_in_the_own_maildrop(letter, store, queue, directory):
    """Whatever the account forwards, or the letter would go the same way."""
    finish(directory.set_forward(JOE, (Address.parse("bob@there.example"),), keep_copy=False))
    finish(directory.set_quota(JOE, Quota(1, 1, "reject")))
    with capturedLogs() as logs:
        assert letter("stranger@far.example", told="owner", **FORWARDED) is not None
    (text,) = mail(store, JOE)
    assert b"To: <joe@example.net>\r\nSubject: A message was not forwarded\r\n" in text
    assert b"Final-Recipient: rfc822; bob@there.example\r\n" in text
    assert b"550 5.1.1 no such user" in text
    assert b"\r\n\r\nThe text\r\n" in text, "there may be no other copy"
    assert not finish(queue.names())
    assert events(logs) == [
        "letter-written id=id.1 sender=<joe@example.net> outcome=failed to=<bob@there.example>"
    ]


def test_nobody_is_told_of_a_forward_that_fails_if_that_is_wanted(letter, store, queue):
    assert letter("stranger@far.example", told="drop", **FORWARDED) is None
    assert not finish(queue.names())
    assert mail(store, JOE) == []


@pytest.mark.parametrize("told", ["owner", "drop"])
def test_senders_hear_of_aliases_and_of_their_own_mail_all_the_same(letter, queue, told):
    assert letter("stranger@far.example", told=told, original="info@example.net") is not None
    ((message, _),) = queued(queue)
    assert message.recipients[0].address == "stranger@far.example"


def test_each_owner_gets_a_letter(context, queue, submitted):
    _, message = submitted("stranger@far.example")
    recipients = [
        QueuedRecipient(address=f"bob{number}@there.example", original=to, forwarder=to)
        for number, to in enumerate([JOE, "ann@example.net", JOE, ""])
    ]
    message = replace(message, recipients=tuple(recipients))
    replies = dict.fromkeys(range(4), NEVER)
    groups = OutboundLetters(context, queue, forward_failures="owner").groups(message, replies)
    assert [list(one) for one in groups] == [[0, 2], [1], [3]]
    for how, one in (("sender", message), ("owner", replace(message, login=JOE))):
        groups = OutboundLetters(context, queue, forward_failures=how).groups(one, replies)
        assert list(map(list, groups)) == [[0, 1, 2, 3]]
