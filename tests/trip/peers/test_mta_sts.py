"""MTA-STS, from the policy's web server to Postfix: the whole office."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.trip.peers.conftest import address
from tests.trip.peers.test_postfix import TEXT, text_of

WEB = "11.0.3.1"
#: What each domain's policy says, and the host that its MX record names.
POLICIES = {
    "enforced.example": ("enforce", "mx.right.example", "mx.right.example"),
    "starred.example": ("enforce", "*.right.example", "mx.right.example"),
    "tested.example": ("testing", "mx.else.example", "mx.plain.example"),
    "unnamed.example": ("enforce", "mx.else.example", "mx.right.example"),
    "uncertified.example": ("enforce", "mx.wrong.example", "mx.wrong.example"),
    "unencrypted.example": ("enforce", "mx.plain.example", "mx.plain.example"),
}


class Policies(BaseHTTPRequestHandler):
    """Says the policy of the host that it is asked for."""

    def do_GET(self) -> None:
        mode, named, _ = POLICIES[self.headers["Host"].removeprefix("mta-sts.")]
        text = f"version: STSv1\r\nmode: {mode}\r\nmx: {named}\r\nmax_age: 86400\r\n"
        self.send_response(200 if self.path == "/.well-known/mta-sts.txt" else 404)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def _policies(network, zone, authority):
    yield from network.within(_web(zone, authority.certify))


def _web(zone: dict, certify: Callable):
    for domain, (_, _, host) in POLICIES.items():
        zone[domain, "MX"] = [f"10 {host}."]
        zone[f"_mta-sts.{domain}", "TXT"] = ['"v=STSv1; id=1"']
        zone[f"mta-sts.{domain}", "A"] = [WEB]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certify(*(f"mta-sts.{domain}" for domain in POLICIES)))
    server = ThreadingHTTPServer((WEB, 443), Policies)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "by", "tls"),
    [("enforced", "right", True), ("starred", "right", True), ("tested", "plain", False)],
)
def test_mail_is_sent(office, postfix, submit, name, by, tls):
    to = f"joe@{name}.example"
    submit(TEXT, to)
    if name == "tested":
        office.wait_for(r" policy-tested .*to=tested.example .*mx.plain.example is not in")
    sent = office.wait_for(rf" sent .*to=<{to}> .*").string
    assert f"[{address(by)}]" in sent
    assert ("tls=" in sent) is tls
    assert text_of(*postfix.received(to)) == TEXT


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("unnamed", "451 4.7.5 .*policy, which is enforced"),
        ("uncertified", "certificate is not for mx.wrong.example"),
        ("unencrypted", "does not offer TLS"),
    ],
)
def test_mail_waits(office, postfix, submit, ann, name, why):
    submit(TEXT, f"joe@{name}.example")
    office.wait_for(rf" deferred .*to=<joe@{name}.example> .*{why}")
    assert postfix.kept(f"joe@{name}.example") == []
    assert office.collect(ann) == []
