"""What an attack on the receiving counter has found: each was a fault once."""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import formatEvent, globalLogPublisher

from postoffice.interfaces import Fields
from postoffice.model.errors import PermanentFailure
from postoffice.model.reply import Reply
from postoffice.policy.chain import STAGES, ChainedPolicy, PolicyChain
from postoffice.policy.common import PolicyBase
from postoffice.server.listener_options import ListenerOptions
from postoffice.server.smtp_service import ServiceProfile
from postoffice.smtp import grammar

ENVELOPE = b"EHLO pc\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<joe@example.net>\r\n"
MESSAGE = ENVELOPE + b"DATA\r\nhi\r\n.\r\n"
RELAYS = (ipaddress.ip_network("127.0.0.0/8"),)


class Ready:
    """Certificates that are never used."""

    ready = True


@pytest.fixture
def client(memory_office):
    client = memory_office.client("smtp")
    client.hear()
    return client


@pytest.fixture
def judged(memory_office):
    """A client, where this policy is asked."""

    def judged(policy, **how):
        office = memory_office
        asked = ChainedPolicy(policy, "policy", frozenset({"smtp"}), **how)
        office.reception_context = replace(
            office.reception_context, policies=PolicyChain([asked], office.clock)
        )
        office.smtp.portal.realm._receptions = office.reception_context
        office.smtp.profile = ServiceProfile(judged=frozenset(STAGES))
        client = office.client("smtp")
        client.hear()
        return client

    return judged


# -- XCLIENT --------------------------------------------------------------------


@pytest.mark.parametrize("address", ["IPV6:fe80::1%25eth0", "fe80::1%+0D+0AX-Evil:+20yes"])
def test_an_address_of_xclient_has_no_zone(address):
    with pytest.raises(PermanentFailure):
        grammar.xclient(f"ADDR={address}")


def test_what_was_found_of_a_relay_is_not_said_of_its_client(memory_office, judged):
    class Names(PolicyBase):
        stages = ("connect",)

        async def connect(self, session_info):
            return Fields(f"X-Client: {session_info.client.address}\r\n".encode())

    memory_office.smtp.listener_options = ListenerOptions("smtp", relays=RELAYS)
    client = judged(Names())
    client.say(b"EHLO relay\r\nXCLIENT ADDR=192.0.2.7\r\n")
    client.say(MESSAGE)
    [text] = memory_office.store.drop("joe@example.net").texts.values()
    assert text.count(b"X-Client: ") == 1
    assert b"X-Client: 192.0.2.7\r\n" in text


# -- policies -------------------------------------------------------------------


def test_a_policy_that_gives_itself_up_costs_an_answer_and_no_session(judged):
    class GivesUp(PolicyBase):
        stages = ("sender",)

        async def sender(self, envelope):
            raise CancelledError

    client = judged(GivesUp())
    assert client.say(ENVELOPE).splitlines()[-2:] == [
        b"250 2.1.0 Sender OK",
        b"250 2.1.5 Recipient OK",
    ]


@pytest.mark.parametrize(("how", "said"), [("accept", b"250 2.1.0 "), ("defer", b"451 4.7.1 ")])
def test_nobody_waits_for_a_policy_that_does_not_give_up(judged, memory_office, how, said):
    class Stubborn(PolicyBase):
        stages = ("sender",)

        async def sender(self, envelope):
            while True:
                with suppress(Exception):
                    await Deferred()

    client = judged(Stubborn(), timeout=5, on_failure=how)
    client.say(b"EHLO pc\r\nMAIL FROM:<>\r\n")
    memory_office.clock.advance(5)
    assert client.hear().splitlines()[-1].startswith(said)


class NamedRefusal(PermanentFailure):
    """A plugin's, made in a way of its own."""

    def __init__(self, *, name):
        super().__init__(f"{name} may not", Reply(550, "5.7.1", "You may not"))


@pytest.mark.parametrize(
    "failure",
    [PermanentFailure("joe may not", Reply(550, "5.7.1", "You may not")), NamedRefusal(name="joe")],
)
def test_a_store_that_says_never_is_heard_and_logged(memory_office, monkeypatch, client, failure):
    async def begin(envelope):
        raise failure

    monkeypatch.setattr(memory_office.store, "begin", begin)
    client.say(ENVELOPE)
    assert client.say(b"DATA\r\n").startswith(b"550 5.7.1 You may not (")
    assert client.say(b"NOOP\r\n") == b"250 2.0.0 OK\r\n"


def test_a_header_without_end_of_our_own_user_is_refused(memory_office):
    memory_office.smtp.profile = ServiceProfile(submission=True, mechanisms=("PLAIN",))
    client = memory_office.client("smtp")
    client.say(b"EHLO pc\r\nAUTH PLAIN " + b64encode(b"\0joe@example.net\0secret word") + b"\r\n")
    client.say(b"MAIL FROM:<joe@example.net>\r\nRCPT TO:<ann@example.net>\r\nDATA\r\n")
    client.hear()
    for _ in range(300):
        client.say(b"X: " + b"x" * 995 + b"\r\n")
    assert client.say(b"\r\n.\r\n").startswith(b"552 5.3.4 ")


def test_a_store_that_gives_itself_up_is_for_later(memory_office, monkeypatch, client, failures):
    async def begin(envelope):
        raise CancelledError

    monkeypatch.setattr(memory_office.store, "begin", begin)
    client.say(ENVELOPE)
    assert client.say(b"DATA\r\n").startswith(b"451 4.3.0 ")
    assert client.say(b"NOOP\r\n") == b"250 2.0.0 OK\r\n"
    assert len(failures) == 1
    failures.clear()


def test_421_of_a_policy_is_the_last_word(judged):
    class SaysGoodbye(PolicyBase):
        stages = ("sender",)

        async def sender(self, envelope):
            return Reply(421, "4.7.0", "Not today")

    client = judged(SaysGoodbye())
    assert client.say(ENVELOPE).splitlines()[-1] == b"421 4.7.0 Not today"
    assert client.transport.disconnecting


# -- deadlines ------------------------------------------------------------------


def test_chunks_of_one_octet_do_not_keep_a_session_alive(client, memory_office):
    client.say(ENVELOPE)
    said = b""
    for _ in range(10):
        memory_office.clock.advance(60)
        said += client.say(b"BDAT 1\r\nx")
    assert b"\r\n421 4.4.2 " in said
    assert client.transport.disconnecting


def test_a_chunk_that_is_refused_may_take_its_time_as_any(client, memory_office):
    client.say(b"EHLO pc\r\nBDAT 1000000\r\n")
    for _ in range(9):
        memory_office.clock.advance(200)
        assert client.say(b"x" * 100_000) == b""
    assert client.say(b"x" * 100_000).startswith(b"503 5.5.1 ")


def test_the_time_limit_begins_anew_after_a_message(client, memory_office):
    client.say(ENVELOPE + b"DATA\r\n")
    memory_office.clock.advance(250)
    assert client.say(b"hi\r\n.\r\n").startswith(b"250 ")
    memory_office.clock.advance(250)
    assert client.hear() == b""
    memory_office.clock.advance(50)
    assert client.hear().startswith(b"421 4.4.2 ")


# -- TLS ------------------------------------------------------------------------


def test_octets_behind_starttls_are_found_also_where_the_client_does_not_read(
    client, memory_office, monkeypatch
):
    memory_office.smtp.listener_options = ListenerOptions("smtp", certificates=Ready())
    client = memory_office.client("smtp")
    connection = client.connection
    monkeypatch.setattr(connection, "_begin_tls", lambda: pytest.fail("it began"))

    def ask(question):
        connection.pauseProducing()

    monkeypatch.setattr(connection, "ask", ask)
    client.say(b"STARTTLS\r\n")
    client.say(b"NOOP\r\n")
    connection.resumeProducing()
    assert client.hear().splitlines()[-1].startswith(b"554 5.5.1 ")
    assert connection.session.injected


def test_a_closing_office_says_nothing_in_clear_into_a_handshake(memory_office, monkeypatch):
    memory_office.smtp.listener_options = ListenerOptions("smtp", certificates=Ready())
    client = memory_office.client("smtp")
    monkeypatch.setattr(client.transport, "startTLS", lambda certificates: None, raising=False)
    assert client.say(b"STARTTLS\r\n").splitlines()[-1].startswith(b"220 2.0.0 ")
    Deferred.fromCoroutine(memory_office.smtp.close(30))
    assert client.hear() == b""
    assert client.transport.aborted
    client.leave()


# -- the link and the log ---------------------------------------------------------


def test_octets_after_quit_are_read_and_dropped(client, memory_office, monkeypatch):
    waiting = Deferred()

    async def begin(envelope):
        await waiting

    monkeypatch.setattr(memory_office.store, "begin", begin)
    monkeypatch.setattr(client.transport, "loseWriteConnection", lambda: None)  # it reads on
    client.say(ENVELOPE + b"DATA\r\n")
    client.say(b"QUIT\r\n" + b"x" * 100_000)
    assert client.transport.producerState == "paused"
    waiting.errback(PermanentFailure("no", Reply(554, "5.0.0", "No")))
    memory_office.clock.advance(0)
    assert client.hear().splitlines()[-1].startswith(b"221 ")
    assert client.transport.producerState == "producing", "or its end would not be noticed"


def test_nothing_is_done_for_a_client_that_has_gone(memory_office, judged):
    class SaysSomething(PolicyBase):
        """Told to stop, it has an opinion all the same."""

        stages = ("sender",)

        async def sender(self, envelope):
            with suppress(CancelledError):
                await Deferred()

    client = judged(SaysSomething())
    client.say(MESSAGE)
    client.leave()
    assert not memory_office.store.drop("joe@example.net").texts


def test_a_long_name_makes_no_long_line_of_the_log(memory_office):
    memory_office.smtp.profile = ServiceProfile(mechanisms=("PLAIN",))
    client = memory_office.client("smtp")
    lines = []
    globalLogPublisher.addObserver(watch := lambda event: lines.append(formatEvent(event)))
    said = client.say(
        b"EHLO pc\r\nAUTH PLAIN " + b64encode(b"\0" + b"\xff" * 8000 + b"\0x") + b"\r\n"
    )
    globalLogPublisher.removeObserver(watch)
    assert said.splitlines()[-1].startswith(b"535 ")
    assert any("login-refused " in line for line in lines)
    assert max(map(len, lines)) < 1024


def test_a_client_with_many_commands_takes_turns_with_the_others(client, memory_office):
    client.say(ENVELOPE)
    heard = client.say(b"BDAT 1\r\nx" * 2000 + b"BDAT 2 LAST\r\nhi")
    assert 0 < len(heard) < 10_000
    memory_office.clock.advance(0)  # all turns
    heard += client.hear()
    assert heard.count(b"250 2.0.0 Chunk taken\r\n") == 2000
    assert heard.splitlines()[-1].startswith(b"250 2.0.0 Taken")
