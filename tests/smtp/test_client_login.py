"""A client begins TLS and logs in."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest

from postoffice.model.hop import ENCRYPT, NONE, OPPORTUNISTIC, VERIFY
from postoffice.protocol import client_sasl, sasl
from postoffice.protocol.client_sasl import NotProved
from postoffice.protocol.scram import Salt, derive
from postoffice.smtp import client_states as states
from tests.smtp.client_peers import Client, message

HELLO = b"220 mx.example.org\r\n"
OFFER = b"250-mx.example.org\r\n250-STARTTLS\r\n250 PIPELINING\r\n"
PLAIN = b"250-mx.example.org\r\n250 AUTH PLAIN LOGIN\r\n"
READY = b"220 Go on\r\n"
KEYS = derive(b"secret word", b"salt", 4096)
JOE = {"login": "joe", "password": "secret word"}


# -- TLS ---------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [OPPORTUNISTIC, ENCRYPT, VERIFY])
def test_tls_begins_where_it_is_offered_and_all_that_was_said_is_forgotten(level):
    client = Client(message(), level=level)
    assert client.hear(HELLO, OFFER).endswith(b"STARTTLS\r\n")
    assert client.hear(READY) == b"EHLO mail.example.net\r\n"
    assert client.hear(b"250 mx.example.org\r\n") == b"MAIL FROM:<ann@example.net>\r\n"


def test_tls_is_not_begun_where_it_is_not_wanted():
    assert b"MAIL" in Client(message(), level=NONE).hear(HELLO, OFFER)


@pytest.mark.parametrize("refusal", [b"454 4.7.0 Not now\r\n", b"502 What?\r\n"])
def test_opportunistic_tls_that_is_refused_is_done_without(refusal):
    client = Client(message())
    assert b"MAIL" in client.hear(HELLO, OFFER, refusal)


@pytest.mark.parametrize("level", [ENCRYPT, VERIFY])
def test_tls_that_must_be_is_not_done_without(level):
    client = Client(message(), level=level)
    client.hear(HELLO, b"250 x\r\n")
    assert client.session.failed.phase == "tls"
    assert "STARTTLS" in client.session.failed.text
    assert client.session.failed.status == "4.7.4"
    client = Client(message(), level=level)
    client.hear(HELLO, OFFER, b"454 4.7.0 Not now\r\n")
    assert client.session.failed.code == 454
    assert client.session.failed.phase == "tls"
    assert b"MAIL" not in client.said


@pytest.mark.parametrize("together", [True, False])
def test_octets_in_clear_behind_the_reply_to_starttls_are_an_attack(together):
    client = Client(message(), level=ENCRYPT)
    client.hear(HELLO, OFFER)
    if together:
        client.session.receive(READY + b"250 x\r\n")
    else:
        client.session.receive(READY)
        client.session.receive(b"2")
    assert client.session.state == states.CLOSED
    assert "in clear" in client.session.failed.text


def test_implicit_tls_needs_no_starttls():
    client = Client(message(), level=VERIFY, encrypted=True)
    assert b"MAIL" in client.hear(HELLO, OFFER)


# -- logging in ----------------------------------------------------------------------------


def test_a_password_is_sent_over_tls():
    client = Client(message(), encrypted=True, **JOE)
    said = client.hear(HELLO, PLAIN)
    assert said.endswith(b"AUTH PLAIN " + b64encode(b"\0joe\0secret word") + b"\r\n")
    assert client.hear(b"235 2.7.0 Welcome\r\n").startswith(b"MAIL")


@pytest.mark.parametrize(("level", "sent"), [(OPPORTUNISTIC, False), (NONE, True)])
def test_a_password_is_sent_in_clear_only_where_the_administrator_wants_no_tls(level, sent):
    client = Client(message(), level=level, **JOE)
    assert (b"AUTH PLAIN" in client.hear(HELLO, PLAIN)) is sent
    if not sent:
        assert client.session.failed.phase == "auth"


def test_login_asks_for_each():
    client = Client(message(), encrypted=True, **JOE)
    client.hear(HELLO, b"250-x\r\n250 AUTH=LOGIN\r\n")
    assert client.said.endswith(b"AUTH LOGIN\r\n")
    assert client.hear(b"334 VXNlcm5hbWU6\r\n") == b64encode(b"joe") + b"\r\n"
    assert client.hear(b"334 \r\n") == b64encode(b"secret word") + b"\r\n"
    assert client.hear(b"235 Welcome\r\n").startswith(b"MAIL")


def test_a_refused_login_says_what_the_server_says():
    client = Client(message(), encrypted=True, **JOE)
    client.hear(HELLO, PLAIN, b"535 5.7.8 Wrong\r\n")
    assert client.session.failed.code == 535
    assert client.session.failed.phase == "auth"
    assert client.said.count(b"AUTH") == 1


@pytest.mark.parametrize("command", ["MAIL", "RCPT"])
@pytest.mark.parametrize("reply", [b"530 5.7.0 Authentication required\r\n", b"535 5.7.8 No\r\n"])
def test_a_server_of_our_choice_that_wants_a_login_does_not_make_mail_bounce(command, reply):
    """A smarthost whose login is missing in the configuration: the administrator has to mend it."""
    ehlo = b"250-mx.example.org\r\n250 DSN\r\n"
    client = Client.greeted(message(), ehlo=ehlo, chosen=True)
    client.hear(b"250 Fine\r\n" if command == "RCPT" else b"", reply)
    [result] = client.results
    assert [(one.ours, one.permanent) for one in result.replies] == [(True, False)]
    assert not result.usable
    stranger = Client.greeted(message(), ehlo=ehlo)
    stranger.hear(b"250 Fine\r\n" if command == "RCPT" else b"", reply, b"250 Reset\r\n")
    assert [(one.ours, one.permanent) for one in stranger.results[0].replies] == [(False, True)]


def test_a_mechanism_that_is_not_for_us_is_followed_by_the_next():
    client = Client(message(), encrypted=True, **JOE)
    said = client.hear(HELLO, PLAIN, b"504 5.5.4 Not this\r\n")
    assert said.endswith(b"AUTH LOGIN\r\n")
    client.hear(b"504 5.5.4 Not this either\r\n")
    assert client.session.failed.code == 504


def test_a_server_that_asks_too_much():
    client = Client(message(), encrypted=True, **JOE)
    client.hear(HELLO, PLAIN, b"334 eA==\r\n")
    assert client.session.failed.phase == "auth"
    client = Client(message(), encrypted=True, **JOE)
    client.hear(HELLO, PLAIN, b"334 not base64\r\n")
    assert client.session.failed.phase == "auth"


class ScramServer:
    """Our own server's side of an exchange."""

    def __init__(self):
        self.exchange = sasl.exchange(
            "SCRAM-SHA-256", hostname="x", bindings={}, plus=False, nonce=lambda: "theirs"
        )
        next(self.exchange)

    def answer(self, response):
        """The challenge that follows a response, or None at the end."""
        try:
            step = self.exchange.send(response)
            if isinstance(step, sasl.SaltOf):
                step = self.exchange.send(Salt(KEYS.salt, KEYS.iterations))
            elif isinstance(step, sasl.ScramClaim):
                assert step.verify(KEYS)
                step = self.exchange.send(None)
        except StopIteration:
            return None
        return step.octets


def test_scram_with_our_own_server_and_without_tls():
    server, client = ScramServer(), Client(message(), **JOE)
    client.hear(HELLO, b"250-x\r\n250 AUTH PLAIN SCRAM-SHA-256\r\n")
    said = client.said.split(b"\r\n")[-2].partition(b"SCRAM-SHA-256 ")[2]
    while (challenge := server.answer(b64decode(said))) is not None:
        said = client.hear(b"334 " + b64encode(challenge) + b"\r\n").strip()
    assert client.hear(b"235 2.7.0 Welcome\r\n").startswith(b"MAIL")


def scram(*challenges):
    """Play the server's side of SCRAM; None is success."""
    exchange = client_sasl.exchange("SCRAM-SHA-256", "joe", "secret word", lambda: "ours")
    next(exchange)
    for challenge in challenges:
        exchange.send(challenge)


@pytest.mark.parametrize(
    "challenges",
    [
        (None,),
        (b"r=oursx,s=c2FsdA==,i=4096", None),
        (b"r=oursx,s=c2FsdA==,i=4096", b"v=AAAA"),
        (b"r=ours,s=c2FsdA==,i=4096",),
        (b"r=other,s=c2FsdA==,i=4096",),
        (b"r=oursx,s=c2FsdA==,i=1",),
        (b"r=oursx,s=c2FsdA==,i=999999999",),
        (b"r=oursx,s=c2F,i=4096",),
        (b"m=x,r=oursx,s=c2FsdA==,i=4096",),
    ],
)
def test_a_server_that_does_not_prove_itself_is_not_believed(challenges):
    with pytest.raises(NotProved):
        scram(*challenges)
