"""Asking the policies: order, deadlines, failures."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from postoffice.interfaces import Fields
from postoffice.model.errors import TemporaryFailure
from postoffice.model.reply import POLICY_LATER, Reply
from postoffice.policy.chain import ChainedPolicy, PolicyChain
from postoffice.policy.common import PolicyBase
from postoffice.testing import finish

NO = Reply(550, "5.7.1", "No")
LATER = Reply(450, "4.7.1", "Later")


class Says(PolicyBase):
    """Says the same at every stage, and counts how often."""

    stages = ("connect", "hello", "sender", "recipient", "text")

    def __init__(self, opinion=None):
        self.opinion = opinion
        self.asked = 0

    async def _say(self, *_):
        self.asked += 1
        if isinstance(self.opinion, Exception):
            raise self.opinion
        if isinstance(self.opinion, Deferred):
            return await self.opinion
        return self.opinion

    connect = hello = sender = recipient = _say

    async def text(self, envelope, text):
        self.read = await text.read()
        return await self._say()


class Text:
    """A text in one piece."""

    def __init__(self):
        self.closed = False

    async def read(self):
        return b"Subject: x\r\n\r\n"

    def close(self):
        self.closed = True


def policies(*says, clock=None, **how):
    asked = [
        ChainedPolicy(one, f"policy {n}", frozenset({"smtp"}), **how) for n, one in enumerate(says)
    ]
    return PolicyChain(asked, clock or Clock())


def test_nobody_objects(session_info, envelope, recipient):
    found = policies(Says(), Says())
    assert finish(found.connect(session_info())) is None
    assert finish(found.hello(session_info())) is None
    assert finish(found.sender(envelope())) is None
    assert finish(found.recipient(envelope(), recipient())) is None


def test_the_first_refusal_ends_the_question(envelope):
    first, second = Says(LATER), Says(NO)
    assert finish(policies(first, second).sender(envelope())) == LATER
    assert (first.asked, second.asked) == (1, 0)


def test_only_where_and_when_it_wants_to_be_asked(session_info, envelope):
    policy = Says(NO)
    policy.stages = ("sender",)
    found = policies(policy)
    assert finish(found.connect(session_info())) is None
    assert found.asks("sender", "smtp")
    assert not found.asks("sender", "lmtp")
    assert not found.asks("connect", "smtp")
    assert not PolicyChain().asks("sender", "smtp")


def test_fields_are_for_the_session_or_for_the_message(session_info, envelope):
    field = b"X-Seen: yes\r\n\tand well\r\n"
    found = policies(Says(Fields(field)), Says(Fields(b"X: \xc3\xa4\r\n")))
    here, message = session_info(), envelope()
    assert finish(found.connect(here)) is None
    assert finish(found.sender(message)) is None
    assert here.fields == message.fields == [field, b"X: \xc3\xa4\r\n"]


def test_the_text_is_opened_for_each_and_closed(envelope):
    texts = []

    async def open_text():
        texts.append(Text())
        return texts[-1]

    found = policies(Says(Fields(b"X: 1\r\n")), Says(Fields(b"Y: 2\r\n")))
    assert finish(found.text(envelope(), open_text)) == (None, b"X: 1\r\nY: 2\r\n")
    assert [text.closed for text in texts] == [True, True]
    assert finish(policies(Says(NO)).text(envelope(), open_text))[0] == NO


@pytest.mark.parametrize(
    "wrong",
    [
        b"no field\r\n",
        b"X: 1",
        b"X: 1\n",
        b"X: 1\r\n\r\nbody",
        b" folded: first\r\n",
        b"X: \xff\r\n",
        b"X: \0\r\n",
        b"X: " + b"x" * 70_000 + b"\r\n",
    ],
)
def test_what_is_no_field_is_the_policys_failure(wrong, envelope, failures):
    message = envelope()
    assert finish(policies(Says(Fields(wrong))).sender(message)) is None
    assert message.fields == []
    assert len(failures) == 1
    failures.clear()


@pytest.mark.parametrize(
    ("wrong", "logged"),
    [
        (TemporaryFailure("no answer"), 0),
        (ZeroDivisionError(), 1),
        (Reply(250, "2.0.0", "Yes"), 1),
        (Reply(600, "5.0.0", "No"), 1),
        ("never", 1),
    ],
)
@pytest.mark.parametrize(("how", "said"), [("accept", None), ("defer", POLICY_LATER)])
def test_what_happens_where_it_fails_is_a_setting(wrong, logged, how, said, envelope, failures):
    found = policies(Says(wrong), on_failure=how)
    assert finish(found.sender(envelope())) == said
    assert len(failures) == logged
    failures.clear()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (Reply(554, "5.3.2", "No"), "5.3.2"),
        (Reply(554, "", "No"), "5.7.1"),
        (Reply(451, "", "Not now"), "4.7.1"),
        (Reply(550, "4.7.1", "No"), "5.7.1"),
        (Reply(550, "5.7.1 see", "No"), "5.7.1"),
    ],
)
def test_a_refusal_has_a_status_of_its_class(said, told, envelope):
    refusal = finish(policies(Says(said)).sender(envelope()))
    assert refusal == Reply(said.code, told, said.text)


@pytest.mark.parametrize(("how", "said"), [("accept", None), ("defer", POLICY_LATER)])
def test_a_policy_without_an_answer_in_time_has_failed(how, said, envelope, logged):
    clock, cancelled = Clock(), []
    silent = Says(Deferred(cancelled.append))
    asked = Deferred.fromCoroutine(
        policies(silent, clock=clock, timeout=5, on_failure=how).sender(envelope())
    )
    clock.advance(4.9)
    assert not asked.called
    clock.advance(0.1)
    assert asked.result == said
    assert cancelled
    assert clock.getDelayedCalls() == []
    assert logged[0].startswith("policy-failed ")
    assert logged[0].endswith(' why="no answer within 5 s"')


def test_a_client_that_goes_cancels_the_question(envelope):
    clock, cancelled = Clock(), []
    asked = Deferred.fromCoroutine(
        policies(Says(Deferred(cancelled.append)), clock=clock).sender(envelope())
    )
    asked.cancel()
    assert cancelled
    asked.addErrback(lambda failure: failure.trap(CancelledError))
    assert asked.called
    assert clock.getDelayedCalls() == []
