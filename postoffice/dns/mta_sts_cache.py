"""Looks up, fetches, caches and refreshes MTA-STS policies (RFC 8461)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from postoffice.dns.mta_sts_db import PolicyDB, StoredPolicy
from postoffice.dns.mta_sts_fetch import PolicyUnavailable
from postoffice.interfaces import Executor
from postoffice.model import log_events
from postoffice.model.address import NotAnAddress, normal_domain
from postoffice.model.dns_answer import Answer, Ask, DNSUnavailable
from postoffice.model.errors import TemporaryFailure
from postoffice.model.log_event import tell
from postoffice.outbound.mta_sts import Policy, read_records
from postoffice.util.cache import Cache
from postoffice.util.periodic import Periodic
from postoffice.util.serial_executor import SerialExecutor
from postoffice.util.shared_work import SharedWork

#: Seconds after a failed fetch before the next one of the same domain.
FAILED = 300
#: Every so many seconds, so many policies are refreshed at most.
REFRESHING, AT_ONCE = 900, 100
#: Domains whose failed fetch is remembered.
REMEMBERED = 10_000

#: Fetches the policy of a domain that has this id.  Raises PolicyUnavailable.
Fetch = Callable[[str, str], Awaitable[Policy]]
_Outcome = Policy | TemporaryFailure | None


class PolicyCache:
    """Knows the policies of domains; ``now`` is Unix time."""

    log = Logger("postoffice")

    def __init__(
        self,
        ask: Ask,
        fetch: Fetch,
        database: PolicyDB,
        executor: Executor,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._fetch = fetch
        self._database = database
        self._executor = SerialExecutor(executor)
        self._now = now
        self._failed: Cache[str, bool] = Cache(REMEMBERED, clock.seconds)
        self._asked: SharedWork[str, _Outcome] = SharedWork()
        self._refreshing = Periodic(clock, REFRESHING, self._refresh, self._not_refreshed)

    async def start(self) -> None:
        """Open the database.  Raises StartupError."""
        await self._executor.run(self._database.open)
        self._refreshing.start()

    async def stop(self) -> None:
        """End what is under way, and close the database."""
        await self._refreshing.stop(cancel=True)
        self._asked.cancel()
        await self._executor.run(self._database.close)

    async def policy(self, domain: str) -> Policy | None:
        """
        The policy that is in force for a domain; None if none is known.

        Raises TemporaryFailure if the database fails, as a policy in it may be in force.
        """
        try:
            domain = normal_domain(domain)
        except NotAnAddress:
            return None
        if domain.startswith("["):
            return None
        outcome = await self._asked.get(domain, partial(self._begin, domain))
        if isinstance(outcome, TemporaryFailure):
            raise outcome
        return outcome

    def _begin(self, domain: str) -> Deferred[_Outcome]:
        """Begin to find the answer; it always ends with a value."""
        return Deferred.fromCoroutine(self._policy(domain)).addErrback(_failed)

    async def _policy(self, domain: str) -> _Outcome:
        published = await self._published(domain)
        now = self._now()
        stored: StoredPolicy | None = await self._executor.run(self._database.use, domain, now)
        if stored is not None and not stored.holds(now):
            stored = None
        known = stored.policy if stored is not None else None
        if published is None or (known is not None and known.id == published):
            return known  # a policy stays in force although its record is gone (RFC 8461 §2)
        if domain in self._failed:
            return known
        return await self._fetched(domain, published, used=True) or known

    async def _published(self, domain: str) -> str | None:
        """The id of the policy that the domain announces now; None if it does not, or DNS fails."""
        try:
            outcome = await self._ask(f"_mta-sts.{domain}", "TXT")
        except DNSUnavailable:
            return None
        return read_records(outcome.records) if isinstance(outcome, Answer) else None

    async def _fetched(self, domain: str, id: str, *, used: bool) -> Policy | None:  # noqa: A002
        """Fetch and keep a policy; None if that fails."""
        try:
            policy = await self._fetch(domain, id)
        except PolicyUnavailable as failure:
            self._failed.set(domain, True, FAILED)
            tell(self.log, log_events.MTA_STS_FAILED, to=domain, why=str(failure))
            return None
        keep = partial(self._database.keep, domain, policy, self._now(), used=used)
        try:
            await self._executor.run(keep)
        except TemporaryFailure as failure:
            tell(self.log, log_events.MTA_STS_FAILED, to=domain, why=str(failure))
        return policy

    async def _refresh(self) -> bool:
        """Fetch policies again after a day, so that none expires while it is used."""
        now = self._now()
        await self._executor.run(self._database.forget, now)
        for domain, known in await self._executor.run(self._database.due, now, AT_ONCE):
            await self._fetched(domain, await self._published(domain) or known, used=False)
        return False

    def _not_refreshed(self, why: Failure) -> None:
        self.log.failure("refreshing MTA-STS policies failed", why)


def _failed(why: Failure) -> TemporaryFailure:
    """Turn a failure into a value, for all who wait."""
    if isinstance(why.value, TemporaryFailure):
        return why.value
    if not isinstance(why.value, CancelledError):
        PolicyCache.log.failure("looking up an MTA-STS policy failed", why)
    return TemporaryFailure(f"looking up the MTA-STS policy failed: {type(why.value).__name__}")
