"""Who may post, to whom, and for how much there is room."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.internet.task import Clock

from postoffice.model import reply
from postoffice.model.address import Address, Quota
from postoffice.model.envelope import Client, SessionInfo
from postoffice.model.errors import MaildropFull, MaildropFullNow, TemporaryFailure
from postoffice.policy.chain import ChainedPolicy, PolicyChain
from postoffice.policy.common import PolicyBase
from postoffice.testing import finish
from tests.server.receiving import JOE, ask


@pytest.mark.parametrize(
    ("local", "domain", "said"),
    [
        ("joe", "", reply.RECIPIENT_OK),
        ("root", "", reply.UNKNOWN_RECIPIENT),
        ("joe.", "example.net", reply.UNKNOWN_RECIPIENT),
        ("x" * 1000, "example.net", reply.UNKNOWN_RECIPIENT),
        ("joe", "-x..org", reply.NO_RELAY),
    ],
)
def test_the_directory_is_strict(reception, envelope, local, domain, said):
    assert finish(reception.recipient(envelope, Address(local, domain))) == said
    known = [str(one.address) for one in envelope.recipients]
    assert known == (["joe@example.net"] if said is reply.RECIPIENT_OK else [])


def test_anyone_may_send(reception, envelope):
    assert finish(reception.sender(envelope)) == reply.SENDER_OK


@pytest.mark.parametrize(
    ("address", "account"),
    [
        ("joe@example.net", "joe@example.net"),
        ("JOE@Example.NET", "joe@example.net"),
        ('"joe"@example.net', "joe@example.net"),
        ("joe@bücher.example", "joe@xn--bcher-kva.example"),
        ("postmaster@example.net", "postmaster@example.net"),
        ("PostMaster@example.com", "postmaster@example.net"),
        ("POSTMASTER@BÜCHER.example", "postmaster@example.net"),
        (None, "postmaster@example.net"),
    ],
)
def test_those_who_are_here(reception, envelope, address, account):
    assert ask(reception, envelope, address) == reply.RECIPIENT_OK
    assert [one.account.address for one in envelope.recipients] == [account]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("jim@example.net", reply.UNKNOWN_RECIPIENT),
        ("joe@example.com", reply.UNKNOWN_RECIPIENT),
        ("joe@example.org", reply.NO_RELAY),
        ("postmaster@example.org", reply.NO_RELAY),
        ("joe%example.org@example.net", reply.UNKNOWN_RECIPIENT),
        ("example.org!joe@example.net", reply.UNKNOWN_RECIPIENT),
        ('"joe@example.org"@example.net', reply.UNKNOWN_RECIPIENT),
        ("joe@[127.0.0.1]", reply.NO_RELAY),
        ("joe@sub.example.net", reply.NO_RELAY),
        ('"../joe"@example.net', reply.UNKNOWN_RECIPIENT),
    ],
)
def test_those_who_are_not(reception, envelope, address, said):
    assert ask(reception, envelope, address) == said
    assert not envelope.recipients


def test_one_account_gets_one_copy(reception, envelope):
    for address in ("joe@example.net", "JOE@example.net", "postmaster@example.com", None):
        assert ask(reception, envelope, address) == reply.RECIPIENT_OK
    assert [one.account.address for one in envelope.recipients] == [
        "joe@example.net",
        "postmaster@example.net",
    ]


def test_a_missing_postmaster_is_our_fault(reception, envelope, directory):
    finish(directory.remove("postmaster@example.net"))
    with pytest.raises(TemporaryFailure):
        ask(reception, envelope, None)


def test_the_trace_fields_come_first(reception, envelope, store):
    ask(reception, envelope, "joe@example.net")
    delivery = finish(reception.begin(envelope))
    finish(delivery.write(b"Subject: x\r\n\r\n"))
    finish(delivery.commit())
    maildrop = store.maildrop("joe@example.net")
    listing = finish(maildrop.open())
    text = finish(finish(maildrop.fetch(listing.entries[0])).read())
    assert text.startswith(b"Return-Path: <a@example.org>\r\nReceived: from pc ([192.0.2.1])\r\n")
    assert text.endswith(b"+0000\r\nSubject: x\r\n\r\n")
    maildrop.release()


def reception_of(reception_context):
    return reception_context.reception(SessionInfo("id", "smtp", Client("192.0.2.1")))


@pytest.mark.parametrize(
    ("own", "domains", "whole"),
    [
        (Quota(), Quota(), Quota(1000, 3, "reject")),
        (Quota(octets=5), Quota(octets=6, messages=7), Quota(5, 7, "reject")),
        (Quota(over="defer"), Quota(), Quota(1000, 3, "defer")),
        (Quota(messages=0), Quota(0, 9, "make-room"), Quota(0, 0, "make-room")),
        (Quota(1, 2, "defer"), Quota(3, 4, "reject"), Quota(1, 2, "defer")),
    ],
)
def test_an_account_comes_with_a_whole_quota(crowded, directory, envelope, own, domains, whole):
    finish(directory.set_quota(JOE, own))
    finish(directory.set_domain_quota("example.net", domains))
    assert ask(reception_of(crowded), envelope, JOE) == reply.RECIPIENT_OK
    account = envelope.recipients[0].account
    assert account == replace(finish(directory.find(JOE)), quota=whole)


def test_the_size_that_was_declared_is_what_room_is_asked_for(crowded, envelope, asked):
    reception = crowded.reception(SessionInfo("id", "smtp", Client("192.0.2.1")))
    envelope.size = 1000
    assert ask(reception, envelope, "Joe@example.net") == reply.RECIPIENT_OK
    ((account, size),) = asked
    assert (account.maildrop, account.quota, size) == (JOE, Quota(1000, 3, "reject"), 1000)
    assert envelope.recipients[0].account == account, "who commits is told the same"
    assert ask(reception, envelope, "JOE@example.net") == reply.RECIPIENT_OK
    assert len(asked) == 1, "he is in it once"


@pytest.mark.parametrize(
    ("over", "failure", "code"),
    [("reject", MaildropFull, (552, "5.2.2")), ("defer", MaildropFullNow, (452, "4.2.2"))],
)
def test_only_a_recipient_without_room_is_refused(
    crowded, directory, envelope, over, failure, code
):
    finish(directory.set_quota(JOE, Quota(octets=999, over=over)))
    reception = crowded.reception(SessionInfo("id", "smtp", Client("192.0.2.1")))
    envelope.size = 1000
    with pytest.raises(failure) as raised:
        ask(reception, envelope, JOE)
    assert (raised.value.reply.code, raised.value.reply.status) == code
    assert envelope.recipients == envelope.named == []
    assert ask(reception, envelope, "joe@bücher.example") == reply.RECIPIENT_OK


@pytest.mark.parametrize("address", [None, "postmaster@example.com", "postmaster@example.net"])
def test_the_postmaster_always_has_room(crowded, directory, envelope, asked, address):
    finish(directory.set_quota("postmaster@example.net", Quota(1, 1, "reject")))
    envelope.size = 5000
    reception = crowded.reception(SessionInfo("id", "smtp", Client("192.0.2.1")))
    assert ask(reception, envelope, address) == reply.RECIPIENT_OK
    assert not envelope.recipients[0].account.quota.limited
    assert asked == []


@pytest.mark.parametrize("address", [None, "postmaster@example.com", "postmaster@example.net"])
def test_the_postmasters_quota_is_one_of_its_own(crowded, directory, envelope, asked, address):
    finish(directory.set_quota("postmaster@example.net", Quota(1, 1, "reject")))
    quota = Quota(9000, 0, "make-room")
    reception_context = replace(crowded, postmaster_quota=quota)
    reception = reception_context.reception(SessionInfo("id", "smtp", Client("192.0.2.1")))
    assert ask(reception, envelope, address) == reply.RECIPIENT_OK
    assert envelope.recipients[0].account.quota == quota
    assert [account.quota for account, _ in asked] == [quota]


def test_the_postmaster_has_room_under_the_own_name_too(crowded, envelope, asked):
    envelope.size = 5000
    reception = replace(crowded, postmaster=Address.parse(JOE)).reception(
        SessionInfo("id", "smtp", Client("192.0.2.1"))
    )
    assert ask(reception, envelope, '"JOE"@example.net') == reply.RECIPIENT_OK
    assert asked == []


def test_where_nothing_is_limited_the_store_is_not_asked(reception, envelope, asked, directory):
    finish(directory.set_quota(JOE, Quota(over="defer")))
    envelope.size = 1 << 40
    assert ask(reception, envelope, JOE) == reply.RECIPIENT_OK
    assert asked == []


def test_policies_are_not_asked_of_who_has_no_room(crowded, envelope):
    """A greylist would have its sender come again for nothing."""

    class Counts(PolicyBase):
        stages = ("recipient",)
        seen = 0

        async def recipient(self, envelope, recipient):
            self.seen += 1

    counts = Counts()
    policies = PolicyChain([ChainedPolicy(counts, "counts", frozenset({"smtp"}))], Clock())
    reception_context = replace(crowded, policies=policies)
    reception = reception_context.reception(SessionInfo("id", "smtp", Client("192.0.2.1")))
    envelope.size = 1001
    with pytest.raises(MaildropFull):
        ask(reception, envelope, JOE)
    assert counts.seen == 0
    envelope.size = 1000
    assert ask(reception, envelope, JOE) == reply.RECIPIENT_OK
    assert counts.seen == 1
