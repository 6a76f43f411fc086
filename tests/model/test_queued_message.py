"""A queued message stands at the end of its file, and can be read there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postoffice.model.address import Account, Address
from postoffice.model.envelope import Client, DeliveryStatus, Envelope, Notify
from postoffice.model.queued_message import FOOTER, NotQueued, QueuedMessage, QueuedRecipient

WORDS = st.text('ab@<> "\\\n\u00e9\u2028', max_size=20)
RECIPIENTS = st.builds(
    QueuedRecipient,
    address=WORDS.map("a".__add__),
    original=WORDS,
    forwarder=WORDS,
    notify=WORDS,
    orcpt=WORDS,
)
MESSAGES = st.builds(
    QueuedMessage,
    id=WORDS,
    sender=WORDS,
    recipients=st.lists(RECIPIENTS, max_size=4).map(tuple),
    came=st.floats(0, 1e10),
    size=st.integers(0, 1 << 40),
    hole=st.tuples(st.integers(0, 100), st.integers(0, 100)),
    login=WORDS,
    held=WORDS,
    utf8=st.booleans(),
    eight_bit=st.booleans(),
    requiretls=st.booleans(),
)


@given(MESSAGES, st.binary(max_size=50))
def test_what_is_written_is_read(message, text):
    file = text + message.encode()
    size = QueuedMessage.footer(file[-FOOTER:])
    assert file[: len(file) - size] == text
    assert QueuedMessage.decode(file[-size:]) == message


@given(st.binary(max_size=200))
def test_other_octets_are_no_message(octets):
    with pytest.raises(NotQueued):
        QueuedMessage.decode(octets)


@given(MESSAGES, st.data())
def test_a_piece_of_a_message_is_none(message, data):
    octets = message.encode()
    piece = octets[: data.draw(st.integers(0, len(octets) - 1))]
    with pytest.raises(NotQueued):
        QueuedMessage.decode(piece)


def test_marks_only_grow():
    one = QueuedMessage(
        id="1",
        sender="",
        came=0.0,
        recipients=tuple(QueuedRecipient(address=f"{n}@there.example") for n in range(3)),
    )
    marked = one.with_marks({1}, {0}).with_marks({2}, ())
    assert marked.left == [0]
    assert marked.told == {0}


def envelope() -> Envelope:
    return Envelope("id1", Client("192.0.2.1"), sender=Address("ann", "here.example"))


def test_a_mixed_message_names_accounts_and_the_queue():
    one = envelope()
    bob = Address("bob", "here.example")
    eve = QueuedRecipient(address="eve@there.example", original=str(bob))
    one.add_recipients(bob, [Account("bob@here.example", "bob@here.example")], [eve])
    one.add_recipients(
        Address("eve", "there.example"), [], [QueuedRecipient(address="eve@there.example")]
    )
    assert one.named == [(0, -1), (-1,)]
    assert one.queued == [eve]


def test_what_was_said_about_sending_on_goes_with_it():
    one = replace(envelope(), status=DeliveryStatus("HDRS", "a+20b"), eight_bit=True)
    eve = QueuedRecipient(address="eve@there.example")
    bob = QueuedRecipient(address="bob@there.example")
    one.add_recipients(
        Address("eve", "there.example"), [], [eve], Notify("DELAY", "rfc822;e@x.example")
    )
    one.add_recipients(Address("bob", "there.example"), [], [bob])
    message = one.message(12.0, 1000)
    assert (message.ret, message.envid) == ("HDRS", "a+20b")
    assert (message.eight_bit, message.requiretls) == (True, False)
    assert replace(one, requiretls=True).message(12.0, 1000).requiretls
    assert message.recipients == (
        replace(eve, notify="DELAY", orcpt="rfc822;e@x.example"),
        bob,
    )


def test_the_hole_is_the_return_path():
    one = envelope()
    one.add_recipients(
        Address("eve", "there.example"), [], [QueuedRecipient(address="eve@there.example")]
    )
    message = one.message(12.0, 1000, before=7)
    assert message.hole == (7, len(b"Return-Path: <ann@here.example>\r\n"))
    assert message.octets == 1000 - message.hole[1]
