"""The client on a socket: real connections, TLS, and servers that keep us waiting."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace

import pytest

from postoffice.pop3.client_commands import Ended, TextPiece, dele, retr
from postoffice.pop3.client_connection import (
    CommandRefused,
    POP3ClientConnection,
    POP3Failed,
    try_login,
)
from postoffice.pop3.client_url import (
    NO_TLS,
    POP3URL,
    UNVERIFIED,
    VERIFY,
    NotAServer,
    POP3Server,
)
from tests.authority import Authority
from tests.pop3_server import CUT, OldServer

MESSAGES = [("u1", b"Subject: one\r\n\r\n.dot\r\n"), ("u2", b"Subject: two\r\n\r\n")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def server_of(old, **how):
    return POP3URL.parse(old.url).server(**how)


def texts(events):
    found = {}
    for event in events:
        if isinstance(event, TextPiece):
            found[event.command.number] = found.get(event.command.number, b"") + event.octets
        else:
            assert event.reply.ok
    return found


def test_a_session_from_login_to_quit():
    with (
        OldServer(list(MESSAGES)) as old,
        POP3ClientConnection(server_of(old), "ann", "secret") as ours,
    ):
        ours.connect()
        assert ours.stat() == (2, sum(len(text) for _, text in MESSAGES))
        assert ours.uidls().values == {1: "u1", 2: "u2"}
        assert ours.sizes().values == {n: len(text) for n, (_, text) in enumerate(MESSAGES, 1)}
        assert texts(ours.fetch([retr(1), retr(2)])) == {1: MESSAGES[0][1], 2: MESSAGES[1][1]}
        assert all(isinstance(one, Ended) for one in ours.fetch([dele(1)]))
        assert old.removed == []
        assert ours.quit().ok
        assert old.removed == ["u1"]


def test_many_messages_are_read_as_far_as_there_is_room():
    many = [(f"u{n}", b"Subject: %d\r\n\r\n" % n + b"x" * n * 50 + b"\r\n") for n in range(300)]
    read = []

    def commands():
        for n in range(1, 301):
            read.append(n)
            yield retr(n)

    with OldServer(many) as old, POP3ClientConnection(server_of(old), "ann", "secret") as ours:
        ours.connect()
        fetching = ours.fetch(commands())
        first = next(fetching)
        assert first.command.number == 1
        assert len(read) < 100
        found = texts([first, *fetching])
    assert [found[n] for n in range(1, 301)] == [text for _, text in many]


def test_a_server_without_uidl():
    bare = OldServer(list(MESSAGES), capa=())
    with bare as old, POP3ClientConnection(server_of(old), "ann", "secret") as ours:
        assert ours.connect().uidls() is None


def test_what_a_server_refuses_is_that_command_only():
    def fault(number, line):
        return b"-ERR [SYS/TEMP] not now\r\n" if line == "LIST" else None

    refusing = OldServer(list(MESSAGES), fault=fault)
    with refusing as old, POP3ClientConnection(server_of(old), "ann", "secret") as ours:
        ours.connect()
        with pytest.raises(CommandRefused, match="LIST"):
            ours.sizes()
        assert ours.stat()


@pytest.mark.parametrize("implicit", [True, False])
def test_tls_is_verified(authority, implicit):
    certificate = authority.certify("localhost")
    capa = ("USER", "UIDL", "STLS")
    secured = OldServer(list(MESSAGES), certificate=certificate, implicit=implicit, capa=capa)
    with secured as old:
        # a name that leads here, and is no loopback name by itself
        server = replace(server_of(old, ca_file=str(authority.path)), host="localhost")
        assert try_login(server, "ann", "secret").ok
        unknown = replace(server, ca_file=None)
        if implicit:
            answer = try_login(unknown, "ann", "secret")
            assert not answer.ok
            assert "does not verify" in answer.text
            assert not answer.temporary
            assert try_login(replace(unknown, tls=UNVERIFIED), "ann", "secret").ok


class Remote(POP3Server):
    """A server that does not count as loopback, although it is."""

    __slots__ = ()
    loopback = False


@pytest.mark.parametrize(
    ("names", "tls", "word"),
    [
        (["localhost"], VERIFY, ""),
        (["elsewhere.example"], VERIFY, "does not verify"),
        (["elsewhere.example"], UNVERIFIED, ""),
        (["elsewhere.example"], NO_TLS, ""),
    ],
)
def test_stls_and_its_certificate(authority, names, tls, word):
    capa = ("USER", "STLS")
    with OldServer([], certificate=authority.certify(*names), capa=capa) as old:
        server = Remote(
            host="localhost", port=old.port, implicit=False, tls=tls, ca_file=str(authority.path)
        )
        answer = try_login(server, "ann", "secret")
        assert answer.ok is not bool(word)
        assert word in answer.text
        assert ("STLS" in old.heard) is (tls != NO_TLS)
        assert any(line.startswith("PASS") for line in old.heard) is not bool(word)


def test_a_server_without_stls_gets_no_password():
    with OldServer([]) as old:
        server = Remote(host="localhost", port=old.port, implicit=False)
        answer = try_login(server, "ann", "secret")
        assert "STLS" in answer.text
        assert old.heard == ["CAPA"]


def test_authorities_that_cannot_be_read(tmp_path):
    server = POP3Server(host="localhost", port=1, ca_file=str(tmp_path / "none.pem"))
    assert "none.pem" in try_login(server, "ann", "secret").text


def test_a_wrong_password():
    with OldServer([]) as old:
        answer = try_login(server_of(old), "ann", "guessed")
        assert answer.wrong_password
        assert answer.code == "AUTH"


def test_a_maildrop_in_use_says_nothing_against_the_password():
    def fault(number, line):
        return b"-ERR [IN-USE] locked\r\n" if line.startswith("PASS") else None

    with OldServer([], fault=fault) as old:
        answer = try_login(server_of(old), "ann", "secret")
    assert (answer.ok, answer.wrong_password, answer.temporary) == (False, False, True)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = try_login(POP3Server(host="127.0.0.1", port=port), "ann", "secret")
    assert answer.phase == "connect"
    assert answer.temporary
    assert "refused" in answer.text


@pytest.mark.parametrize("where", ["", "CAPA", "PASS secret", "UIDL", "RETR 2"])
def test_a_server_that_cuts(where):
    cutting = OldServer(list(MESSAGES), fault=lambda _, line: CUT if line == where else None)
    with cutting as old, POP3ClientConnection(server_of(old), "ann", "secret") as ours:
        with pytest.raises(POP3Failed) as failed:
            use(ours)
        assert failed.value.reply.temporary


def use(connection):
    connection.connect()
    connection.uidls()
    assert texts(connection.fetch([retr(1), retr(2)]))


def test_a_silent_server_times_out():
    with OldServer([], fault=lambda number, line: b"") as old:
        answer = try_login(server_of(old, reply_timeout=0.05), "ann", "secret")
    assert "timed out" in answer.text
    assert answer.temporary


def test_octets_that_trickle_do_not_count_as_life():
    """The limit is for a whole reply: it does not begin again with each octet."""
    times = iter([0.0, 0.0, 601.0]).__next__
    trickling = OldServer([], fault=lambda number, line: b"+O")
    with (
        trickling as old,
        POP3ClientConnection(server_of(old), "ann", "x", clock=times) as ours,
        pytest.raises(POP3Failed, match="timed out"),
    ):
        ours.connect()


def test_a_connection_is_stopped_from_another_thread():
    asked = threading.Event()

    def fault(number, line):
        if line == "UIDL":
            asked.set()
            return b""
        return None

    with (
        OldServer([], fault=fault) as old,
        POP3ClientConnection(server_of(old), "ann", "secret") as ours,
    ):
        ours.connect()
        stopper = threading.Thread(target=lambda: (asked.wait(10), ours.abort()))
        stopper.start()
        with pytest.raises(POP3Failed):
            ours.uidls()
        stopper.join()
        with pytest.raises(POP3Failed):
            ours.stat()


@pytest.mark.parametrize(
    ("text", "user", "where", "implicit"),
    [
        ("pop3s://ann@old.example", "ann", "pop3s://old.example:995", True),
        ("POP3://old.example", "", "pop3://old.example:110", False),
        ("pop3s://a@example.net@old.example:96/", "a@example.net", "pop3s://old.example:96", True),
        ("pop3s://a%40example.net*boss@[::1]", "a@example.net*boss", "pop3s://[::1]:995", True),
    ],
)  # fmt: skip
def test_urls(text, user, where, implicit):
    url = POP3URL.parse(text)
    assert url.user == user
    assert str(url.server()) == where
    assert url.server().implicit is implicit


@pytest.mark.parametrize(
    "text",
    ["", "old.example", "imap://old.example", "pop3s://", "pop3s://a@b:0", "pop3s://a@b:70000",
     "pop3s://ann:hunter2@old.example", "pop3s://a@b/path", "pop3s://a@b c",
     "pop3s://a@b:" + "9" * 5000],
)  # fmt: skip
def test_what_is_no_url(text):
    with pytest.raises(NotAServer) as why:
        POP3URL.parse(text)
    assert "hunter2" not in str(why.value)


def test_tls_that_contradicts_its_url():
    with pytest.raises(NotAServer):
        POP3URL.parse("pop3s://a@b").server(tls=NO_TLS)


def test_loopback_needs_no_tls():
    def stls(text):
        return POP3URL.parse(text).server().stls

    assert [stls(f"pop3://{host}") for host in ("127.0.0.2", "[::1]", "localhost")] == [False] * 3
    assert stls("pop3://192.0.2.1")
    assert stls("pop3://localhost.example")
