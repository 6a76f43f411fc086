"""DNS block lists (RFC 5782)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from zope.interface import implementer

from postoffice.interfaces import Fields, IPolicy, Opinion
from postoffice.model.dns_answer import Answer, Ask, DNSUnavailable, IResolver
from postoffice.model.envelope import Envelope, Recipient, SessionInfo
from postoffice.model.errors import TemporaryFailure
from postoffice.model.reply import Reply
from postoffice.policy.common import PolicyBase, is_for_the_postmaster
from postoffice.util.networks import Network, within

#: Answers of lists that refuse our lookups (RFC 5782 §2.3; Spamhaus and others).
REFUSALS = ipaddress.ip_network("127.255.255.0/24")
_LISTED = ipaddress.ip_network("127.0.0.0/8")
#: Whether a client is listed, or why this is unknown.
Listed = bool | str


@dataclass(frozen=True)
class Zone:
    """A block list: its domain, and the answers that mean "listed"; empty: all answers."""

    name: str
    answers: frozenset[str] = frozenset()

    def counts(self, answer: str) -> bool:
        """Whether an answer means that the client is listed."""
        if self.answers:
            return answer in self.answers
        return ipaddress.ip_address(answer) in _LISTED


class ZoneLookup:
    """Looks up clients in the zones; the resolver caches, and shares lookups in progress."""

    def __init__(self, zones: Sequence[Zone], ask: Ask) -> None:
        self._zones = tuple(zones)
        self._ask = ask

    def begin(self, address: str) -> None:
        """Start the lookups, without waiting for them."""
        for zone in self._zones:
            self._listed(zone, address)

    async def listed(self, address: str) -> str | None:
        """The first zone that answers that it lists a client, or None.  Raises TemporaryFailure."""
        return await _verdict([(zone.name, self._listed(zone, address)) for zone in self._zones])

    def _listed(self, zone: Zone, address: str) -> Deferred[Listed]:
        return Deferred.fromCoroutine(self._look_up(zone, f"{reverse(address)}.{zone.name}"))

    async def _look_up(self, zone: Zone, name: str) -> Listed:
        try:
            outcome = await self._ask(name, "A")
        except DNSUnavailable as failure:
            return str(failure)
        if not isinstance(outcome, Answer):
            return False
        if any(ipaddress.ip_address(answer) in REFUSALS for answer in outcome.records):
            return "the list refuses our lookups"
        return any(zone.counts(answer) for answer in outcome.records)


def _verdict(asked: Sequence[tuple[str, Deferred[Listed]]]) -> Deferred[str | None]:
    """
    Fire with the first zone that lists the client, or with None when no zone does.

    Other sessions wait for the same answers, so cancelling this does not cancel them.
    """
    verdict: Deferred[str | None] = Deferred(lambda _: None)
    waiting = len(asked)
    wrong: list[str] = []

    def heard(answer: Listed, zone: str) -> Listed:
        nonlocal waiting
        waiting -= 1
        if isinstance(answer, str):
            wrong.append(f"{zone}: {answer}")
        if verdict.called:
            return answer
        if answer is True:
            verdict.callback(zone)
        elif not waiting and wrong:
            verdict.errback(TemporaryFailure("; ".join(wrong)))
        elif not waiting:
            verdict.callback(None)
        return answer

    for zone, answer in asked:
        answer.addCallback(heard, zone)
    return verdict


def reverse(address: str) -> str:
    """The labels of an address in reverse: IPv4 octets, IPv6 nibbles (RFC 5782 §2)."""
    found = ipaddress.ip_address(address)
    return found.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


@implementer(IPolicy)
class DNSBLPolicy(PolicyBase):
    """
    Refuses listed clients, or tags their messages.

    The lookup starts when the client connects.  The answer is used at RCPT, so that a
    refused sender can still write to the postmaster.
    """

    stages = ("connect", "recipient")

    def __init__(
        self,
        zones: Sequence[Zone],
        resolver: IResolver,
        *,
        tag: bool = False,
        exempt: Sequence[Network] = (),
    ) -> None:
        self._resolver = resolver
        self._tag = tag
        self._exempt = tuple(exempt)
        self._lists = ZoneLookup(zones, resolver.ask)

    async def stop(self) -> None:
        self._resolver.stop()

    async def connect(self, session_info: SessionInfo) -> Opinion:
        if self._concerns(session_info.client.address):
            self._lists.begin(session_info.client.address)
        return None

    async def recipient(self, envelope: Envelope, recipient: Recipient) -> Opinion:
        address = envelope.client.address
        if not self._concerns(address) or is_for_the_postmaster(recipient):
            return None
        zone = await self._lists.listed(address)
        if zone is None:
            return None
        if self._tag:
            field = f"X-DNSBL: {zone}\r\n".encode()
            return None if field in envelope.fields else Fields(field)
        return Reply(554, "5.7.1", f"{address} is on the list {zone}; ask there")

    def _concerns(self, address: str) -> bool:
        """Whether to look up this client: it has a public address, and is not exempt."""
        if not address:
            return False
        return ipaddress.ip_address(address).is_global and not within(address, self._exempt)
