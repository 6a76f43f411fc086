"""
SMTP smuggling: one message that another server would take for two.

Whatever looks like the end of a text and is none is refused with the text, or
is part of it; what stands behind it is never obeyed.
"""

from __future__ import annotations

import pytest

#: Each holds a CR or LF that stands alone, so that some server somewhere ends a text with it.
BARE = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\r.\n",
    b"\n.\r",
    b"\n\n.\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\r.\r\n",
    b"\n\r.\n\r",
    b"\r\n.\n\r\n",
    b"\r\n..\n",
    b"\r\0\n.\r\0\n",
    b"\r\n\0.\n",
    b"\r\n.\r\0\n",
    b"\0\n.\n",
    b"\n\0.\0\n",
]
#: These have none, and are as good a text as any other.
STRANGE = [
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\0.\r\n",
    b"\r\n .\r\n",
    b"\r\n. \r\n",
    b"\r\n.\x0b\r\n",
    b"\x0b.\x0b",
    b"\x85.\x85",
    b"\xe2\x80\xa8.\xe2\x80\xa8",
    b"\r\n\xe2\x80\xa4\r\n",
    b"\r\n\xae\r\n",
    b"\r\n\\.\r\n",
    b"\r\n=2E\r\n",
]
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


def told(text: bytes) -> bytes:
    """A text as it stands in a maildrop: its dots undone."""
    return text.replace(b"\r\n.", b"\r\n")


@pytest.mark.parametrize("outer", [b"Subject: outer\r\n\r\nouter", b""], ids=["inside", "at once"])
@pytest.mark.parametrize("end", BARE, ids=repr)
def test_a_text_with_a_false_end_is_refused_whole(
    office, client, account, victim, smuggled, end, outer
):
    assert client.ask(b"DATA").startswith(b"354 ")
    client.say(outer + end + smuggled + b".\r\n")
    assert replies(client) == [b"550 5.6.11"]
    assert office.collect(account) == office.collect(victim) == []


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


def test_a_true_end_behind_a_bare_cr_is_one_and_the_text_is_refused(office, client, account):
    """CR CRLF . CRLF: to read on would be as wrong as to take the CR away."""
    assert client.ask(b"DATA").startswith(b"354 ")
    client.say(b"Subject: outer\r\n\r\nouter\r\r\n.\r\nNOOP\r\n")
    assert replies(client) == [b"550 5.6.11", b"250 2.0.0 "]
    assert office.collect(account) == []


@pytest.mark.parametrize("end", STRANGE, ids=repr)
def test_what_only_looks_like_an_end_is_part_of_the_text(
    office, client, account, victim, smuggled, end
):
    assert client.ask(b"DATA").startswith(b"354 ")
    text = b"Subject: outer\r\n\r\nouter" + end + smuggled
    client.say(text + b".\r\n")
    assert replies(client) == [b"250 2.0.0 "]
    (message,) = office.collect(account)
    assert message.endswith(told(text))
    assert office.collect(victim) == []


@pytest.mark.parametrize("end", BARE, ids=repr)
def test_a_chunk_with_a_false_end_is_refused_whole(office, client, account, victim, smuggled, end):
    text = b"Subject: outer\r\n\r\nouter" + end + smuggled + b".\r\n"
    client.say(b"BDAT %d LAST\r\n" % len(text) + text)
    assert replies(client) == [b"550 5.6.11"]
    assert office.collect(account) == office.collect(victim) == []


@pytest.mark.parametrize("end", BARE, ids=repr)
def test_a_false_end_across_chunks_is_refused(office, client, account, victim, smuggled, end):
    """One chunk ends with each octet of it."""
    chunks = [b"Subject: outer\r\n\r\nouter", *(bytes([octet]) for octet in end)]
    client.say(b"".join(b"BDAT %d\r\n%s" % (len(chunk), chunk) for chunk in chunks))
    client.say(b"BDAT %d LAST\r\n" % len(smuggled) + smuggled)
    *before, last = replies(client)
    assert len(before) == len(chunks)
    assert last.startswith(b"5")
    assert b"550 5.6.11" in (*before, last)
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
