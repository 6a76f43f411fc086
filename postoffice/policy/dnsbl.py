"""DNS block lists (RFC 5782)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.names import dns
from twisted.names.error import AuthoritativeDomainError, DNSNameError
from zope.interface import implementer

from postoffice.interfaces import Fields, IPolicy, Opinion
from postoffice.model.envelope import Envelope, Recipient, SessionInfo
from postoffice.model.errors import TemporaryFailure
from postoffice.model.reply import Reply
from postoffice.policy.common import Quiet, is_for_the_postmaster
from postoffice.util.cache import Cache

#: Seconds that an answer is remembered, whatever its own time to live, and that there was none;
#: and how many are.
SHORTEST, LONGEST = 60, 86400
NOT_LISTED = 300
FAILED = 60
REMEMBERED = 20_000
#: Questions that may be open at once; each holds a socket.
OPEN = 500
#: Answers that say that we may not ask, or asked wrongly (RFC 5782 §2.3; Spamhaus and others).
REFUSALS = ipaddress.ip_network("127.255.255.0/24")
_LISTED = ipaddress.ip_network("127.0.0.0/8")
#: Whether a client is listed, or why this is unknown.
Answer = bool | str


@dataclass(frozen=True)
class Zone:
    """A list: its domain, and the answers that count; all, where none are given."""

    name: str
    answers: frozenset[str] = frozenset()

    def counts(self, answer: str) -> bool:
        """Whether an answer says that the client is listed."""
        if self.answers:
            return answer in self.answers
        return ipaddress.ip_address(answer) in _LISTED


class ZoneLookup:
    """Asks the zones, each client once: answers are remembered, and shared while on the way."""

    def __init__(self, zones: Sequence[Zone], resolver: Any, clock: Callable[[], float]) -> None:
        self._zones = tuple(zones)
        self._resolver = resolver
        self._known: Cache[tuple[Zone, str], Answer] = Cache(REMEMBERED, clock)
        self._asked: dict[tuple[Zone, str], Deferred[Answer]] = {}

    def begin(self, address: str) -> None:
        """Ask, and wait for nothing."""
        for zone in self._zones:
            self._listed(zone, address)

    async def listed(self, address: str) -> str | None:
        """The first zone to list a client, or None.  Raises TemporaryFailure."""
        return await _verdict([(zone.name, self._listed(zone, address)) for zone in self._zones])

    def _listed(self, zone: Zone, address: str) -> Deferred[Answer]:
        key = zone, address
        known = self._known.get(key)
        if known is not None:
            return succeed(known)
        if key not in self._asked:
            if len(self._asked) >= OPEN:
                return succeed("too many questions are open")
            asked = self._asked[key] = Deferred.fromCoroutine(self._ask(zone, address))
            return asked.addBoth(self._answered, key)
        return self._asked[key]

    def _answered(self, outcome: Any, key: tuple[Zone, str]) -> Any:
        self._asked.pop(key, None)
        return outcome

    async def _ask(self, zone: Zone, address: str) -> Answer:
        seconds, answer = await self._look_up(zone, f"{reverse(address)}.{zone.name}")
        self._known.set((zone, address), answer, seconds)
        return answer

    async def _look_up(self, zone: Zone, name: str) -> tuple[float, Answer]:
        """The answer, and the seconds for which it is good."""
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
            return FAILED, "it does not let us ask"
        listed = any(zone.counts(answer) for answer, _ in found)
        lifetime = min((ttl for _, ttl in found), default=NOT_LISTED)
        return min(max(lifetime, SHORTEST), LONGEST), listed


def _verdict(asked: Sequence[tuple[str, Deferred[Answer]]]) -> Deferred[str | None]:
    """
    Fires with the first zone that says yes, or when all have said something else.

    Others wait for the same answers, so whoever gives up waiting leaves them alone.
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
    """The labels of an address, backwards: of an IPv4 octets, of an IPv6 nibbles (RFC 5782 §2)."""
    found = ipaddress.ip_address(address)
    return found.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


@implementer(IPolicy)
class DNSBLPolicy(Quiet):
    """
    Refuses clients that are on a list, or tags their messages.

    They are asked about when the client comes; the answer is needed at RCPT
    only, where whoever is refused can still write to the postmaster.
    """

    stages = ("connect", "recipient")

    def __init__(
        self,
        zones: Sequence[Zone],
        make_resolver: Callable[[], Any],
        clock: Callable[[], float],
        *,
        tag: bool = False,
        exempt: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = (),
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
        """Whether the lists can know this client: it is on the public net, and not exempt."""
        if not address:
            return False
        found = ipaddress.ip_address(address)
        return found.is_global and not any(
            found.version == network.version and found in network for network in self._exempt
        )
