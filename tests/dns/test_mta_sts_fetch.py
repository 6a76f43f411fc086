"""MTA-STS policies are fetched from a real HTTPS server on loopback."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from twisted.internet import ssl
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from postoffice.dns import mta_sts_fetch
from postoffice.dns.mta_sts_fetch import PolicyFetcher, PolicyUnavailable
from postoffice.dns.resolver import Resolver
from postoffice.outbound.mail_hosts import HostRules
from postoffice.outbound.mta_sts import MOST, Policy
from tests.authority import Authority
from tests.nameserver import fails

TEXT = b"version: STSv1\nmode: enforce\nmx: mx.d.example\nmax_age: 86400\n"


class Host(Resource):
    """Sends ``text`` as ``kind`` with ``code``; nothing if it is None."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.text, self.kind, self.code, self.fields = TEXT, b"text/plain", 200, {}
        self.asked = []

    def render_GET(self, request):
        self.asked.append((request.getRequestHostname(), request.uri))
        request.setResponseCode(self.code)
        if self.kind is not None:
            request.setHeader(b"content-type", self.kind)
        for name, value in self.fields.items():
            request.setHeader(name, value)
        if self.text is None:
            request.write(b"version")
            return NOT_DONE_YET
        return self.text


@pytest.fixture(autouse=True)
def _one_reactor(monkeypatch, loop):
    """Twisted's TLS takes its timer from the reactor of the process; here that never turns."""
    monkeypatch.setattr("twisted.protocols.tls._get_default_clock", lambda: loop.reactor)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def listen(loop, authority, host):
    ports = []

    def begin(*names, days=1.0, by=authority):
        file = str(by.certify(*names, days=days))
        options = ssl.DefaultOpenSSLContextFactory(file, file)
        ports.append(loop.reactor.listenSSL(0, Site(host), options, interface="127.0.0.1"))
        return ports[-1].getHost().port

    yield begin
    for port in ports:
        loop.wait(_stopped(port))


async def _stopped(port):
    await port.stopListening()


@pytest.fixture
def fetcher(loop, clock, nameserver, authority):
    nameserver.zone["mta-sts.d.example", "A"] = ["127.0.0.1"]
    resolver = Resolver(loop.reactor, [nameserver.server], clock=clock)
    loopback = HostRules(allowed=[ip_network("127.0.0.0/8")])

    def make(port, usable=loopback.usable, ca=str(authority.path)):
        return PolicyFetcher(loop.reactor, resolver.ask, usable, clock=clock, ca=ca, port=port)

    return make


def failure(loop, fetcher):
    with pytest.raises(PolicyUnavailable) as caught:
        loop.wait(fetcher.fetch("d.example", "7"))
    return str(caught.value)


def test_a_policy_is_fetched(loop, listen, fetcher, host):
    made = fetcher(listen("mta-sts.d.example"))
    expected = Policy("enforce", ("mx.d.example",), 86400, "7")
    assert loop.wait(made.fetch("d.example", "7")) == expected
    assert host.asked == [(b"mta-sts.d.example", b"/.well-known/mta-sts.txt")]


def test_its_type_may_name_a_charset(loop, listen, fetcher, host):
    host.kind = b"Text/Plain; charset=utf-8"
    assert loop.wait(fetcher(listen("mta-sts.d.example")).fetch("d.example", "7"))


@pytest.mark.parametrize("code", [301, 302, 307, 308, 404, 500])
def test_only_200_counts_and_redirects_are_not_followed(loop, listen, fetcher, host, code):
    host.code = code
    port = listen("mta-sts.d.example")
    host.fields = {b"location": b"https://mta-sts.d.example:%d/other" % port}
    assert failure(loop, fetcher(port)) == f"HTTP status {code}"
    assert len(host.asked) == 1


@pytest.mark.parametrize("kind", [b"text/html", b"application/octet-stream"])
def test_other_types(loop, listen, fetcher, host, kind):
    host.kind = kind
    assert "not text/plain" in failure(loop, fetcher(listen("mta-sts.d.example")))


def test_what_is_no_policy(loop, listen, fetcher, host):
    host.text = b"hello: world"
    assert "cannot be read: its version" in failure(loop, fetcher(listen("mta-sts.d.example")))


@pytest.mark.parametrize("size", [MOST + 1, 1 << 20])
def test_too_long(loop, listen, fetcher, host, size):
    host.text = TEXT + b"x: " + b"y" * size
    why = failure(loop, fetcher(listen("mta-sts.d.example")))
    assert "over" in why or "Connection" in why


def test_too_many_fields(loop, listen, fetcher, host):
    host.fields = {b"x-%d" % n: b"y" * 1000 for n in range(200)}
    failure(loop, fetcher(listen("mta-sts.d.example")))


def test_the_certificate_has_to_be_for_the_name(loop, listen, fetcher, host):
    why = failure(loop, fetcher(listen("d.example")))
    assert "VerificationError" in why
    assert not host.asked


def test_an_expired_certificate(loop, listen, fetcher, host):
    why = failure(loop, fetcher(listen("mta-sts.d.example", days=-1)))
    assert "certificate verify failed" in why
    assert not host.asked


def test_an_authority_that_is_not_trusted(loop, listen, fetcher, host, tmp_path):
    (tmp_path / "other").mkdir()
    port = listen("mta-sts.d.example", by=Authority(tmp_path / "other"))
    assert "certificate verify failed" in failure(loop, fetcher(port))
    assert "certificate verify failed" in failure(loop, fetcher(port, ca=None))
    assert not host.asked


def test_an_authority_of_ours_is_trusted_beside_those_of_the_system(
    loop, listen, fetcher, tmp_path, monkeypatch
):
    (tmp_path / "system").mkdir()
    system = Authority(tmp_path / "system")
    monkeypatch.setenv("SSL_CERT_FILE", str(system.path))
    made = fetcher(listen("mta-sts.d.example", by=system))
    assert loop.wait(made.fetch("d.example", "7"))


def test_a_slow_server(loop, clock, listen, fetcher, host):
    host.text = None
    fetching = loop.start(fetcher(listen("mta-sts.d.example")).fetch("d.example", "7"))
    loop.until(lambda: host.asked)
    clock.advance(mta_sts_fetch.LIMIT)
    loop.until(lambda: fetching)
    with pytest.raises(PolicyUnavailable, match="timed out"):
        loop.result(fetching)


def test_the_second_address_gets_no_more_time(loop, clock, listen, fetcher, host, nameserver):
    nameserver.zone["mta-sts.d.example", "A"] = ["127.0.0.1", "127.0.0.1"]
    nameserver.zone["mta-sts.d.example", "AAAA"] = ["::1"]
    host.text = None
    made = fetcher(listen("mta-sts.d.example"), lambda address: True)
    fetching = loop.start(made.fetch("d.example", "7"))
    loop.until(lambda: host.asked)
    clock.advance(mta_sts_fetch.LIMIT)
    loop.until(lambda: fetching)
    assert "timed out" in str(fetching[0].value)
    assert len(host.asked) == 1


def test_the_networks_beside_us_are_not_asked(loop, listen, fetcher, host):
    made = fetcher(listen("mta-sts.d.example"), HostRules().usable)
    assert failure(loop, made) == "mta-sts.d.example has no usable address"
    assert not host.asked


def test_nobody_listens(loop, listen, fetcher, nameserver):
    made = fetcher(1)
    assert "ConnectionRefused" in failure(loop, made)


def test_the_second_address_is_tried(loop, listen, fetcher, nameserver):
    nameserver.zone["mta-sts.d.example", "A"] = ["127.0.0.9", "127.0.0.1"]
    assert loop.wait(fetcher(listen("mta-sts.d.example")).fetch("d.example", "7"))


def test_a_host_that_cannot_be_looked_up(loop, fetcher, nameserver):
    nameserver.zone["mta-sts.d.example", "A"] = fails("SERVFAIL")
    assert "SERVFAIL" in failure(loop, fetcher(1))
