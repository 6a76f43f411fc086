"""DNS block lists (RFC 5782)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.names import dns
from twisted.names.error import AuthoritativeDomainError, DNSNameError
from twisted.python.failure import Failure
from zope.interface import implementer

from postoffice.interfaces import Fields, IPolicy, Opinion
from postoffice.model.envelope import Envelope, Recipient, SessionInfo
from postoffice.model.errors import TemporaryFailure
from postoffice.model.reply import Reply
from postoffice.policy.common import PolicyBase, is_for_the_postmaster
from postoffice.util.cache import Cache
from postoffice.util.networks import Network, within

#: Seconds for which an answer is cached: its time to live, within these limits.
SHORTEST, LONGEST = 60, 86400
#: Seconds for which it is cached that a client is not listed, and that a lookup failed.
NOT_LISTED = 300
FAILED = 60
#: How many answers are cached.
REMEMBERED = 20_000
#: Lookups at the same time; each holds a socket.
OPEN = 500
#: Answers of lists that refuse our lookups (RFC 5782 §2.3; Spamhaus and others).
REFUSALS = ipaddress.ip_network("127.255.255.0/24")
_LISTED = ipaddress.ip_network("127.0.0.0/8")
#: Whether a client is listed, or why this is unknown.
Answer = bool | str


class Resolver(Protocol):
    """What we use of a resolver of twisted.names."""

    def lookupAddress(
        self, name: str, timeout: Sequence[int]
    ) -> Deferred[tuple[Sequence[Any], ...]]: ...


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
    """Looks up clients in the zones; answers are cached, and a lookup in progress is shared."""

    def __init__(
        self, zones: Sequence[Zone], resolver: Resolver, clock: Callable[[], float]
    ) -> None:
        self._zones = tuple(zones)
        self._resolver = resolver
        self._known: Cache[tuple[Zone, str], Answer] = Cache(REMEMBERED, clock)
        self._asked: dict[tuple[Zone, str], Deferred[Answer]] = {}

    def begin(self, address: str) -> None:
        """Start the lookups, without waiting for them."""
        for zone in self._zones:
            self._listed(zone, address)

    async def listed(self, address: str) -> str | None:
        """The first zone that answers that it lists a client, or None.  Raises TemporaryFailure."""
        return await _verdict([(zone.name, self._listed(zone, address)) for zone in self._zones])

    def _listed(self, zone: Zone, address: str) -> Deferred[Answer]:
        key = zone, address
        known = self._known.get(key)
        if known is not None:
            return succeed(known)
        if key not in self._asked:
            if len(self._asked) >= OPEN:
                return succeed("too many lookups at the same time")
            asked = self._asked[key] = Deferred.fromCoroutine(self._ask(zone, address))
            return asked.addBoth(self._answered, key)
        return self._asked[key]

    def _answered(self, outcome: Answer | Failure, key: tuple[Zone, str]) -> Answer | Failure:
        self._asked.pop(key, None)
        return outcome

    async def _ask(self, zone: Zone, address: str) -> Answer:
        seconds, answer = await self._look_up(zone, f"{reverse(address)}.{zone.name}")
        self._known.set((zone, address), answer, seconds)
        return answer

    async def _look_up(self, zone: Zone, name: str) -> tuple[float, Answer]:
        """The answer, and the seconds for which it is cached."""
        try:
            answers, _, _ = await self._resolver.lookupAddress(name, timeout=(2, 3, 4))
        except (DNSNameError, AuthoritativeDomainError):
            return NOT_LISTED, False
        except Exception as error:
            return FAILED, f"{type(error).__name__} for {name}"
        found = [
            (record.payload.dottedQuad(), record.ttl or 0)
            for record in answers
            if record.type == dns.A
        ]
        if any(ipaddress.ip_address(answer) in REFUSALS for answer, _ in found):
            return FAILED, "the list refuses our lookups"
        listed = any(zone.counts(answer) for answer, _ in found)
        lifetime = min((ttl for _, ttl in found), default=NOT_LISTED)
        return min(max(lifetime, SHORTEST), LONGEST), listed


def _verdict(asked: Sequence[tuple[str, Deferred[Answer]]]) -> Deferred[str | None]:
    """
    Fire with the first zone that lists the client, or with None when no zone does.

    Other sessions wait for the same answers, so cancelling this does not cancel them.
    """
    verdict: Deferred[str | None] = Deferred(lambda _: None)
    waiting = len(asked)
    wrong: list[str] = []

    def heard(answer: Answer, zone: str) -> Answer:
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
        make_resolver: Callable[[], Resolver],
        clock: Callable[[], float],
        *,
        tag: bool = False,
        exempt: Sequence[Network] = (),
    ) -> None:
        self._zones = zones
        self._make_resolver = make_resolver
        self._clock = clock
        self._tag = tag
        self._exempt = tuple(exempt)
        self._lists: ZoneLookup | None = None

    async def start(self) -> None:
        self._lists = ZoneLookup(self._zones, self._make_resolver(), self._clock)

    async def stop(self) -> None:
        self._lists = None

    async def connect(self, session_info: SessionInfo) -> Opinion:
        if self._lists is not None and self._concerns(session_info.client.address):
            self._lists.begin(session_info.client.address)
        return None

    async def recipient(self, envelope: Envelope, recipient: Recipient) -> Opinion:
        address = envelope.client.address
        if self._lists is None or not self._concerns(address) or is_for_the_postmaster(recipient):
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
