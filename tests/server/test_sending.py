"""Recipients in other domains: of our users, of aliases and of forwards."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from postoffice.interfaces import Fields
from postoffice.model import reply
from postoffice.model.address import HELD, Account, Address, Quota
from postoffice.model.alias import FORWARD, Alias, Domain
from postoffice.model.envelope import SessionInfo
from postoffice.model.errors import MaildropFull, PermanentFailure, TemporaryFailure
from postoffice.model.queued_message import QueuedRecipient
from postoffice.model.reply import Reply
from postoffice.model.route import Direct, Refuse
from postoffice.outbound.routes import Router, Rule
from postoffice.policy.chain import ChainedPolicy, PolicyChain
from postoffice.policy.common import PolicyBase
from postoffice.queue.sending_limits import SendingLimits
from postoffice.queue.shares import QueueShares
from postoffice.server.message_log import paths_of
from postoffice.server.smtp_factory import SMTPFactory
from postoffice.server.smtp_service import ServiceProfile
from postoffice.smtp.options import SMTPLimits
from postoffice.testing import ImmediateExecutor, finish
from tests.server.receiving import ask

JOE, ANN = "joe@example.net", "ann@example.net"
FAR = "someone@elsewhere.example"
BAD = frozenset(["bad.example"])


def targets(*texts):
    return tuple(map(Address.parse, texts))


@pytest.fixture
def sending(reception_context, directory):
    """A reception context with a way out, and addresses that lead there."""
    finish(directory.add(ANN, None))
    finish(directory.set_forward(ANN, targets(FAR), keep_copy=True))
    for name, to in {
        "far": [FAR],
        "mixed": [JOE, FAR, "x@bad.example"],
        "bad": ["x@bad.example"],
    }.items():
        finish(directory.add_alias(Alias(f"{name}@example.net", targets(*to), kind=FORWARD)))
    router = Router([Rule(Refuse("Not there"), None, BAD), Rule(Direct())])
    return replace(reception_context, router=router)


@pytest.fixture
def stranger(sending):
    return sending.reception(SessionInfo("id", "smtp", None))


def user(context):
    return context.submission(SessionInfo("id", "submission", None), Account(JOE, JOE))


def queued(envelope):
    return [(one.address, one.original, one.forwarder) for one in envelope.queued]


def test_users_write_to_other_domains(sending, envelope):
    ours = user(sending)
    for text in (
        "A@Example.org",
        "joe@example.net",
        '"a b"@example.org',
        "a@[192.0.2.1]",
        "A@example.ORG",
    ):
        assert ask(ours, envelope, text) == reply.RECIPIENT_OK
    assert queued(envelope) == [
        ("A@Example.org", "", ""), ('"a b"@example.org', "", ""), ("a@[192.0.2.1]", "", ""),
    ]  # fmt: skip
    assert envelope.named == [(-1,), (0,), (-1,), (-1,), (-1,)]
    assert paths_of(envelope) == [
        f"<{one}>" for one in (JOE, "A@Example.org", '"a b"@example.org', "a@[192.0.2.1]")
    ]
    assert paths_of(envelope, [MaildropFull("full"), None])[0] == "<A@Example.org>"
    assert paths_of(envelope, [None, MaildropFull("full")]) == [f"<{JOE}>"]
    assert paths_of(envelope, [None, None]) == paths_of(envelope)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x@bad.example", Reply(550, "5.7.1", "Not there")),
        ("bad@example.net", Reply(550, "5.7.1", "Not there")),
        ("nobody@example.net", reply.UNKNOWN_RECIPIENT),
    ],
)
def test_what_a_route_refuses_is_refused_at_rcpt(sending, envelope, text, said):
    assert ask(user(sending), envelope, text) == said
    assert envelope.queued == envelope.named == []


def test_what_is_no_domain_is_refused_at_rcpt(sending, envelope):
    said = finish(user(sending).recipient(envelope, Address("x", "no..domain")))
    assert said == reply.NO_SUCH_DOMAIN


def test_strangers_do_not_relay(stranger, envelope):
    assert ask(stranger, envelope, "a@example.org") == reply.NO_RELAY


def test_what_strangers_send_to_an_alias_or_a_forward_leaves(stranger, envelope):
    for name in ("far", "mixed", "ann", "ann"):
        assert ask(stranger, envelope, f"{name}@example.net") == reply.RECIPIENT_OK
    assert queued(envelope) == [(FAR, "far@example.net", "")]
    assert [one.account.address for one in envelope.recipients] == [JOE, ANN]
    assert envelope.named == [(-1,), (0, -1), (1, -1), (1, -1)]


@pytest.mark.parametrize(
    ("address", "keeps", "recipient", "forwarder"),
    [
        ("ann@example.net", False, "ann@example.net", ANN),
        ("Ann+x@example.net", False, "Ann+x@example.net", ANN),
        ("team@example.net", True, "team@example.net", ANN),
        ("any@example.com", True, "any@example.com", ""),
    ],
)
def test_a_queued_recipient_knows_who_led_there(
    sending, directory, envelope, address, keeps, recipient, forwarder
):
    finish(directory.set_forward(ANN, targets(FAR), keeps))
    finish(directory.add_alias(Alias("team@example.net", targets(ANN))))
    finish(directory.set_domain(Domain("example.com", catch_all=targets(FAR))))
    stranger = sending.reception(SessionInfo("id", "smtp", None))
    assert ask(stranger, envelope, address) == reply.RECIPIENT_OK
    assert queued(envelope) == [(FAR, recipient, forwarder)]
    assert bool(envelope.recipients) == (keeps and bool(forwarder))
    assert envelope.queued[0].shown == recipient


def test_the_log_says_what_leaves_and_what_does_not(sending, envelope):
    with capturedLogs() as logged:
        ask(user(sending), envelope, "mixed@example.net")
        ask(user(sending), envelope, "a@example.org")
    told = [(one["event"], one.get("to") or one["user"]) for one in logged if "event" in one]
    assert told == [
        ("recipient-followed", f"<{JOE}>,<{FAR}>"),
        ("target-refused", "x@bad.example"),
    ]


class Refusing(PolicyBase):
    stages = ("recipient",)

    def __init__(self):
        self.asked = []

    async def recipient(self, envelope, recipient):
        self.asked.append((str(recipient.address), recipient.account.address))
        return (
            None if recipient.address.domain == "elsewhere.example" else Reply(550, "5.7.1", "No")
        )


def test_nothing_is_forwarded_before_the_policies_agree(sending, envelope, clock):
    policy = Refusing()
    services = frozenset(["smtp", "submission"])
    chain = PolicyChain([ChainedPolicy(policy, "policies[0]", services, 10, "defer")], clock)
    context = replace(sending, policies=chain)
    stranger = context.reception(SessionInfo("id", "smtp", None))
    for name in ("far", "ann"):
        assert ask(stranger, envelope, f"{name}@example.net").code == 550
    assert envelope.queued == envelope.recipients == []
    assert ask(user(context), envelope, FAR) == reply.RECIPIENT_OK
    assert ask(user(context), envelope, FAR) == reply.RECIPIENT_OK
    assert policy.asked == [("far@example.net",) * 2, (ANN, ANN), (FAR, FAR)]


def test_a_full_maildrop_does_not_stop_a_forward(sending, store, envelope):
    async def admit(account, size):
        raise MaildropFull("full")

    store.admit = admit
    context = replace(sending, quota=replace(sending.quota, messages=1))
    stranger = context.reception(SessionInfo("id", "smtp", None))
    assert ask(stranger, envelope, ANN) == reply.RECIPIENT_OK
    assert (envelope.recipients, len(envelope.queued)) == ([], 1)


def test_a_held_account_may_not_send(sending, directory, envelope):
    finish(directory.set_state(JOE, HELD))
    envelope.sender = Address.parse(JOE)
    assert finish(user(sending).sender(envelope)) == reply.MAY_NOT_SEND


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize(
    ("address", "header", "said"),
    [
        (ANN, b"Delivered-To: someone@elsewhere.example\r\n", reply.FORWARDED_IN_A_LOOP),
        (ANN, b"Received: x\r\n" * 51, reply.TOO_MANY_HOPS),
        (ANN, b"Received: x\r\n" * 50, None),
        (JOE, b"Received: x\r\n" * 51, None),
    ],
)
def test_a_text_in_a_loop_does_not_leave(stranger, envelope, address, header, said, each):
    ask(stranger, envelope, address)
    delivery = finish(stranger.begin(envelope))
    finish(delivery.write(header + b"\r\nbody\r\n"))
    commit = delivery.commit_each if each else delivery.commit
    if said is None:
        finish(commit())
    else:
        with pytest.raises(PermanentFailure) as caught:
            finish(commit())
        assert caught.value.reply == said


def test_what_goes_elsewhere_only_is_begun_and_judged(sending, store, envelope):
    ours = user(sending)
    ask(ours, envelope, FAR)
    begun = []

    async def begin(envelope, begin=store.begin):
        begun.append(list(envelope.queued))
        return await begin(envelope)

    store.begin = begin
    delivery = finish(ours.begin(envelope))
    assert begun == [[QueuedRecipient(address=FAR)]]
    assert finish(ours.judge(envelope, delivery)) is None


# -- limits -------------------------------------------------------------------------------


class Limits:
    """Sending limits that a test dictates."""

    def __init__(self, outcome=None):
        self.outcome, self.given_back, self.shares = outcome, [], QueueShares()

    async def take(self, envelope):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        envelope.held = self.outcome or ""
        return len(envelope.queued)

    def give_back(self, counted):
        self.given_back.append(counted)


def test_what_is_over_a_limit_is_refused_or_held(sending, envelope):
    failure = TemporaryFailure("over", Reply(450, "4.7.1", "Later"))
    ours = user(replace(sending, limits=Limits(failure)))
    ask(ours, envelope, FAR)
    with pytest.raises(TemporaryFailure):
        finish(ours.begin(envelope))
    finish(user(replace(sending, limits=Limits("too much"))).begin(envelope))
    assert envelope.held == envelope.message(0, 0).held == "too much"


def test_what_is_not_committed_is_given_back_once(sending, envelope, store):
    limits = Limits()
    ours = user(replace(sending, limits=limits))
    ask(ours, envelope, FAR)
    delivery = finish(ours.begin(envelope))
    delivery.abort()
    delivery.abort()
    assert limits.given_back == [1]
    delivery = finish(ours.begin(envelope))
    finish(delivery.write(b"Subject: x\r\n\r\n"))
    finish(delivery.commit())
    delivery.abort()
    assert limits.given_back == [1]

    async def begin(envelope):
        raise TemporaryFailure("the queue is full")

    store.begin = begin
    with pytest.raises(TemporaryFailure):
        finish(ours.begin(envelope))
    assert limits.given_back == [1, 1]


# -- sessions -----------------------------------------------------------------------------


@pytest.fixture
def open_office(memory_office):
    """An office with a way out, and aliases that lead there; for clients over SMTP and LMTP."""
    office = memory_office
    router = Router([Rule(Direct())])
    office.reception_context = replace(office.reception_context, router=router)
    office.serve()
    office.smtp.portal.realm = office.pop3.portal.realm
    for name, to in (("far", [FAR]), ("mixed", [JOE, FAR])):
        finish(office.directory.add_alias(Alias(f"{name}@example.net", targets(*to))))
    return office


def waiting(office):
    queue = office.store.queue
    return [
        ([one.shown for one in message.recipients], message.eight_bit)
        for message in finish(queue.read(finish(queue.names())))
    ]


def test_a_message_for_here_and_elsewhere_is_one(open_office):
    client = open_office.client("smtp")
    client.say(b"EHLO pc\r\nMAIL FROM:<a@example.org> BODY=8BITMIME\r\n")
    client.say(b"RCPT TO:<mixed@example.net>\r\nDATA\r\n")
    with capturedLogs() as logged:
        assert client.say(b"Subject: x\r\n\r\nhi\r\n.\r\n").startswith(b"250 2.0.0 Taken")
    assert waiting(open_office) == [(["mixed@example.net"], True)]
    assert finish(open_office.store.count(JOE))[0] == 1
    (taken,) = [one for one in logged if one.get("event") == "message-taken"]
    assert (taken["recipients"], taken["to"]) == (2, "<mixed@example.net>")


@pytest.mark.parametrize("full", [False, True])
def test_over_lmtp_the_queue_has_an_outcome_of_its_own(open_office, full):
    profile = ServiceProfile(lmtp=True)
    open_office.lmtp = SMTPFactory(
        open_office.smtp.portal,
        hostname="mail.example.net",
        limits=SMTPLimits(),
        clock=open_office.clock,
        profile=profile,
    )
    if full:
        finish(open_office.directory.set_quota(JOE, Quota(octets=10)))
    client = open_office.client("lmtp")
    client.say(b"LHLO pc\r\nMAIL FROM:<a@example.org>\r\n")
    for name in ("far", "mixed", "joe", "ann"):
        assert client.say(b"RCPT TO:<%s@example.net>\r\n" % name.encode()).startswith(b"250")
    client.say(b"DATA\r\n")
    said = client.say(b"Subject: x\r\n\r\nhi\r\n.\r\n").splitlines()
    assert [line[:3] for line in said] == [b"250", b"250", b"552" if full else b"250", b"250"]
    assert waiting(open_office) == [(["far@example.net"], False)]


def test_one_account_does_not_fill_the_queue_for_all(sending, directory, envelope):
    limits = SendingLimits("state", ImmediateExecutor(), Clock())
    limits.shares.limit(4, 0, 25)
    limits.shares.load([(JOE, 1, 1)])
    context = replace(sending, limits=limits)
    joe = context.submission(SessionInfo("id", "submission", None), Account(JOE, JOE))
    ann = context.submission(SessionInfo("id", "submission", None), Account(ANN, ANN))
    assert ask(joe, envelope, FAR) == reply.SHARE_FULL
    assert ask(joe, envelope, JOE) == reply.RECIPIENT_OK, "mail for us is not concerned"
    assert ask(ann, envelope, FAR) == reply.RECIPIENT_OK
    limits.shares.load([(ANN, 1, 1)])
    stranger = context.reception(SessionInfo("id", "smtp", None))
    assert ask(stranger, envelope, ANN) == reply.SHARE_FULL, "she forwards"


class Marks(PolicyBase):
    """Marks all mail as spam."""

    def __init__(self, stage, field=b"X-Spam-Flag: YES\r\n"):
        self.stages = (stage,)
        self._field = field

    async def recipient(self, envelope, recipient):
        return Fields(self._field)

    async def text(self, envelope, text):
        return Fields(self._field)


def marking(context, stage, **how):
    asked = ChainedPolicy(Marks(stage, **how), "marks", frozenset(["smtp", "submission"]))
    chain = PolicyChain([asked], Clock())
    return replace(context, policies=chain, forward_spam=False)


def judged(reception, envelope):
    """The message with its text: what is said of it, and what is committed."""
    delivery = finish(reception.begin(envelope))
    finish(delivery.write(b"Subject: x\r\n\r\nHi\r\n"))
    refusal = finish(reception.judge(envelope, delivery))
    if refusal is None:
        finish(delivery.commit())
    return refusal


@pytest.mark.parametrize("stage", ["recipient", "text"])
@pytest.mark.parametrize("field", [b"X-DNSBL: list.example\r\n", b"a: b\r\nX-Spam: Yes, 9\r\n"])
def test_marked_mail_stays_here(sending, envelope, store, stage, field):
    envelope.sender = Address.parse("stranger@elsewhere.example")
    stranger = marking(sending, stage, field=field).reception(SessionInfo("id", "smtp", None))
    with capturedLogs() as logged:
        assert ask(stranger, envelope, ANN) == reply.RECIPIENT_OK
        assert judged(stranger, envelope) is None
    assert len(finish(store.queue.names())) == 0
    assert len(finish(store.maildrop(ANN).open()).entries) == 1
    [told] = [one for one in logged if one.get("event") == "target-refused"]
    assert (told["user"], told["why"]) == (FAR, "marked as spam, not forwarded")


def test_marked_mail_that_would_only_go_on_is_refused(sending, envelope, store):
    envelope.sender = Address.parse("stranger@elsewhere.example")
    stranger = marking(sending, "recipient").reception(SessionInfo("id", "smtp", None))
    assert ask(stranger, envelope, "far@example.net") == reply.SPAM_STAYS
    assert ask(stranger, envelope, "mixed@example.net") == reply.RECIPIENT_OK
    assert not envelope.queued


def test_nobody_misses_a_message_that_is_marked_late(sending, envelope, store):
    envelope.sender = Address.parse("stranger@elsewhere.example")
    stranger = marking(sending, "text").reception(SessionInfo("id", "smtp", None))
    assert ask(stranger, envelope, "far@example.net") == reply.RECIPIENT_OK
    assert ask(stranger, envelope, ANN) == reply.RECIPIENT_OK
    assert judged(stranger, envelope) == reply.SPAM_STAYS


def test_marked_mail_leaves_where_it_may(sending, envelope, store):
    """Our users' own, bounces, what is not marked as spam, and where the setting says so."""
    envelope.sender = Address.parse("stranger@elsewhere.example")
    info = SessionInfo("id", "smtp", None)
    contexts = [
        replace(marking(sending, "text"), forward_spam=True),
        marking(sending, "text", field=b"X-Spam-Flag: NO\r\n"),
    ]
    for number, context in enumerate(contexts, 1):
        stranger, one = context.reception(info), deepcopy(envelope)
        assert ask(stranger, one, "far@example.net") == reply.RECIPIENT_OK
        assert judged(stranger, one) is None
        assert len(finish(store.queue.names())) == number
    ours = user(marking(sending, "text"))
    assert ask(ours, envelope, FAR) == reply.RECIPIENT_OK
    assert judged(ours, envelope) is None
    assert len(finish(store.queue.names())) == 3
