"""Greylisting: an unknown client gets a temporary error; spam software often does not retry."""

from __future__ import annotations

import ipaddress
import time
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from postoffice.interfaces import Executor, IPolicy, Opinion
from postoffice.model.envelope import Envelope, Recipient
from postoffice.model.reply import Reply
from postoffice.policy.common import Quiet, is_for_the_postmaster
from postoffice.policy.triplets import Triplets
from postoffice.util.periodic import Periodic

#: Seconds between two clearings of what is too old.
CLEARING = 86400.0


@implementer(IPolicy)
class GreylistPolicy(Quiet):
    """
    Asks the triplets at RCPT: the client's network, the sender, the recipient.

    The network is an IPv4 /24 or an IPv6 /64: large senders come back from a
    neighbour.  ``clock`` (IReactorTime) rings; the time of day, which outlives
    a restart, comes from ``now``.
    """

    log = Logger()
    stages = ("recipient",)

    def __init__(self, triplets: Triplets, executor: Executor, clock: Any, now: Any = None) -> None:
        self._triplets = triplets
        self._executor = executor
        self._now = now or time.time
        self._turn = DeferredLock()  # a database that is locked holds one thread, not all
        self._clearing = Periodic(clock, CLEARING, self._clear, self._not_cleared)

    async def start(self) -> None:
        await self._executor.run(self._triplets.open)
        self._clearing.start()

    async def stop(self) -> None:
        await self._clearing.stop()
        await self._executor.run(self._triplets.close)

    async def recipient(self, envelope: Envelope, recipient: Recipient) -> Opinion:
        if envelope.client.local or envelope.login or is_for_the_postmaster(recipient):
            return None
        sender = "" if envelope.sender is None else envelope.sender.normal
        network = network_of(envelope.client.address)
        left = await self._wait(network, sender, recipient.account.address)
        if not left:
            return None
        return Reply(451, "4.7.1", f"You are new here; come again in {round(left) or 1} s")

    async def _wait(self, *triplet: str) -> float:
        """Ask when it is our turn, which is over when the thread is done, not when we give up."""
        await self._turn.acquire()
        waiting: Deferred[float] = Deferred(lambda _: None)

        def asked(outcome: Any) -> None:
            self._turn.release()
            if not waiting.called:
                waiting.callback(outcome)

        Deferred.fromCoroutine(self._ask(*triplet)).addBoth(asked)
        return await waiting

    async def _ask(self, network: str, sender: str, recipient: str) -> float:
        wait = self._triplets.wait
        return await self._executor.run(wait, network, sender, recipient, self._now())

    async def _clear(self) -> bool:
        return await self._executor.run(self._triplets.sweep, self._now())

    def _not_cleared(self, why: Failure) -> None:
        self.log.failure("clearing the greylist", failure=why)


def network_of(address: str) -> str:
    """The IPv4 /24 or IPv6 /64 of an address."""
    found = ipaddress.ip_address(address)
    return str(ipaddress.ip_network((found, 24 if found.version == 4 else 64), strict=False))
