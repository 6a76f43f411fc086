"""Policies on an SMTP transport: their fields, their refusals, and XCLIENT."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from postoffice.interfaces import Fields
from postoffice.model.reply import Reply
from postoffice.policy.chain import STAGES, ChainedPolicy, PolicyChain
from postoffice.policy.common import PolicyBase
from postoffice.server.connection_limits import ConnectionLimits
from postoffice.server.listener_options import ListenerOptions
from postoffice.server.smtp_service import ServiceProfile
from postoffice.testing import finish

HEAD = b"EHLO pc.example.org\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<joe@example.net>\r\nDATA\r\n"
TEXT = b"Subject: x\r\n\r\nhello\r\n.\r\n"


@pytest.fixture
def client(memory_office):
    client = memory_office.client("smtp")
    client.hear()
    return client


HELLO = b"EHLO pc.example.org\r\n"


def envelope(*names: bytes) -> bytes:
    named = b"".join(b"RCPT TO:<%s@example.net>\r\n" % name for name in names)
    return b"MAIL FROM:<a@example.org>\r\n" + named + b"DATA\r\n"


# -- policies ---------------------------------------------------------------------------


@pytest.fixture
def judged(memory_office):
    """The counter asks these policies."""

    def judged(*policies):
        office = memory_office
        asked = [
            ChainedPolicy(policy, str(n), frozenset({"smtp"})) for n, policy in enumerate(policies)
        ]
        office.reception_context = replace(
            office.reception_context, policies=PolicyChain(asked, office.clock)
        )
        office.smtp.portal.realm._receptions = office.reception_context
        office.smtp.profile = ServiceProfile(judged=frozenset(STAGES))
        return office

    return judged


class Notes(PolicyBase):
    """Says of each stage that it was there; at the text, what it saw of it."""

    stages = STAGES

    def __init__(self, name: bytes = b"X", refusing: str = "") -> None:
        self.name = name
        self.refusing = refusing

    def note(self, stage: str):
        if stage == self.refusing:
            return Reply(550, "5.7.1", "No")
        return Fields(self.name + b"-" + stage.title().encode() + b": yes\r\n")

    async def connect(self, session_info):
        return self.note("connect")

    async def hello(self, session_info):
        return self.note("hello")

    async def sender(self, envelope):
        return self.note("sender")

    async def recipient(self, envelope, recipient):
        return self.note("recipient")

    async def text(self, envelope, text):
        assert (await text.read()).startswith(b"Return-Path: <a@example.org>\r\nReceived: ")
        return self.note("text")


def fields_of(text: bytes) -> list[bytes]:
    header = text.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return [line.partition(b":")[0] for line in header if not line.startswith(b"\t")]


def test_fields_of_policies_stand_over_the_message_in_the_order_of_the_stages(judged):
    office = judged(Notes(b"X"), Notes(b"Y"))
    client = office.client("smtp")
    assert client.say(HEAD + TEXT).splitlines()[-1].startswith(b"250 2.0.0 Taken")
    [text] = office.store.drop("joe@example.net").texts.values()
    assert fields_of(text) == [
        *(b"X-Text", b"Y-Text", b"Return-Path", b"Received"),
        *(b"X-Connect", b"Y-Connect", b"X-Hello", b"Y-Hello"),
        *(b"X-Sender", b"Y-Sender", b"X-Recipient", b"Y-Recipient", b"Subject"),
    ]


def test_each_message_has_the_fields_of_its_session_and_its_own_once(judged):
    office = judged(Notes())
    client = office.client("smtp")
    client.say(HEAD + TEXT)
    client.say(b"RSET\r\n" + HEAD + TEXT)
    first, second = office.store.drop("joe@example.net").texts.values()
    assert fields_of(first) == fields_of(second)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("connect", [b"550"]),
        ("hello", [b"220", b"550", b"503", b"503", b"503"]),
        ("sender", [b"220", b"250", b"550", b"503", b"503"]),
        ("recipient", [b"220", b"250", b"250", b"550", b"554"]),
        ("text", [b"220", b"250", b"250", b"250", b"354", b"550"]),
    ],
)
def test_a_refusal_is_heard_where_it_is_said_and_nothing_is_taken(judged, stage, said):
    office = judged(Notes(refusing=stage))
    client = office.client("smtp")
    heard = client.hear()
    for line in HEAD.splitlines(keepends=True):
        heard += client.say(line)
    if heard.endswith(b"dot\r\n"):
        heard += client.say(TEXT)
    codes = [line[:3] for line in heard.splitlines() if line[3:4] == b" "]
    assert codes == said
    assert finish(office.store.count("joe@example.net"))[0] == 0
    assert client.transport.disconnecting == (stage == "connect")


# -- relays in front --------------------------------------------------------------------


def test_a_relay_is_counted_as_itself_for_whomever_it_speaks(memory_office):
    """Its clients have been counted where they came in; all its sessions leave as they came."""
    connection_limits = memory_office.smtp._connection_limits = ConnectionLimits(2, 1)
    memory_office.smtp.listener_options = ListenerOptions(
        "smtp", relays=[ipaddress.ip_network("203.0.113.1")]
    )
    client = memory_office.client("smtp", "203.0.113.1")
    client.say(b"EHLO relay\r\n")
    said = client.say(b"XCLIENT ADDR=192.0.2.1 PORT=5\r\n")
    assert said.startswith(b"220 mail.example.net ")
    assert client.connection.client.address == "192.0.2.1"
    assert not connection_limits.admit("203.0.113.1", "smtp")
    assert connection_limits.admit("192.0.2.1", "smtp")
    client.leave()
    assert connection_limits.admit("203.0.113.1", "smtp")


def test_nobody_else_speaks_for_others(client):
    client.say(HELLO)
    assert client.say(b"XCLIENT ADDR=192.0.2.1\r\n") == b"550 5.7.0 Not from you\r\n"
    assert client.connection.client.address == "127.0.0.1"
