"""The rules of a POP3 client: login, TLS, commands, pipelining, and servers that are wrong."""

from __future__ import annotations

from base64 import b64encode

import pytest

from postoffice.pop3 import client_states as states
from postoffice.pop3.client import COMMAND_MAXIMUM, LINE_MAXIMUM
from postoffice.pop3.client_commands import LIST, STAT, UIDL, dele, retr, top
from postoffice.pop3.client_options import WINDOW, Capabilities
from postoffice.pop3.client_reply import ClientReply
from tests.pop3.client_peers import CAPA, GREETING, NO_CAPA, Client

ALONE = b"+OK\r\nUSER\r\nUIDL\r\n.\r\n"
PLAIN = b64encode(b"\0joe\0x")


def capa(*names):
    return b"+OK\r\n" + b"".join(name + b"\r\n" for name in names) + b".\r\n"


def test_a_login_by_user_and_pass():
    client = Client()
    assert client.hear(GREETING) == b"CAPA\r\n"
    assert client.hear(CAPA) == b"USER joe\r\n"
    assert client.hear(b"+OK\r\n") == b"PASS x\r\n"
    assert client.hear(b"+OK 3 messages\r\n") == b"CAPA\r\n"
    client.hear(CAPA)
    assert client.session.state == states.READY
    assert client.session.offers.has("PIPELINING")


def test_a_server_of_before_capa_is_asked_with_user():
    client = Client()
    assert client.hear(GREETING, NO_CAPA) == b"CAPA\r\nUSER joe\r\n"
    assert client.hear(b"+OK\r\n", b"+OK\r\n") == b"PASS x\r\n"
    assert client.session.room == 1


@pytest.mark.parametrize(
    ("offered", "encrypted", "said"),
    [
        (b"SASL PLAIN LOGIN", False, b"AUTH PLAIN " + PLAIN),
        (b"SASL PLAIN SCRAM-SHA-256", True, b"AUTH PLAIN " + PLAIN),
        (b"SASL PLAIN SCRAM-SHA-256", False, b"AUTH SCRAM-SHA-256 "),
        (b"SASL LOGIN", True, b"USER joe"),
        (b"SASL GSSAPI", True, b"USER joe"),
    ],
)
def test_the_way_of_logging_in(offered, encrypted, said):
    client = Client(encrypted=encrypted, passwords=not encrypted)
    assert client.hear(GREETING, capa(b"USER", offered)).startswith(b"CAPA\r\n" + said)


def test_login_by_the_mechanism_login_where_there_is_nothing_else():
    client = Client()
    assert client.hear(GREETING, capa(b"SASL LOGIN")).endswith(b"AUTH LOGIN\r\n")
    assert client.hear(b"+ VXNlcm5hbWU6\r\n") == b64encode(b"joe") + b"\r\n"
    assert client.hear(b"+ UGFzc3dvcmQ6\r\n") == b64encode(b"x") + b"\r\n"
    client.hear(b"+OK\r\n")
    assert client.session.entered


def test_a_long_first_response_waits_for_a_challenge():
    password = "p" * COMMAND_MAXIMUM
    client = Client(password=password)
    assert client.hear(GREETING, capa(b"SASL PLAIN")).endswith(b"AUTH PLAIN\r\n")
    response = b64encode(b"\0joe\0" + password.encode()) + b"\r\n"
    assert client.hear(b"+ \r\n") == response
    client.hear(b"+OK\r\n")
    assert client.session.entered


def test_a_server_that_proves_nothing_gets_no_session():
    client = Client()
    client.hear(GREETING, capa(b"SASL SCRAM-SHA-256"), b"+OK welcome\r\n")
    assert not client.session.entered
    assert "login failed" in client.session.failed.text
    assert not client.session.failed.wrong_password


@pytest.mark.parametrize("bad", ["a\r\nDELE 1", "a\0b"])
def test_a_password_cannot_hold_a_command(bad):
    client = Client(password=bad)
    assert client.hear(GREETING, CAPA) == b"CAPA\r\n"
    assert not client.session.failed.temporary


@pytest.mark.parametrize(
    ("line", "wrong", "temporary"),
    [
        (b"-ERR [AUTH] no", True, False),
        (b"-ERR no", True, False),
        (b"-ERR [IN-USE] locked", False, True),
        (b"-err [login-delay] wait", False, True),
        (b"-ERR [SYS/TEMP] later", False, True),
        (b"-ERR [SYS/PERM] never", False, False),
    ],
)
def test_what_a_refused_login_means(line, wrong, temporary):
    client = Client()
    client.hear(GREETING, CAPA, b"+OK\r\n", line + b"\r\n")
    failed = client.session.failed
    assert (failed.wrong_password, failed.temporary) == (wrong, temporary)
    assert client.session.state == states.CLOSED


def test_tls_comes_before_the_password_and_what_was_offered_before_is_forgotten():
    client = Client(stls=True, passwords=False)
    assert client.hear(GREETING, capa(b"STLS", b"PIPELINING")) == b"CAPA\r\nSTLS\r\n"
    assert client.hear(b"+OK begin\r\n") == b"CAPA\r\n"
    assert client.session.options.encrypted
    assert client.hear(capa(b"USER")) == b"USER joe\r\n"
    assert not client.session.offers.has("PIPELINING")


@pytest.mark.parametrize(
    "bursts",
    [
        [capa(b"USER")],
        [capa(b"STLS"), b"-ERR not now\r\n"],
        [NO_CAPA, b"-ERR what?\r\n"],
        [capa(b"STLS"), b"+OK\r\n+OK injected\r\n"],
    ],
)
def test_without_tls_no_password_is_sent(bursts):
    client = Client(stls=True, passwords=False)
    client.hear(GREETING, *bursts)
    assert client.session.failed.phase == "tls"
    assert b"USER" not in client.said
    assert not client.session.failed.temporary


def test_a_greeting_that_refuses():
    client = Client()
    assert client.hear(b"-ERR [SYS/TEMP] too many connections\r\n") == b""
    assert client.session.failed == ClientReply(
        False, "SYS/TEMP", "too many connections", "greeting"
    )


def test_a_text_without_its_dots():
    client = Client.entered(retr(1))
    assert client.said == b"RETR 1\r\n"
    client.hear(b"+OK 9 octets\r\nSubject: x\r\n\r\n..dot\r\n.", b"\r\n")
    assert client.texts == [b"Subject: x\r\n\r\n.dot\r\n"]
    assert client.replies[0].text == "9 octets"
    assert client.session.state == states.READY


def test_an_empty_text():
    client = Client.entered(UIDL)
    client.hear(b"+OK\r\n.\r\n")
    assert client.texts == []
    assert client.replies[0].ok


def test_a_window_of_commands_is_sent_at_once():
    wanted = [retr(n) for n in range(1, WINDOW + 3)]
    client = Client.entered(*wanted)
    assert client.said == b"".join(map(bytes, wanted[:WINDOW]))
    assert client.session.room == 0
    assert client.hear(b"+OK\r\na\r\n.\r\n-ERR [SYS/TEMP] gone\r\n+OK\r\nc\r\n.\r\n") == b"".join(
        map(bytes, wanted[WINDOW:])
    )
    assert client.texts == [b"a\r\n", b"c\r\n"]
    assert [one.ok for one in client.replies] == [True, False, True]


def test_without_pipelining_each_command_waits():
    client = Client.entered(STAT, LIST, top(2), dele(2), capa=ALONE)
    assert client.said == b"STAT\r\n"
    assert client.hear(b"+OK 2 9\r\n") == b"LIST\r\n"
    assert client.hear(b"+OK\r\n1 2\r\n2 7\r\n.\r\n") == b"TOP 2 0\r\n"
    assert client.hear(b"+OK\r\nh: x\r\n\r\n.\r\n") == b"DELE 2\r\n"
    client.hear(b"+OK\r\n")
    assert client.texts == [b"1 2\r\n2 7\r\n", b"h: x\r\n\r\n"]
    client = Client.entered(STAT, LIST, pipelining=False)
    assert client.said == b"STAT\r\n"


def test_the_farewell_says_whether_all_was_removed():
    client = Client.entered(dele(1))
    client.hear(b"+OK\r\n")
    client.session.quit()
    assert client.hear(b"") == b"QUIT\r\n"
    client.hear(b"-ERR some are not removed\r\n")
    assert client.session.failed is None
    assert client.session.farewell.text == "some are not removed"
    client = Client.entered()
    client.session.quit()
    client.session.lost("The server closed the connection")
    assert client.session.farewell is None
    assert client.session.failed.phase == "end"


def test_a_command_cut_off():
    client = Client.entered(retr(1), retr(2))
    client.hear(b"+OK\r\nhalf a mess")
    assert client.session.state == states.TEXT
    client.session.lost("The server closed the connection")
    assert client.session.failed.temporary
    assert client.replies == []
    client.hear(b"age\r\n.\r\n")
    assert client.replies == []


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"hello\r\n", "no reply"),
        (b"+OKAY\r\n", "no reply"),
        (b"\r\n", "no reply"),
        (b"+OK\n\r\n", "CRLF"),
        (b"+OK " + b"x" * LINE_MAXIMUM + b"\r\n", "too long"),
        (b"x" * 2 * LINE_MAXIMUM + b"\r\n", "too long"),
        (b"+OK 1 2\r\n+OK and more\r\n", "out of step"),
        (b"+OK 1 2\r\n-ERR Disconnected for inactivity\r\n", "inactivity"),
    ],
)
def test_what_is_no_reply_ends_the_session(line, word):
    client = Client.entered(STAT)
    client.hear(line)
    assert word in client.session.failed.text
    assert client.session.room == 0


def test_a_text_longer_than_its_limit_is_not_read_further():
    client = Client.entered(retr(1, 100))
    client.hear(b"+OK\r\n" + b"x" * 50, b"x" * 51)
    assert "over 100 octets" in client.session.failed.text
    client = Client()
    client.hear(GREETING, b"+OK\r\n" + b"A\r\n" * 30_000)
    assert "CAPA" in client.session.failed.text


def test_a_text_counts_as_life_by_its_octets():
    client = Client.entered(retr(1))
    before = client.session.heard
    client.hear(b"+OK\r\n", *[b"x"] * 100)
    assert client.session.heard == before + 1
    client.hear(b"y" * (64 << 10))
    assert client.session.heard == before + 5


def test_what_a_server_offers():
    offers = Capabilities.read(b"LOGIN-DELAY 900 USER\r\nsasl plain\r\nEXPIRE NEVER\r\n")
    assert offers.login_delay == 900
    assert offers.mechanisms == ["PLAIN"]
    assert Capabilities.read(b"LOGIN-DELAY soon\r\n").login_delay == 0


def test_a_password_is_in_no_representation():
    assert "secret" not in repr(Client(password="secret").session.options)
