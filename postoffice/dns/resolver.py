"""Looks up names in the DNS: asks the servers in turn, and caches what they say."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path

from dns.name import Name
from dns.rdatatype import RdataType
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from postoffice.dns.responses import Reading, query, read, wire_name
from postoffice.dns.transport import DNSServer, TimedOut, exchange
from postoffice.model.dns_answer import Answer, DNSUnavailable, NoSuchName, Outcome
from postoffice.util.cache import Cache
from postoffice.util.reactor import IReactor
from postoffice.util.shared_work import SharedWork

#: Seconds to wait for each server, in each round.
ROUNDS = (2, 4, 8)
#: Seconds for a lookup in all.
LIMIT = 30
#: Aliases (CNAME) that are followed.
ALIASES = 8
#: Lookups at the same time, each of which has a socket; so many more wait.
OPEN, WAITING = 500, 5000
#: Seconds for which an answer is cached: its time to live, but at least and at most these; a
#: negative answer at most an hour (RFC 2308 §5); a failure.
SHORTEST, LONGEST, LONGEST_NEGATIVE, FAILED = 30, 86400, 3600, 15
#: About how many octets of memory the cache takes.
CACHE = 16 << 20
#: Seconds after which /etc/resolv.conf is read again.
REREAD = 60
RESOLV_CONF = "/etc/resolv.conf"

#: An outcome or why there is none, and its size in the cache.
_Kept = tuple[Outcome | str, int]


class Resolver:
    """
    Looks up records over ``servers``, or those that /etc/resolv.conf names.

    Lookups of the same name and type share one query.  A server's word that an answer is
    secure (AD) counts if it is on this machine, or with ``trust_ad``.
    """

    log = Logger("postoffice")

    def __init__(
        self,
        reactor: IReactor,
        servers: Sequence[tuple[str, int]] = (),
        *,
        clock: IReactorTime | None = None,
        trust_ad: bool = False,
        resolv_conf: str = RESOLV_CONF,
    ) -> None:
        self._reactor = reactor
        self._clock: IReactorTime = clock or reactor
        self._trust_ad = trust_ad
        self._resolv_conf = None if servers else resolv_conf
        self._read_at: float | None = None
        self._servers = self._made(servers)
        self._cache: Cache[tuple[str, str], _Kept] = Cache(
            CACHE, self._clock.seconds, weigh=itemgetter(1)
        )
        self._asked: SharedWork[tuple[str, str], _Kept] = SharedWork()
        self._turns = DeferredSemaphore(OPEN)

    async def ask(self, name: str, kind: str) -> Outcome:
        """
        Look up the records of a type ("MX").  Raises DNSUnavailable.

        The name is absolute, and in ASCII (A-labels).
        """
        key = name.lower().rstrip("."), kind
        kept = self._cache.get(key)
        if kept is None and len(self._asked) >= OPEN + WAITING and key not in self._asked:
            raise DNSUnavailable("too many lookups at the same time")
        if kept is None:
            kept = await self._asked.get(key, partial(self._begin, key))
        outcome, _ = kept
        if isinstance(outcome, str):
            raise DNSUnavailable(outcome)
        return outcome

    def stop(self) -> None:
        """End all lookups: they fail."""
        self._asked.cancel()

    def _begin(self, key: tuple[str, str]) -> Deferred[_Kept]:
        """Begin the lookup of this name and type; it always ends with a value."""
        asked = Deferred.fromCoroutine(self._looked_up(*key))
        return asked.addTimeout(LIMIT, self._clock).addErrback(_ended, key)

    async def _looked_up(self, name: str, kind: str) -> _Kept:
        outcome: Outcome | str
        wire = wire_name(name)
        if wire is None:
            return NoSuchName(name), 0
        await self._turns.acquire()
        try:
            outcome, seconds = await self._follow(wire, RdataType.make(kind))
        except DNSUnavailable as failure:
            outcome, seconds = f"{name} {kind}: {failure}", FAILED
        except CancelledError:
            raise
        except Exception:
            self.log.failure("looking up {name} {kind} failed", name=name, kind=kind)
            outcome, seconds = f"{name} {kind}: failed", FAILED
        finally:
            self._turns.release()
        kept = outcome, _weight(outcome)
        self._cache.set((name, kind), kept, seconds)
        return kept

    async def _follow(self, name: Name, kind: RdataType) -> tuple[Outcome, float]:
        """Look up records, following aliases; return also for how many seconds to cache them."""
        ttl, secure, aliases = LONGEST, True, 0
        while aliases <= ALIASES:
            reading = await self._query(name, kind)
            ttl, aliases, name = min(ttl, reading.ttl), aliases + reading.aliases, reading.name
            secure = secure and reading.secure
            if reading.outcome is not None and aliases <= ALIASES:
                if not isinstance(reading.outcome, Answer):
                    ttl = min(ttl, LONGEST_NEGATIVE)
                return replace(reading.outcome, secure=secure), max(ttl, SHORTEST)
        raise DNSUnavailable(f"more than {ALIASES} aliases (CNAME)")

    async def _query(self, name: Name, kind: RdataType) -> Reading:
        """Ask the servers in turn; one that timed out is asked again, one that failed is not."""
        servers, failures = list(self._current()), []
        for seconds in ROUNDS:
            for server in list(servers):
                sent = query(name, kind, secrets.randbits(16))
                try:
                    response = await exchange(self._reactor, self._clock, server, sent, seconds)
                    return read(response, server.trusted)
                except TimedOut as failure:
                    self._put_last(server)
                    failures.append(f"{server.address} {failure}")
                except DNSUnavailable as failure:
                    servers.remove(server)
                    failures.append(f"{server.address} {failure}")
        raise DNSUnavailable(", ".join(failures))

    def _current(self) -> list[DNSServer]:
        """The servers, those that answered first; the system's are read again now and then."""
        now = self._clock.seconds()
        if self._resolv_conf and (self._read_at is None or now - self._read_at >= REREAD):
            self._read_at = now
            found = self._made([(address, 53) for address in nameservers(self._resolv_conf)])
            if set(found) != set(self._servers):
                self._servers = found
        return self._servers

    def _put_last(self, server: DNSServer) -> None:
        if server in self._servers:
            self._servers.remove(server)
            self._servers.append(server)

    def _made(self, servers: Sequence[tuple[str, int]]) -> list[DNSServer]:
        return [
            DNSServer(host, port, self._trust_ad or ipaddress.ip_address(host).is_loopback)
            for host, port in servers
        ]


def _ended(_: object, key: tuple[str, str]) -> _Kept:
    return f"{' '.join(key)}: timed out, or the resolver stopped", 0


def nameservers(path: str) -> list[str]:
    """The addresses of the servers in a file as resolv.conf(5); without any, this machine."""
    found = []
    with suppress(OSError, UnicodeError):
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            match line.split():
                case ["nameserver", address, *_]:
                    with suppress(ValueError):
                        found.append(str(ipaddress.ip_address(address)))
    return found[:3] or ["127.0.0.1"]


def _weight(outcome: Outcome | str) -> int:
    """About how many octets an outcome takes in the cache."""
    return 500 + (sum(len(str(one)) + 100 for one in getattr(outcome, "records", ())))
