"""SMTP on a transport: the delivery, logins, and what a lost link costs."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace

import pytest
from twisted.internet.defer import Deferred

from postoffice.model.envelope import DeliveryStatus, Notify
from postoffice.model.errors import NoSpace, TemporaryFailure
from postoffice.protocol.scram import derive
from postoffice.server.listener_options import ListenerOptions
from postoffice.server.smtp_service import ServiceProfile
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


@pytest.mark.parametrize("lmtp", [False, True])
def test_what_is_said_about_sending_on_stands_in_the_envelope(memory_office, monkeypatch, lmtp):
    memory_office.smtp.profile = ServiceProfile(lmtp=lmtp, dsn=True)
    begun = []

    async def begin(envelope):
        begun.append(envelope)
        return Delivery()

    monkeypatch.setattr(memory_office.store, "begin", begin)
    client = memory_office.client("smtp")
    client.say(b"LHLO pc\r\n" if lmtp else b"EHLO pc\r\n")
    client.say(
        b"MAIL FROM:<a@example.org> RET=FULL ENVID=x BODY=8BITMIME\r\n"
        b"RCPT TO:<joe@example.net> NOTIFY=NEVER ORCPT=rfc822;j@example.com\r\n"
        b"RCPT TO:<ann@example.net>\r\nDATA\r\n"
    )
    [one] = begun
    assert one.status == DeliveryStatus("FULL", "x")
    assert (one.eight_bit, one.requiretls) == (True, False)
    never = Notify("NEVER", "rfc822;j@example.com")
    assert [recipient.notify for recipient in one.recipients] == [never, None]


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


def test_what_a_client_sends_stays_on_its_line_of_the_log(client, logged):
    client.say(b'EHLO pc\r\nMAIL FROM:<"a\\\x7f\x1b[2Jb"@example.org>\r\n')
    client.say(b'MAIL FROM:<"a\\"b c"@example.org>\r\nRCPT TO:<joe@example.net>\r\nDATA\r\n')
    client.say(TEXT)
    client.leave()
    [taken] = [line for line in logged if line.startswith("message-taken ")]
    assert ' client=127.0.0.1 sender="<\\"a\\\\\\"b c\\"@example.org>" ' in taken
    assert all(line.isprintable() for line in logged)


# -- the pace of a text -----------------------------------------------------------------


def test_a_text_that_comes_too_slowly_ends_the_session(client, memory_office):
    pace = memory_office.smtp.limits.pace
    client.say(HEAD)
    for _ in range(299):
        memory_office.clock.advance(1)
        client.say(b"x" * (pace // 300 - 1))
    assert client.hear() == b""
    memory_office.clock.advance(1)
    assert client.hear().startswith(b"421 4.4.2 ")
    assert client.transport.disconnecting


def test_a_text_that_keeps_its_pace_may_take_hours(client, memory_office):
    client.say(HEAD)
    for _ in range(36):
        for _ in range(10):
            memory_office.clock.advance(29)
            client.say((b"x" * 98 + b"\r\n") * 30)
    assert not client.transport.disconnecting
    assert client.say(b".\r\n").startswith(b"250 2.0.0 Taken")


# -- logging in -------------------------------------------------------------------------
PLAIN = b"AUTH PLAIN " + b64encode(b"\0joe@example.net\0secret word") + b"\r\n"
WRONG = b"AUTH PLAIN " + b64encode(b"\0joe@example.net\0wrong") + b"\r\n"
HELLO = b"EHLO pc.example.org\r\n"


@pytest.fixture
def submission(memory_office):
    """The counter takes mail from our own users only."""
    factory = memory_office.smtp
    factory.profile = ServiceProfile(submission=True, mechanisms=("SCRAM-SHA-256", "PLAIN"))
    factory.listener_options = ListenerOptions("submission")
    [checker] = set(factory.portal.checkers.values())
    factory.salts = checker.salt
    return memory_office


def test_a_login_may_submit_mail(submission, logged):
    client = submission.client("smtp")
    client.say(HELLO)
    assert client.say(b"MAIL FROM:<joe@example.net>\r\n") == b"530 5.7.0 Log in first\r\n"
    assert client.say(PLAIN) == b"235 2.7.0 Welcome\r\n"
    said = client.say(HEAD.replace(b"a@example.org", b"joe@example.net") + TEXT)
    assert said.splitlines()[-1].startswith(b"250 2.0.0 Taken")
    [text] = submission.store.drop("joe@example.net").texts.values()
    assert b" with ESMTPA id " in text
    assert b"\r\nMessage-ID: <" in text
    assert any(line.startswith("login ") and " account=joe@example.net " in line for line in logged)


def test_a_login_that_failed_gives_nothing_and_is_logged(submission, logged):
    client = submission.client("smtp", "127.0.0.1")
    client.say(HELLO)
    assert client.say(WRONG).startswith(b"535 5.7.8 ")
    assert client.say(b"MAIL FROM:<joe@example.net>\r\n").startswith(b"530 5.7.0 ")
    [line] = [line for line in logged if line.startswith("login-refused ")]
    assert line.endswith(" client=127.0.0.1 mechanism=PLAIN user=joe@example.net")
    assert client.say(PLAIN).startswith(b"235 ")


@pytest.mark.parametrize(
    ("allowed", "address", "taken"),
    [
        ("loopback", "127.0.0.1", True),
        ("loopback", "::1", True),
        ("loopback", "192.0.2.1", False),
        ("always", "192.0.2.1", True),
        ("never", "127.0.0.1", False),
    ],
)
def test_where_passwords_are_taken_in_clear(submission, allowed, address, taken):
    submission.smtp.profile = replace(submission.smtp.profile, plaintext_login=allowed)
    client = submission.client("smtp", address)
    assert (b"AUTH" in client.say(HELLO)) == taken
    assert client.say(PLAIN).startswith(b"235 " if taken else b"538 ")


def test_a_salt_is_that_of_the_account_and_nobody_learns_who_has_none(submission):
    keys = derive(b"secret word", b"salt of joe's", 4096)
    secret = finish(submission.directory.find("joe@example.net")).secret
    finish(submission.directory.keep_scram("joe@example.net", secret, str(keys)))

    def told(user: bytes) -> list[bytes]:
        client = submission.client("smtp")
        client.say(HELLO)
        first = b64encode(b"n,,n=" + user + b",r=nonce")
        said = client.say(b"AUTH SCRAM-SHA-256 " + first + b"\r\n")
        assert said.startswith(b"334 ")
        return b64decode(said[4:]).split(b",")[1:]

    assert told(b"joe@example.net") == [b"s=" + b64encode(b"salt of joe's"), b"i=4096"]
    assert told(b"nobody@example.net") == told(b"nobody@example.net") != told(b"noone@example.net")


# -- LMTP -------------------------------------------------------------------------------


class EachDelivery(Delivery):
    """A delivery that has an outcome for each recipient."""

    def __init__(self, *outcomes):
        super().__init__()
        self.outcomes = list(outcomes)

    async def commit_each(self):
        return self.outcomes


@pytest.fixture
def lmtp(memory_office, monkeypatch):
    """A client of LMTP whose message is delivered with these outcomes."""
    memory_office.smtp.profile = ServiceProfile(lmtp=True)
    memory_office.smtp.listener_options = ListenerOptions("lmtp")

    def lmtp(*outcomes):
        delivery = EachDelivery(*outcomes)

        async def begin(envelope):
            return delivery

        monkeypatch.setattr(memory_office.store, "begin", begin)
        client = memory_office.client("smtp")
        assert client.say(b"LHLO front\r\n").startswith(b"220 mail.example.net LMTP ")
        return client

    return lmtp


def envelope(*names: bytes) -> bytes:
    named = b"".join(b"RCPT TO:<%s@example.net>\r\n" % name for name in names)
    return b"MAIL FROM:<a@example.org>\r\n" + named + b"DATA\r\n"


def test_each_recipient_has_its_own_answer(lmtp, logged, failures):
    client = lmtp(None, NoSpace("/secret is full"), OSError("/secret"))
    said = client.say(envelope(b"joe", b"nobody", b"ann", b"postmaster") + TEXT).splitlines()
    first, second, third = said[-3:]
    assert [line[:4] for line in said[:-3]] == [
        b"250 ",
        b"250 ",
        b"550 ",
        b"250 ",
        b"250 ",
        b"354 ",
    ]
    assert first.startswith(b"250 2.0.0 Taken, ")
    assert second.startswith(b"452 4.3.1 ")
    assert third.startswith(b"451 4.3.0 A fault of ours; ")
    assert b"secret" not in second + third
    assert [failure.type for failure in failures] == [OSError]
    failures.clear()
    [line] = [line for line in logged if line.startswith("message-taken ")]
    assert " to=<joe@example.net> " in line


def test_a_recipient_named_twice_has_two_replies(lmtp):
    client = lmtp(NoSpace(), None)
    said = client.say(envelope(b"joe", b"ann", b"JOE", b"ann") + TEXT).splitlines()
    assert [line[:3] for line in said[-4:]] == [b"452", b"250", b"452", b"250"]


def test_where_nobody_has_it_all_are_told_and_nothing_is_taken(lmtp, logged):
    client = lmtp(NoSpace(), TemporaryFailure())
    said = client.say(envelope(b"joe", b"ann") + TEXT).splitlines()
    assert [line[:9] for line in said[-2:]] == [b"452 4.3.1", b"451 4.3.0"]
    assert not any(line.startswith("message-taken") for line in logged)
    assert client.say(b"NOOP\r\n").startswith(b"250 ")


def test_a_fault_of_all_is_told_to_each(lmtp, failures):
    client = lmtp()
    client.connection._commit_each = None  # a bug of ours
    said = client.say(envelope(b"joe", b"ann") + TEXT).splitlines()
    assert [line[:9] for line in said[-2:]] == [b"451 4.3.0"] * 2
    assert len(failures) == 1
    failures.clear()
