"""The relay connects to the hosts of a plan in turn, and in clear only where it may."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from postoffice.interfaces.relay import Plan, Undeliverable
from postoffice.model.hop import ENCRYPT, OPPORTUNISTIC, VERIFY, Hop
from postoffice.server.relay import OutboundRelay
from tests.server.peers import Dialled
from tests.smtp.client_peers import EHLO

OFFERS_TLS = b"250-mx.example.org\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n"
MX = [Hop(host=f"mx{n}.example.org", address=f"192.0.2.{n}") for n in range(1, 5)]


class Relayed(Dialled):
    """An attempt of a relay, with the hosts that it dials in turn."""

    def __init__(self, *hops):
        super().__init__(hops[0])
        self.reactor.tcpClients.clear()
        self.relay = OutboundRelay(None, None, None, None, None, self.options)
        self.hops = hops
        self.again()

    def again(self):
        self.outcome = []
        attempt = Deferred.fromCoroutine(self.relay.connect(Plan("site", self.hops)))
        attempt.addBoth(self.outcome.append)

    def meet(self, *bursts):
        """The host that is dialled now says this, and then the connection is lost."""
        where = self.reactor.tcpClients[0][0]
        self.accept()
        self.hear(*bursts)
        if not self.outcome:
            self.lose()
            self.reactor.tcpClients.pop(0)
        return where


def opportunistic(**how):
    return Hop(**{"host": "mx.example.org", "address": "192.0.2.9"} | how)


def test_a_host_whose_tls_is_broken_is_spoken_to_in_clear_and_remembered():
    relayed = Relayed(opportunistic())
    relayed.meet(b"220 x\r\n", OFFERS_TLS, b"220 Go on\r\n")
    relayed.meet(b"220 x\r\n", OFFERS_TLS)
    assert relayed.connection.usable
    relayed.reactor.tcpClients.clear()
    relayed.again()
    relayed.meet(b"220 x\r\n", OFFERS_TLS)
    assert relayed.connection.usable


@pytest.mark.parametrize(
    "how", [{"level": ENCRYPT}, {"level": VERIFY}, {"login": "joe", "password": "secret word"}]
)
def test_broken_tls_never_leads_to_clear_where_it_matters(how):
    """A password, above all, is not given to those who can break TLS."""
    relayed = Relayed(opportunistic(**how))
    relayed.meet(b"220 x\r\n", OFFERS_TLS, b"220 Go on\r\n")
    assert isinstance(relayed.failed, Undeliverable)
    assert relayed.failed.reply.phase == "tls"
    assert relayed.reactor.tcpClients == []


def test_the_next_host_is_tried_and_two_refusals_are_enough():
    relayed = Relayed(*MX)
    met = [relayed.meet(), relayed.meet(b"554 No\r\n"), relayed.meet(b"450 Not you\r\n")]
    assert met == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert relayed.failed.reply.text == "Not you"
    relayed = Relayed(*MX)
    relayed.meet()
    relayed.meet(b"220 x\r\n", EHLO)
    assert relayed.connection.via == "mx2.example.org[192.0.2.2]:25"
    assert relayed.connection.hop.level == OPPORTUNISTIC


def test_a_refused_login_is_ours_to_mend():
    relayed = Relayed(opportunistic(level="none", login="joe", password="x"))
    relayed.meet(b"220 x\r\n", OFFERS_TLS, b"535 5.7.8 Wrong\r\n")
    assert relayed.failed.reply.ours
    assert not relayed.failed.reply.permanent
