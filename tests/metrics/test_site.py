"""The pages for monitoring, without a port: health, and how often a scrape is rendered."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from postoffice.metrics.site import FRESH, TIMEOUT, MonitoringFactory


class Site:
    def __init__(self) -> None:
        self.clock, self.ready, self.rendered = Clock(), False, 0
        self.factory = MonitoringFactory(self._text, b"text/plain", lambda: self.ready, self.clock)

    def _text(self) -> bytes:
        self.rendered += 1
        return b"metrics\n"

    def connect(self):
        connection = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        transport = StringTransport()
        connection.makeConnection(transport)
        return connection, transport

    def get(self, path: str) -> bytes:
        connection, transport = self.connect()
        connection.dataReceived(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return transport.value()


@pytest.fixture
def site():
    return Site()


def test_it_lives_before_it_is_ready(site):
    assert site.get("/live").startswith(b"HTTP/1.1 200 ")
    assert site.get("/ready").startswith(b"HTTP/1.1 503 ")
    site.ready = True
    assert site.get("/ready").startswith(b"HTTP/1.1 200 ")


def test_a_scrape_is_rendered_once_a_second(site):
    for _ in range(3):
        assert site.get("/metrics").endswith(b"metrics\n")
    assert site.rendered == 1
    site.clock.advance(FRESH)
    site.get("/metrics")
    assert site.rendered == 2


def test_a_silent_client_is_disconnected(site):
    _, transport = site.connect()
    site.clock.advance(TIMEOUT + 1)
    assert transport.disconnecting or transport.disconnected
