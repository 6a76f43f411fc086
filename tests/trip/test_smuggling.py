"""
SMTP smuggling: one message that another server would take for two.

Whatever looks like the end of a text and is none is refused with the text, or
is part of it; what stands behind it is never obeyed.
"""

from __future__ import annotations

import pytest

#: With a CR or LF that stands alone some server somewhere ends a text; all are in tests/smtp.
BARE = [b"\n.\n", b"\n.\r\n", b"\r\n.\r", b"\r\n\r.\r\n", b"\r\n.\r\0\n"]
#: These have none, and are as good a text as any other.
STRANGE = [b"\r\n\0.\r\n", b"\r\n. \r\n", b"\x85.\x85"]
SERVICES = {"smtp": b"EHLO pc", "lmtp": b"LHLO pc"}


@pytest.fixture(params=SERVICES)
def client(request, raw, office):
    """Somebody who says what a server that sent him would have taken for one message."""
    with raw(office.ports[request.param]) as client:
        client.reply()
        client.ask(SERVICES[request.param])
        yield client


@pytest.fixture(scope="module")
def victim(office):
    return office.new_account()


@pytest.fixture(scope="module")
def joe(office):
    return office.new_account()


@pytest.fixture
def smuggled(victim) -> bytes:
    """A message of its own, to whoever takes it for one."""
    to = victim.address.encode()
    return (
        b"MAIL FROM:<postmaster@example.net>\r\nRCPT TO:<%s>\r\nDATA\r\n" % to
        + b"Subject: smuggled\r\n\r\nx\r\n"
    )


@pytest.fixture
def account(joe, client):
    """Who gets the message around it: the envelope is there."""
    assert client.ask(b"MAIL FROM:<a@example.org>").startswith(b"250 ")
    assert client.ask(b"RCPT TO:<%s>" % joe.address.encode()).startswith(b"250 ")
    return joe


def replies(client) -> list[bytes]:
    """The codes of all that is said until the goodbye."""
    client.say(b"QUIT\r\n")
    *before, last = client.rest().splitlines()
    assert last.startswith(b"221 ")
    return [line[:10] for line in before]


@pytest.mark.parametrize("end", [*BARE, *STRANGE], ids=repr)
def test_a_false_end_may_come_octet_by_octet(raw, office, client, account, victim, smuggled, end):
    """Each is read alone: the office has answered another client before the next one is sent."""
    assert client.ask(b"DATA").startswith(b"354 ")
    with raw(office.smtp) as other:
        other.reply()
        for octets in (b"Subject: outer\r\n\r\nouter", *(bytes([octet]) for octet in end)):
            client.say(octets)
            assert other.ask(b"NOOP").startswith(b"250 ")
    client.say(smuggled + b".\r\n")
    assert replies(client) == [b"550 5.6.11" if end in BARE else b"250 2.0.0 "]
    assert len(office.collect(account)) == (end in STRANGE)
    assert office.collect(victim) == []


@pytest.mark.parametrize("end", BARE, ids=repr)
def test_a_chunk_with_a_false_end_is_refused_whole(office, client, account, victim, smuggled, end):
    text = b"Subject: outer\r\n\r\nouter" + end + smuggled + b".\r\n"
    client.say(b"BDAT %d LAST\r\n" % len(text) + text)
    assert replies(client) == [b"550 5.6.11"]
    assert office.collect(account) == office.collect(victim) == []


@pytest.mark.parametrize("end", [b"\r\n.\r\n", *STRANGE], ids=repr)
def test_a_chunk_ends_where_it_said(office, client, account, victim, smuggled, end):
    """The end of DATA among them, which is collected as it came."""
    text = b"Subject: outer\r\n\r\nouter" + end + smuggled
    client.say(b"BDAT %d LAST\r\n" % len(text) + text)
    assert replies(client) == [b"250 2.0.0 "]
    (message,) = office.collect(account)
    assert message.endswith(text)
    assert office.collect(victim) == []
