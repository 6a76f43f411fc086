"""Greylisting: an unknown client gets a temporary error; spam software often does not retry."""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from postoffice.interfaces import Executor, IPolicy, Opinion
from postoffice.model.envelope import Envelope, Recipient
from postoffice.model.reply import Reply
from postoffice.policy.common import PolicyBase, is_for_the_postmaster
from postoffice.policy.greylist_db import Triplets
from postoffice.util.networks import network_of
from postoffice.util.periodic import Periodic
from postoffice.util.serial_executor import SerialExecutor

#: Seconds between two removals of old triplets.
CLEARING = 86400.0
#: An IPv4 network of this size counts as one client: large senders retry from a neighbour.
IPV4_BITS = 24


@implementer(IPolicy)
class GreylistPolicy(PolicyBase):
    """
    Looks up the triplet of client network, sender and recipient at RCPT.

    ``clock`` has timers; ``now`` returns Unix time, which goes on over a restart.
    """

    log = Logger()
    stages = ("recipient",)

    def __init__(
        self,
        triplets: Triplets,
        executor: Executor,
        clock: IReactorTime,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._triplets = triplets
        self._executor = SerialExecutor(executor)
        self._now = now
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
        network = network_of(envelope.client.address, IPV4_BITS)
        left = await self._executor.run(
            self._triplets.wait, network, sender, recipient.account.address, self._now()
        )
        if not left:
            return None
        return Reply(451, "4.7.1", f"You are new here; come again in {round(left) or 1} s")

    async def _clear(self) -> bool:
        return await self._executor.run(self._triplets.sweep, self._now())

    def _not_cleared(self, why: Failure) -> None:
        self.log.failure("removing old entries of the greylist failed", failure=why)
