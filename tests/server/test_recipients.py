"""Recipients that are aliases, forwards and catch-alls: who gets the message, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from twisted.cred.portal import Portal
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from postoffice.accounts.realm import Realm
from postoffice.model import reply
from postoffice.model.address import (
    COLLECT_ONLY,
    DISABLED,
    ENABLED,
    HELD,
    RECEIVE_ONLY,
    Address,
    Quota,
)
from postoffice.model.alias import DISCARD, REFUSE, Alias, Domain
from postoffice.model.envelope import Client, SessionInfo
from postoffice.model.errors import MaildropFull, MaildropFullNow, TemporaryFailure
from postoffice.policy.chain import ChainedPolicy, PolicyChain
from postoffice.policy.common import PolicyBase
from postoffice.server.reception import MANY
from postoffice.server.smtp_factory import SMTPFactory
from postoffice.server.smtp_service import ServiceProfile
from postoffice.smtp.options import SMTPLimits
from postoffice.testing import finish
from tests.server.receiving import ask

JOE, ANN, POSTMASTER = (f"{name}@example.net" for name in ("joe", "ann", "postmaster"))


def targets(*names: str) -> tuple[Address, ...]:
    return tuple(Address.parse(name if "@" in name else f"{name}@example.net") for name in names)


def add(directory, name, *to, **fields):
    assert finish(directory.add_alias(Alias(f"{name}@example.net", targets(*to), **fields)))


@pytest.fixture
def peopled(directory):
    finish(directory.add(ANN, None))
    add(directory, "info", "joe", "ann")
    add(directory, "both", "info", "ann")
    add(directory, "gone", kind=REFUSE, words="She has left")
    add(directory, "null", kind=DISCARD)
    add(directory, "far", "someone@elsewhere.example")
    return directory


def getting(envelope) -> Sequence[str]:
    return [one.account.address for one in envelope.recipients]


@pytest.mark.parametrize(
    ("address", "accounts"),
    [
        ("info@example.net", [JOE, ANN]), ("both@example.net", [JOE, ANN]),
        ("INFO+tag@example.net", [JOE, ANN]), ("joe+tag@example.net", [JOE]),
        ("abuse@example.com", [POSTMASTER]), ("null@example.net", []),
    ],
)  # fmt: skip
def test_each_account_to_which_an_address_leads_gets_the_message_once(
    peopled, reception, envelope, address, accounts
):
    assert ask(reception, envelope, address) == reply.RECIPIENT_OK
    assert getting(envelope) == accounts
    assert {str(one.address) for one in envelope.recipients} <= {address}
    assert envelope.named == [tuple(range(len(accounts)))]


def test_an_account_that_is_named_and_led_to_gets_one_copy(peopled, reception, envelope):
    for name in ("ann", "info", "both", "joe+x", "null"):
        assert ask(reception, envelope, f"{name}@example.net") == reply.RECIPIENT_OK
    assert getting(envelope) == [ANN, JOE]
    assert envelope.named == [(0,), (1, 0), (1, 0), (1,), ()]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("gone@example.net", reply.Reply(550, "5.2.1", "She has left")),
        ("far@example.net", reply.NO_FORWARDING),
        ("nobody@example.net", reply.UNKNOWN_RECIPIENT),
        ("nobody+x@example.com", reply.UNKNOWN_RECIPIENT),
    ],
)
def test_what_leads_to_nobody_is_refused(peopled, reception, envelope, address, said):
    assert ask(reception, envelope, address) == said
    assert envelope.recipients == envelope.named == []


def test_a_catch_all_and_a_domain_alias_are_followed(peopled, reception, envelope):
    finish(peopled.set_domain(Domain("example.com", same_as="example.net")))
    finish(peopled.set_domain(Domain("example.net", catch_all=targets("ann"))))
    assert ask(reception, envelope, "anybody@example.com") == reply.RECIPIENT_OK
    assert ask(reception, envelope, "Joe+1@example.com") == reply.RECIPIENT_OK
    assert getting(envelope) == [ANN, JOE]


@pytest.mark.parametrize(
    ("address", "names"),
    [
        (JOE, [JOE]), ("joe+x@example.net", ["joe+x@example.net", JOE]),
        ("both@example.net", ["both@example.net", "info@example.net", JOE, ANN]),
        ("joe@elsewhere.example", ["joe@elsewhere.example"]),
    ],
)  # fmt: skip
def test_each_name_on_the_way_is_looked_up_once_with_its_domain(
    peopled, reception_context, envelope, address, names
):
    asked, look_up = [], peopled.look_up

    def noted(name):
        asked.append(name)
        return look_up(name)

    peopled.look_up = noted
    reception = replace(reception_context).reception(SessionInfo("id", "smtp", Client("192.0.2.1")))
    ask(reception, envelope, address)
    assert asked == names


def test_a_loop_is_tried_later(peopled, reception, envelope):
    add(peopled, "a", "b")
    add(peopled, "b", "a")
    with pytest.raises(TemporaryFailure, match=r"a loop of aliases: a@example\.net -> b@"):
        ask(reception, envelope, "a@example.net")


def test_the_log_says_where_an_alias_led_and_who_did_not_get_it(peopled, reception, envelope):
    finish(peopled.set_state(JOE, DISABLED))
    add(peopled, "mixed", "info", "gone", "far", "null", "lost")
    with capturedLogs() as logged:
        assert ask(reception, envelope, "mixed@example.net") == reply.RECIPIENT_OK
        assert ask(reception, envelope, ANN) == reply.RECIPIENT_OK
    assert [event["line"] for event in logged] == [
        "recipient-followed id=id.1 recipient=<mixed@example.net> to=<ann@example.net>",
        "target-refused id=id.1 user=joe@example.net recipient=<mixed@example.net>"
        ' why="550 5.2.1 This mailbox is disabled"',
        "target-refused id=id.1 user=gone@example.net recipient=<mixed@example.net>"
        ' why="550 5.2.1 She has left"',
        "target-refused id=id.1 user=lost@example.net recipient=<mixed@example.net>"
        ' why="550 5.1.1 No such mailbox here"',
        "target-refused id=id.1 user=someone@elsewhere.example recipient=<mixed@example.net>"
        f' why="{reply.NO_FORWARDING.log_text}"',
        "message-discarded id=id.1 sender=<a@example.org> recipient=<mixed@example.net>",
    ]
    assert getting(envelope) == [ANN]


# -- quotas behind an alias -----------------------------------------------------------------


def test_one_full_target_of_an_alias_does_not_keep_the_others(peopled, crowded, envelope):
    finish(peopled.set_quota(JOE, Quota(octets=10)))
    envelope.size = 100
    reception = crowded.reception(SessionInfo("id", "smtp", Client("192.0.2.1")))
    with capturedLogs() as logged:
        assert ask(reception, envelope, "info@example.net") == reply.RECIPIENT_OK
    assert getting(envelope) == [ANN]
    assert any("target-refused" in event["line"] and JOE in event["line"] for event in logged)


def test_if_no_target_has_room_the_alias_is_refused(peopled, crowded, envelope):
    envelope.size = 1001
    reception = crowded.reception(SessionInfo("id", "smtp", Client("192.0.2.1")))
    with pytest.raises(MaildropFull):
        ask(reception, envelope, "info@example.net")
    assert envelope.recipients == envelope.named == []


def test_if_a_target_is_to_be_tried_later_all_are(peopled, crowded, envelope):
    finish(peopled.set_quota(ANN, Quota(octets=10, over="defer")))
    envelope.size = 100
    reception = crowded.reception(SessionInfo("id", "smtp", Client("192.0.2.1")))
    with pytest.raises(MaildropFullNow):
        ask(reception, envelope, "info@example.net")
    assert envelope.recipients == envelope.named == []


def test_so_many_targets_that_a_message_would_be_too_wide_come_apart(peopled, reception, envelope):
    for number in range(12):
        names = [f"n{number}-{one}" for one in range(90)]
        for name in names:
            finish(peopled.add(f"{name}@example.net", None))
        add(peopled, f"wide{number}", *names)
    for number in range(MANY // 90):
        assert ask(reception, envelope, f"wide{number}@example.net") == reply.RECIPIENT_OK
    assert ask(reception, envelope, "wide11@example.net") == reply.TOO_MANY_RECIPIENTS
    assert ask(reception, envelope, JOE) == reply.RECIPIENT_OK


def test_policies_are_asked_once_for_an_alias(peopled, reception_context, envelope):
    class Notes(PolicyBase):
        stages = ("recipient",)

        def __init__(self):
            self.seen = []

        async def recipient(self, envelope, recipient):
            self.seen.append((str(recipient.address), recipient.account.address))

    notes = Notes()
    chain = PolicyChain([ChainedPolicy(notes, "notes", frozenset({"smtp"}))], Clock())
    reception = replace(reception_context, policies=chain).reception(
        SessionInfo("id", "smtp", Client("192.0.2.1"))
    )
    for name in ("info", "both", "null"):
        assert ask(reception, envelope, f"{name}@example.net") == reply.RECIPIENT_OK
    assert notes.seen == [("info@example.net", JOE)]


# -- states ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "takes", "sends"),
    [
        (ENABLED, True, True), (DISABLED, False, False), (COLLECT_ONLY, False, False),
        (RECEIVE_ONLY, True, False), (HELD, True, False),
    ],
)  # fmt: skip
def test_a_state_says_what_an_account_may(
    peopled, reception_context, envelope, state, takes, sends
):
    user = SessionInfo("id", "submission", Client("192.0.2.1"))
    submission = reception_context.submission(user, finish(peopled.find(JOE)))
    finish(peopled.set_state(JOE, state))
    reception = reception_context.reception(SessionInfo("id", "smtp", Client("192.0.2.1")))
    expected = reply.RECIPIENT_OK if takes else reply.MAILBOX_DISABLED
    assert ask(reception, envelope, JOE) == expected
    for sender in (Address.parse(JOE), None):
        envelope.sender = sender
        expected = reply.SENDER_OK if sends else reply.MAY_NOT_SEND
        assert finish(submission.sender(envelope)) == expected


@pytest.mark.parametrize("state", [DISABLED, COLLECT_ONLY])
def test_the_postmaster_gets_mail_in_every_state(peopled, reception, envelope, state):
    finish(peopled.set_state(POSTMASTER, state))
    assert ask(reception, envelope, None) == reply.RECIPIENT_OK
    assert ask(reception, envelope, "abuse@example.com") == reply.RECIPIENT_OK


def test_a_removed_account_sends_no_more(peopled, reception_context, envelope):
    user = SessionInfo("id", "submission", Client("192.0.2.1"))
    submission = reception_context.submission(user, finish(peopled.find(JOE)))
    finish(peopled.remove(JOE))
    assert finish(submission.sender(envelope)) == reply.MAY_NOT_SEND


@pytest.mark.parametrize(
    ("sender", "may"),
    [
        ("ann+x@example.net", True), ("one@example.net", True), ("info@example.net", False),
        ("team@example.net", True), ("free@example.com", True), ("joe@example.net", False),
        ("null@example.net", False),
    ],
)  # fmt: skip
def test_users_send_as_what_leads_to_them_alone(peopled, reception_context, envelope, sender, may):
    add(peopled, "one", "ann")
    add(peopled, "team", "ann", "joe", send=True)
    finish(peopled.set_domain(Domain("example.com", catch_all=targets("ann"))))
    finish(peopled.set_forward(ANN, targets("joe"), False))
    finish(peopled.set_forward(JOE, targets("ann"), False))
    user = SessionInfo("id", "submission", Client("192.0.2.1"))
    submission = reception_context.submission(user, finish(peopled.find(ANN)))
    envelope.sender = Address.parse(sender)
    expected = reply.SENDER_OK if may else reply.NOT_YOUR_ADDRESS
    assert finish(submission.sender(envelope)) == expected


# -- on the wire ----------------------------------------------------------------------------


@pytest.fixture
def office(memory_office):
    add(memory_office.directory, "info", "joe", "ann")
    add(memory_office.directory, "null", kind=DISCARD)
    return memory_office


@pytest.fixture
def lmtp(office):
    portal = Portal(Realm(office.mailbox_context, office.reception_context), office.smtp.portal
                    .checkers.values())  # fmt: skip
    office.smtp = SMTPFactory(
        portal,
        hostname="mail.example.net",
        limits=SMTPLimits(),
        clock=office.clock,
        profile=ServiceProfile(lmtp=True),
    )
    client = office.client("smtp")
    client.say(b"LHLO pc\r\nMAIL FROM:<a@example.org>\r\n")
    return client


def posted(client, *names: str) -> list[bytes]:
    for name in names:
        assert client.say(b"RCPT TO:<%b@example.net>\r\n" % name.encode())[:3] == b"250"
    assert client.say(b"DATA\r\n")[:3] == b"354"
    return client.say(b"Subject: x\r\n\r\nHello\r\n.\r\n").splitlines()


def held(office, name):
    return finish(office.store.count(f"{name}@example.net"))[0]


def test_lmtp_has_one_reply_for_each_recipient_however_many_get_it(office, lmtp):
    said = posted(lmtp, "info", "joe", "null")
    assert [line[:9] for line in said] == [b"250 2.0.0"] * 3
    assert (held(office, "joe"), held(office, "ann")) == (1, 1)


@pytest.mark.parametrize(
    ("failures", "codes"),
    [
        ({"joe": MaildropFull("full")}, [b"250", b"552"]),
        ({"joe": MaildropFull("full"), "ann": MaildropFull("full")}, [b"552", b"552"]),
        ({"joe": MaildropFull("full"), "ann": TemporaryFailure("later")}, [b"451", b"552"]),
        ({"ann": TemporaryFailure("later")}, [b"451", b"250"]),
    ],
)
def test_over_lmtp_one_target_that_is_to_be_tried_again_is_all(office, lmtp, failures, codes):
    begin = office.store.begin

    async def failing(envelope):
        delivery = await begin(envelope)
        names = [one.account.address.partition("@")[0] for one in envelope.recipients]

        async def commit_each():
            return [failures.get(name) for name in names]

        delivery.commit_each = commit_each
        return delivery

    office.store.begin = failing
    assert [line[:3] for line in posted(lmtp, "info", "joe")] == codes


def test_a_message_that_is_discarded_is_accepted_and_kept_nowhere(office):
    client = office.client("smtp")
    client.say(b"EHLO pc\r\nMAIL FROM:<a@example.org>\r\n")
    with capturedLogs() as logged:
        (said,) = posted(client, "null")
    assert said.startswith(b"250 2.0.0 Taken")
    assert sum(held(office, name) for name in ("joe", "ann", "postmaster")) == 0
    assert [event["event"] for event in logged if "event" in event] == ["message-discarded"]


def test_smtp_gives_a_message_for_an_alias_to_all_its_targets(office):
    client = office.client("smtp")
    client.say(b"EHLO pc\r\nMAIL FROM:<a@example.org>\r\n")
    assert posted(client, "info", "joe")[0].startswith(b"250")
    assert (held(office, "joe"), held(office, "ann")) == (1, 1)
