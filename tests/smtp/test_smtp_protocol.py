"""SMTP on a transport: the reception, the delivery, and what a lost link costs."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher

from postoffice.errors import NoSpace, TemporaryFailure
from postoffice.testing import finish

HEAD = b"EHLO pc.example.org\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<joe@example.net>\r\nDATA\r\n"
TEXT = b"Subject: x\r\n\r\nhello\r\n.\r\n"


class Delivery:
    """A delivery that waits, fails, and counts."""

    def __init__(self):
        self.text = b""
        self.commits = []
        self.aborted = 0
        self.writing = None

    async def write(self, data):
        self.text += data
        if self.writing is not None:
            await self.writing

    async def commit(self):
        self.commits.append(Deferred())
        await self.commits[-1]

    def abort(self):
        self.aborted += 1


@pytest.fixture
def delivery(memory_office, monkeypatch):
    delivery = Delivery()

    async def begin(envelope):
        return delivery

    monkeypatch.setattr(memory_office.store, "begin", begin)
    return delivery


@pytest.fixture
def client(memory_office):
    client = memory_office.client("smtp")
    client.hear()
    return client


def test_250_comes_when_the_store_has_it_and_not_before(client, delivery):
    said = client.say(HEAD + TEXT)
    assert b"354" not in said, "what is pipelined is answered together"
    assert b"Taken" not in client.hear()
    delivery.commits[0].callback(None)
    assert client.hear().splitlines()[-1].startswith(b"250 2.0.0 Taken, ")


def test_the_reply_and_the_trace_name_the_same_id(client, memory_office):
    said = client.say(HEAD + TEXT)
    taken = said.splitlines()[-1].rpartition(b" ")[2]
    [text] = memory_office.store.drop("joe@example.net").texts.values()
    assert b"ESMTP id " + taken in text
    assert text.endswith(b"\r\nSubject: x\r\n\r\nhello\r\n")


def test_each_message_has_its_own_id_and_trace(client, memory_office):
    client.say(HEAD + TEXT + HEAD[len(b"EHLO pc.example.org\r\n") :] + TEXT)
    texts = list(memory_office.store.drop("joe@example.net").texts.values())
    assert len(texts) == 2
    assert texts[0] != texts[1]


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (TemporaryFailure("sync of /secret failed"), b"451 4.3.0 "),
        (NoSpace("/secret is full"), b"452 4.3.1 "),
        (OSError("/secret"), b"451 4.3.0 A fault of ours; "),
    ],
)
def test_a_commit_that_fails_is_for_later(client, delivery, failure, said, failures):
    client.say(HEAD + TEXT)
    delivery.commits[0].errback(failure)
    output = client.hear().splitlines()[-1]
    assert output.startswith(said)
    assert b"secret" not in output
    assert delivery.aborted == 1
    assert len(failures) == isinstance(failure, OSError)
    failures.clear()
    assert client.say(b"NOOP\r\n") == b"250 2.0.0 OK\r\n"


def test_a_lost_link_aborts_the_delivery(client, delivery):
    client.say(HEAD + TEXT[:10])
    assert not delivery.aborted
    client.leave()
    assert delivery.aborted == 1
    assert not delivery.commits


def test_a_client_that_goes_before_its_answer_may_have_been_served(client, delivery):
    client.say(HEAD + TEXT)
    client.leave()
    assert delivery.aborted == 1
    assert len(delivery.commits) == 1


@pytest.mark.parametrize("end", [b"bare\n\r\n.\r\n", b"QUIT\r\n"])
def test_a_refused_text_aborts_the_delivery_at_once(client, delivery, end):
    client.say(HEAD + b"one\r\n")
    client.say(b"bare\rcr\r\n")
    assert delivery.aborted == 1
    client.say(end)
    assert not delivery.commits


def test_a_slow_disk_slows_the_sender(client, delivery, memory_office):
    client.say(HEAD)
    delivery.writing = Deferred()
    for _ in range(10):
        client.say(b"x" * 998 + b"\r\n")
    client.say((b"x" * 998 + b"\r\n") * 100)
    assert client.transport.producerState == "paused"
    writing, delivery.writing = delivery.writing, None
    writing.callback(None)
    memory_office.clock.advance(0)
    assert client.transport.producerState == "producing"
    client.say(b".\r\n")
    assert delivery.text.endswith(b"\r\n\r\nx" * 0 + b"x" * 998 + b"\r\n")
    assert delivery.text.count(b"x" * 998) == 110


def test_silence_gets_421(client, memory_office):
    client.say(HEAD)
    memory_office.clock.advance(300)
    assert client.hear().startswith(b"421 4.4.2 ")
    assert client.transport.disconnecting


def test_a_closing_office_lets_a_text_come_to_its_end(client, memory_office):
    other = memory_office.client("smtp")
    other.hear()
    client.say(HEAD + b"Subject: x\r\n")
    Deferred.fromCoroutine(memory_office.smtp.close(30))
    assert other.hear().startswith(b"421 4.3.2 ")
    assert client.hear() == b""
    said = client.say(b"\r\nhello\r\n.\r\n").splitlines()
    assert said[0].startswith(b"250 2.0.0 Taken")
    assert said[1].startswith(b"421 4.3.2 ")
    assert finish(memory_office.store.count("joe@example.net"))[0] == 1
    client.leave()
    other.leave()


def test_what_a_client_sends_stays_on_its_line_of_the_log(client):
    lines = []
    globalLogPublisher.addObserver(watch := lambda event: lines.append(formatEvent(event)))
    client.say(b'EHLO pc\r\nMAIL FROM:<"a\\\x7f\x1b[2Jb"@example.org>\r\n')
    client.say(b'MAIL FROM:<"a\\"b c"@example.org>\r\nRCPT TO:<joe@example.net>\r\nDATA\r\n')
    client.say(TEXT)
    client.leave()
    globalLogPublisher.removeObserver(watch)
    assert any(" taken: from 127.0.0.1 <" in line for line in lines)
    assert all(line.isprintable() for line in lines)
