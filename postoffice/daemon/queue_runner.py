"""
Runs the queue manager: makes what it needs from the settings, and starts and stops it.

It is imported only where the configuration has ``outbound``.
"""

from __future__ import annotations

import os
import random
import time

from postoffice.config.outbound import OutboundSettings
from postoffice.config.settings import Settings
from postoffice.daemon.generation import Core, Generation
from postoffice.daemon.queue_control import QueueControl
from postoffice.dns.mta_sts_cache import PolicyCache
from postoffice.dns.mta_sts_db import PolicyDB
from postoffice.dns.mta_sts_fetch import PolicyFetcher
from postoffice.dns.mx_lookup import MXLookup
from postoffice.dns.resolver import Resolver
from postoffice.interfaces import IMailQueue, IQueueStore
from postoffice.outbound.mta_sts import Policy
from postoffice.outbound.schedule import Lifetimes
from postoffice.queue.context import QueueContext
from postoffice.queue.manager import QueueManager
from postoffice.server.client_connection import ConnectOptions
from postoffice.server.client_tls import ClientContexts
from postoffice.server.letters import OutboundLetters
from postoffice.server.relay import OutboundRelay
from postoffice.server.sending_notices import SendingNotices
from postoffice.util.networks import local_addresses

#: The file of MTA-STS policies, in the state folder.
POLICIES = "mta-sts.db"


class _Network:
    """How other servers are found and reached, as one reading of the settings says it."""

    def __init__(self, core: Core, settings: Settings, outbound: OutboundSettings) -> None:
        dns = outbound.dns
        self.resolver = Resolver(core.reactor, dns.servers, clock=core.clock, trust_ad=dns.trust_ad)
        rules = outbound.host_rules(settings.hostname, local_addresses())
        self.mx = MXLookup(self.resolver.ask, rules, random.shuffle)
        self.policies = PolicyCache(
            self.resolver.ask,
            PolicyFetcher(core.reactor, self.resolver.ask, rules.usable, ca=outbound.tls.ca).fetch,
            PolicyDB(os.path.join(settings.state, POLICIES)),
            core.threads,
            core.clock,
            time.time,
        )
        source = outbound.source
        self.options = ConnectOptions(
            reactor=core.reactor,
            hostname=settings.hostname,
            sources=(str(source.v4 or ""), str(source.v6 or "")),
            contexts=ClientContexts(outbound.tls.ca),
        )
        self._policies_wanted = outbound.tls.mta_sts

    async def start(self) -> None:
        """Open the database of policies.  Raises StartupError."""
        await self.policies.start()

    async def stop(self) -> None:
        """End all lookups."""
        await self.policies.stop()
        self.resolver.stop()

    async def policy(self, domain: str) -> Policy | None:
        """The MTA-STS policy of a domain, if such policies are asked for."""
        return await self.policies.policy(domain) if self._policies_wanted else None


class QueueRunner:
    """Sends what is in the queue, as the current configuration says; ``manager`` while it does."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._network: _Network | None = None
        self._notices: SendingNotices | None = None
        self._letters: OutboundLetters | None = None
        self.manager: QueueManager | None = None
        self.control = QueueControl()

    async def use(
        self, generation: Generation, outbound: OutboundSettings, store: IQueueStore
    ) -> None:
        """Send as this generation says from now on.  Raises StartupError."""
        settings = generation.settings
        network = _Network(self._core, settings, outbound)
        await network.start()
        await self._limit(generation, outbound)
        waits = outbound.queue
        store.queue.limit(waits.messages, waits.bytes)
        shares = self._core.sending_limits.shares
        shares.limit(waits.messages, waits.bytes, waits.account_share)
        before, self._network = self._network, network
        written, context = self._letters, self._context(generation, outbound, network, store.queue)
        if self.manager is None:
            self.manager = QueueManager(
                settings.state,
                store.queue,
                context,
                executor=self._core.threads,
                clock=self._core.clock,
                now=time.time,
            )
            await self.manager.start()
        else:
            self.manager.use(context)
        if before is not None:
            await before.stop()
        if written is not None:
            await written.finished()

    def _context(
        self,
        generation: Generation,
        outbound: OutboundSettings,
        network: _Network,
        queue: IMailQueue,
    ) -> QueueContext:
        """Return what the queue manager needs to send as this generation says."""
        waits, connections = outbound.queue, outbound.connections
        senders = generation.reception.forward_senders
        assert senders is not None, "the build gives it"
        assert self._notices is not None, "the limits came first"
        lifetimes = Lifetimes(waits.lifetime, waits.bounce_lifetime, waits.warn)
        letters = self._letters = OutboundLetters(
            generation.reception, queue, lifetimes, outbound.forward_failures
        )
        generation.reception.successes.tell = letters.delivered
        if generation.reception.null_mx is not None:
            generation.reception.null_mx.mx = network.mx
        relay = OutboundRelay(
            outbound.router(),
            network.mx,
            outbound.tls.rules(),
            network.policy,
            senders.sender_of,
            network.options,
        )
        return QueueContext(
            relay,
            letters,
            lifetimes,
            connections.destination,
            connections.all,
            self._core.sending_limits.tried,
            self._notices.login_refused,
            self._core.sending_limits.shares,
        )

    async def _limit(self, generation: Generation, outbound: OutboundSettings) -> None:
        """Limit what users send as this generation says.  Raises StartupError."""
        limits = self._core.sending_limits
        if self._notices is None:
            self._notices = SendingNotices(generation.reception)
            limits.tell_owner = self._notices.tell
        self._notices.context = generation.reception
        await limits.start()
        limits.rules = outbound.limits.rules

    async def close(self) -> None:
        """Stop for good; no session submits mail any more."""
        await self.stop()
        await self._core.sending_limits.stop()
        if self._notices is not None:
            await self._notices.finished()
        if self._letters is not None:
            await self._letters.finished()

    async def stop(self) -> None:
        """Let what is being sent end; what waits stays in the queue."""
        manager, self.manager = self.manager, None
        if manager is not None:
            await manager.stop()
        network, self._network = self._network, None
        if network is not None:
            await network.stop()
