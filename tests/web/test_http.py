"""HTTP within bounds: sizes, times, connections, proxies; on transports of the test."""

from __future__ import annotations

import re
from ipaddress import ip_network

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from postoffice.web.http_server import (
    ANSWERING,
    BODY,
    CONNECTIONS,
    FAREWELL,
    OF_ONE,
    READING,
    SILENCE,
    WebServer,
)
from postoffice.web.long_answer import PIECE, TAKING
from postoffice.web.values import Response
from tests.web.whole_site import ANNA, PASSWORD

GET = b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Client:
    """One connection from an address."""

    def __init__(self, server: WebServer, address: str = "127.0.0.1") -> None:
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", address, 40000))
        self.connected = True
        self.protocol = server.buildProtocol(self.transport.getPeer())
        if self.protocol is not None:
            self.protocol.makeConnection(self.transport)

    def say(self, octets: bytes) -> bytes:
        self.transport.clear()
        self.protocol.dataReceived(octets)
        return self.transport.value()

    def hang_up(self) -> None:
        self.connected = False
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def hung_up(self) -> bool:
        """Whether the server ends the connection; if it does, it has ended."""
        if self.connected and self.transport.disconnecting:
            self.hang_up()
        return not self.connected


@pytest.fixture
def server(site):
    return WebServer(site.application, site.clock)


def post(form: bytes, *headers: bytes) -> bytes:
    lines = (
        b"POST /login HTTP/1.1",
        b"Host: localhost:8025",
        b"Origin: http://localhost:8025",
        b"Content-Type: application/x-www-form-urlencoded",
        *headers,
    )
    return b"\r\n".join(lines) + b"\r\n\r\n" + form


def with_length(form: bytes) -> bytes:
    return post(form, b"Content-Length: %d" % len(form))


def status(octets: bytes) -> int:
    return int(octets.split(b" ", 2)[1])


def test_a_page_is_served_and_the_connection_stays(server):
    client = Client(server)
    for _ in range(2):
        answer = client.say(GET)
        assert status(answer) == 200
        assert b"<h1>Log in</h1>" in answer
    assert not client.hung_up()


def test_several_requests_at_once_are_answered_in_order(server):
    answer = Client(server).say(GET + GET.replace(b"/login", b"/no") + GET)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200"]


def test_a_head_has_no_body(server):
    answer = Client(server).say(GET.replace(b"GET", b"HEAD"))
    assert answer.endswith(b"\r\n\r\n")
    assert re.search(rb"Content-Length: [1-9]", answer)


def test_a_form_is_read_in_pieces(server):
    client = Client(server)
    form = b"address=anna%40example.net&password=" + PASSWORD.replace(" ", "+").encode()
    request = with_length(form)
    for octet in request[:-1]:
        assert client.say(bytes([octet])) == b""
    answer = client.say(request[-1:])
    assert status(answer) == 303
    assert b"Set-Cookie: postoffice=" in answer


def test_a_form_of_another_kind_is_not_read(server):
    form = b'--x\r\nContent-Disposition: form-data; name="address"\r\n\r\nanna\r\n--x--'
    request = with_length(form).replace(
        b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x"
    )
    assert status(Client(server).say(request)) == 403


@pytest.mark.parametrize(
    "request_",
    [
        post(b"", b"Content-Length: %d" % (BODY + 1)),
        post(b"%x\r\n" % (BODY + 1) + b"x" * (BODY + 1), b"Transfer-Encoding: chunked"),
    ],
    ids=["told before", "in chunks"],
)
def test_too_large_a_body_is_refused(server, request_):
    client = Client(server)
    assert status(client.say(request_)) == 413
    assert client.hung_up()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /%FF HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /login HTTP/1.1\r\nHost: localhost\r\nHost: mail.example.net\r\n\r\n",
        b"GET /?a=%FF HTTP/1.1\r\nHost: localhost\r\n\r\n",
        with_length(b"a=%ff"),
        with_length(b"&".join(b"a=1" for _ in range(3000))),
        b"nonsense\r\n\r\n",
        b"GET /login HTTP/1.1\r\n" + (b"X: " + b"x" * 9000 + b"\r\n") * 2 + b"\r\n",
        b"GET /login HTTP/1.1\r\n" + b"X: x\r\n" * 200 + b"\r\n",
        post(b"", b"Content-Length: 1", b"Content-Length: 2"),
        post(b"", b"Content-Length: " + b"9" * 5000),
    ],
)
def test_what_cannot_be_read_is_refused(server, request_):
    client = Client(server)
    assert status(client.say(request_)) == 400
    assert client.hung_up()


def test_a_slow_request_is_given_up(server, site):
    client = Client(server)
    for _ in range(int(READING)):
        client.say(b"G" if _ == 0 else b"E")
        site.clock.advance(1)
    assert client.hung_up()


def test_a_slow_body_is_given_up(server, site):
    client = Client(server)
    client.say(post(b"", b"Content-Length: 1000"))
    for _ in range(int(READING)):
        client.say(b"a")
        site.clock.advance(1)
    assert client.hung_up()


def test_a_silent_client_is_given_up_and_the_log_does_not_mind(server, site, logged):
    fresh, used = Client(server), Client(server)
    used.say(GET)
    site.clock.advance(SILENCE)
    site.clock.advance(READING)
    assert fresh.hung_up()
    assert used.hung_up()
    assert not logged


def test_one_client_cannot_take_all_connections(server):
    clients = [Client(server, "192.0.2.1") for _ in range(OF_ONE + 1)]
    assert clients[-1].protocol is None
    assert Client(server, "192.0.2.2").protocol is not None
    clients[0].hang_up()
    assert Client(server, "192.0.2.1").protocol is not None


def test_all_connections_are_bounded(server):
    clients = [Client(server, f"192.0.{n // 20}.{n % 20}") for n in range(CONNECTIONS + 1)]
    assert clients[-1].protocol is None


def test_closing_does_not_wait_for_silent_clients(server):
    client = Client(server)
    client.say(GET)
    closing = Deferred.fromCoroutine(server.close(30))
    assert client.hung_up()
    assert closing.called
    assert Client(server).protocol is None


def test_closing_soon_cuts_off_who_does_not_close_the_connection(server, site):
    """With TLS, a client that is silent must say that it has seen the end."""
    client = Client(server)
    client.say(GET)
    closing = Deferred.fromCoroutine(server.close(30))
    site.clock.advance(FAREWELL - 1)
    assert client.transport.disconnecting
    assert not client.transport.disconnected
    site.clock.advance(1)
    assert client.transport.disconnected
    client.hang_up()
    assert closing.called


@pytest.mark.parametrize("how", ["hangs up", "waits too long"])
@pytest.mark.parametrize("changes", [True, False])
def test_only_a_change_goes_on_without_its_browser(server, site, changes, how, logged):
    going: Deferred[None] = Deferred()
    done = []

    async def answer(_):
        await going
        done.append("in the log")
        return Response()

    site.application.answer = answer
    client = Client(server)
    client.say(with_length(b"a=b") if changes else GET)
    if how == "hangs up":
        client.hang_up()
    else:
        site.clock.advance(ANSWERING)
        assert status(client.transport.value()) == 503
    if not going.called:
        going.callback(None)
    assert bool(done) is changes
    assert b" 200 " not in client.transport.value()
    assert not logged


@pytest.fixture
def slow(server, site):
    """A client that asked for a long answer, and takes 64 KiB at once."""

    async def answer(_):
        return Response(200, b"x" * (1 << 20))

    site.application.answer = answer
    client = Client(server)
    write = client.transport.write

    def written(octets: bytes) -> None:
        write(octets)
        if len(octets) > 1000:
            client.transport.producer.pauseProducing()

    client.transport.write = written
    client.say(GET)
    return client


def test_a_slow_client_gets_all_of_a_long_answer(server, site, slow):
    taken = 0
    while taken < 1 << 20:
        assert 0 < len(slow.transport.value()) <= PIECE + 1000
        assert server.untaken == 1 << 20
        taken += slow.transport.value().count(b"x")
        slow.transport.clear()
        site.clock.advance(TAKING - 1)
        assert not slow.hung_up()
        slow.transport.producer.resumeProducing()
    assert server.untaken == 0
    assert slow.say(GET).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_client_that_takes_nothing_of_a_long_answer_is_cut_off(server, site, slow, hangs_up):
    if hangs_up:
        slow.hang_up()
    else:
        site.clock.advance(TAKING)
        assert slow.transport.disconnected or slow.hung_up()
        slow.hang_up()
    assert server.untaken == 0


def test_long_answers_are_bounded(server, slow, monkeypatch):
    monkeypatch.setattr("postoffice.web.http_server.UNTAKEN", 1 << 20)
    other = Client(server)
    assert status(other.say(GET)) == 503
    slow.hang_up()
    assert status(Client(server).say(GET)) == 200


# -- proxies -------------------------------------------------------------------------------


def behind(*headers: bytes) -> bytes:
    lines = (b"GET /login HTTP/1.1", b"Host: mail.example.net", *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def test_a_known_proxy_names_the_browser(site):
    server = WebServer(site.application, site.clock, proxies=[ip_network("192.0.2.0/24")])
    asked = []
    answer_ = site.application.answer

    async def noted(request):
        asked.append(request)
        return await answer_(request)

    site.application.answer = noted
    https = b"X-Forwarded-Proto: https"
    client = Client(server, "192.0.2.1")
    answer = client.say(behind(b"X-Forwarded-For: 127.0.0.1, 203.0.113.5, 192.0.2.9", https))
    assert status(answer) == 200
    assert b"Strict-Transport-Security" in answer
    assert asked[-1].client.address == "203.0.113.5"
    client.say(behind(b"X-Forwarded-For: 203.0.113.5"))
    assert not asked[-1].client.encrypted
    assert status(client.transport.value()) == 403
    client.say(behind(b"X-Forwarded-For: 127.0.0.1", https))
    assert not asked[-1].at_the_machine


def test_nobody_else_is_believed(server):
    https = b"X-Forwarded-Proto: https"
    for address in ("127.0.0.1", "203.0.113.5"):
        client = Client(server, address)
        headers = behind(b"X-Forwarded-For: 127.0.0.1", https)
        assert status(client.say(headers)) == 403
        assert status(client.say(headers.replace(b"mail.example.net", b"localhost"))) in (403, 421)


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        (GET, 200),
        (GET.replace(b"1.1", b"1.0"), 403),
        (GET.replace(b"localhost", b"mail.example.net"), 403),
        (with_length(b"").replace(b"http://localhost:8025", b"https://mail.example.net"), 403),
    ],
    ids=["a browser", "nginx", "the public name", "the public origin"],
)
def test_a_proxy_that_says_nothing_is_no_browser_on_this_machine(server, asked, refused):
    assert status(Client(server).say(asked)) == refused


def test_another_host_name_is_not_served(server):
    answer = Client(server).say(GET.replace(b"localhost", b"rebound.example"))
    assert status(answer) == 421
    assert ANNA.encode() not in answer
